"""Templates for the lines of a family in a format, derived from the output of prometheus_client's encoder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import NamedTuple

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar

from web_prom.exposition.encoding.encoder import EncodeFamilies
from web_prom.text_format import escape_label_value, format_number
from web_prom.upstream.children import CREATED

# It marks the label values in the output of the encoder. No name with this character is made into a
# template, and no encoder changes it in a label value.
_MARK = "\0"


# All characters that an encoder may escape, and those that have a meaning in these templates.
ESCAPING_PROBE = 'a\\b"c\n%s{0}\t\x7f\u00e9\u20ac'


class SampleSchema(NamedTuple):
    """A sample of a child, without the labels of the child.

    Attributes:
        suffix: What follows the name of the family.
        labels: The labels of the sample itself (``le``).
    """

    suffix: str
    labels: tuple[tuple[str, str], ...] = ()


class FamilySchema(NamedTuple):
    """A family without its children.

    Attributes:
        name: The name.
        documentation: The help text.
        type: The type.
        unit: The unit; empty if there is none.
        label_names: The names of the labels.
        samples: The samples of each child, in order.
    """

    name: str
    documentation: str
    type: str
    unit: str
    label_names: tuple[str, ...]
    samples: tuple[SampleSchema, ...]

    def metric(self, label_values: Sequence[str] | None = None, exemplar: Exemplar | None = None) -> Metric:
        """Return the family with one child, or with none if there are no label values.

        The value of each sample is its position in ``samples``.
        """
        metric = Metric(self.name, self.documentation, self.type, self.unit)
        if label_values is not None:
            items = list(zip(self.label_names, label_values, strict=True))
            for position, (suffix, labels) in enumerate(self.samples):
                metric.add_sample(
                    self.name + suffix, dict([*items, *labels]), float(position), exemplar=exemplar
                )
        return metric


class TemplateSection(NamedTuple):
    """Lines below one heading: those of a family, or those of its ``_created`` samples in the text format.

    Attributes:
        heading: The lines that begin with a number sign.
        child_template: The lines of one child. The operator ``%`` is applied to them twice: first with
            label values, then with the values of the samples.
        label_positions: Which labels ``child_template`` takes, in order. The position after the last label
            stands for the creation time.
        value_positions: Which sample values the result takes, in order.
        line_samples: Which sample each line contains, including the creation time.
    """

    heading: bytes
    child_template: str
    label_positions: tuple[int, ...]
    value_positions: tuple[int, ...]
    line_samples: tuple[int, ...]

    def template(self, label_values: Iterable[Sequence[str]], created: Iterable[float]) -> str:
        """Return the lines of some children, as a template that takes the values of their samples.

        Args:
            label_values: The label values of each child.
            created: The creation time of each child.
        """
        # To format one creation time takes as long as everything else in this function.
        times = map(format_number, created) if CREATED in self.child_template else repeat("")
        rows = [(*values, time) for values, time in zip(label_values, times, strict=False)]
        texts = [row[position] for row in rows for position in self.label_positions]
        joined = _MARK.join(texts)
        if joined.count(_MARK) == len(texts) - 1:
            # Escaping all texts in one call takes a tenth of the time, because few of them have to be
            # escaped.
            texts = _escape(joined).split(_MARK)
        else:
            texts = list(map(_escape, texts))
        return self.child_template * len(rows) % tuple(texts)


class FamilyTemplate:
    """The template of a family in a format.

    Attributes:
        heading: The text of the family if it has no children.
        sections: The sections of the family if it has children.
        shows_exemplars: Whether the format contains exemplars of this family.
    """

    def __init__(
        self, schema: FamilySchema, encode: EncodeFamilies, sections: tuple[TemplateSection, ...]
    ) -> None:
        self.heading = encode([schema.metric()])
        self.sections = sections
        self.shows_exemplars = _shows_exemplars(schema, encode)
        self._schema = schema

    @classmethod
    def from_encoder(cls, schema: FamilySchema, encode: EncodeFamilies) -> FamilyTemplate | None:
        """Return the template of a family; None if it cannot be derived from the output of the encoder.

        Raises:
            Exception: What the encoder raises.
        """
        names = (schema.name, schema.unit, *schema.label_names)
        if any(_MARK in name or "\n" in name for name in names):
            return None
        if not schema.samples:
            return cls(schema, encode, ())
        marks = [f"{_MARK}{position}{_MARK}" for position in range(len(schema.label_names))]
        sections = _parse_sections(schema, encode([schema.metric(marks)]).decode("utf-8"))
        template = cls(schema, encode, sections)
        return template if template._matches_encoder(encode) else None

    def exemplar(self, position: int, exemplar: Exemplar, encode: EncodeFamilies) -> str:
        """Return the text that follows the value of a sample with an exemplar.

        Raises:
            Exception: What the encoder raises for an exemplar that it cannot write.
        """
        schema = self._schema._replace(label_names=(), samples=(self._schema.samples[position],))
        without, with_exemplar = encode([schema.metric([])]), encode([schema.metric([], exemplar)])
        return with_exemplar[len(without) - 1 : -1].decode("utf-8")

    def _matches_encoder(self, encode: EncodeFamilies) -> bool:
        """Return whether the text of a child with all special characters is that of the encoder."""
        labels = [f"{ESCAPING_PROBE}{position}" for position in range(len(self._schema.label_names))]
        suffixes = [suffix for suffix, _ in self._schema.samples]
        created = float(suffixes.index(CREATED)) if CREATED in suffixes else 0.0
        parts = []
        for section in self.sections:
            values = tuple(map(format_number, map(float, section.value_positions)))
            parts += [section.heading, (section.template([labels], [created]) % values).encode("utf-8")]
        return b"".join(parts) == encode([self._schema.metric(labels)])


def _parse_sections(schema: FamilySchema, text: str) -> tuple[TemplateSection, ...]:
    """Parse the encoded text of a child whose label values are marks and whose values are positions."""
    sections: list[TemplateSection] = []
    heading, child_template = "", ""
    label_positions: list[int] = []
    value_positions: list[int] = []
    line_samples: list[int] = []
    for line in text.split("\n"):
        if line.startswith("# ") or not line:
            if child_template:
                positions = tuple(label_positions), tuple(value_positions), tuple(line_samples)
                sections.append(TemplateSection(heading.encode("utf-8"), child_template, *positions))
                heading, child_template = "", ""
                label_positions, value_positions, line_samples = [], [], []
            heading += f"{line}\n"
        else:
            before, _, value = line.rpartition(" ")
            literals = before.replace("%", "%%%%").split(_MARK)
            label_positions += map(int, literals[1::2])
            child_template += "%s".join(literals[::2])
            position = int(float(value))
            line_samples.append(position)
            if schema.samples[position].suffix == CREATED:
                child_template += " %s\n"
                label_positions.append(len(schema.label_names))
            else:
                child_template += " %%s\n"
                value_positions.append(position)
    return tuple(sections)


def _escape(text: str) -> str:
    return escape_label_value(text).replace("%", "%%")


def _shows_exemplars(schema: FamilySchema, encode: EncodeFamilies) -> bool:
    if schema.type not in ("counter", "histogram") or not schema.samples:
        return False
    first = schema._replace(label_names=(), samples=schema.samples[:1])
    try:
        return encode([first.metric([], Exemplar({"a": "b"}, 1.0))]) != encode([first.metric([])])
    except ValueError:  # the format shows exemplars, but this sample may not have one
        return True
