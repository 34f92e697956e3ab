"""How a family reads in a format: learnt from upstream's encoder, with places for labels and values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import NamedTuple

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar

from web_prom.text_format import escape_label_value, format_number

EncodeFamilies = Callable[[Iterable[Metric]], bytes]
"""Upstream's encoder of a format, for families, without what ends a scrape."""

# No name with it is learnt, and no encoder changes it in a label's value.
_MARK = "\0"
CREATED = "_created"
"""Samples of this suffix have a value that all but never changes: it is written with the labels."""

# Whatever an encoder may escape, and what means something where these templates are filled.
ESCAPING_PROBE = 'a\\b"c\n%s{0}\t\x7f\u00e9\u20ac'


class SampleSchema(NamedTuple):
    """What a sample has beside its child's labels.

    Attributes:
        suffix: What follows the family's name.
        labels: Its own (``le``).
    """

    suffix: str
    labels: tuple[tuple[str, str], ...] = ()


class FamilySchema(NamedTuple):
    """What a family is, apart from its children.

    Attributes:
        name: Its name.
        documentation: Its help text.
        type: Its type.
        unit: Its unit, or an empty text.
        label_names: The names of its labels.
        samples: What each child gives, in order.
    """

    name: str
    documentation: str
    type: str
    unit: str
    label_names: tuple[str, ...]
    samples: tuple[SampleSchema, ...]

    def metric(self, labels: Sequence[str] | None = None, exemplar: Exemplar | None = None) -> Metric:
        """Return the family without a child, or with one whose samples have their places as values."""
        metric = Metric(self.name, self.documentation, self.type, self.unit)
        if labels is not None:
            items = list(zip(self.label_names, labels, strict=True))
            for place, (suffix, more) in enumerate(self.samples):
                metric.add_sample(self.name + suffix, dict([*items, *more]), float(place), exemplar=exemplar)
        return metric


class TemplateSection(NamedTuple):
    """Lines that stand together below one heading: all of a family, or its ``_created`` in the text format.

    Attributes:
        heading: The lines with a number sign.
        outline: The lines of one child, to be filled by ``%`` with the values of its labels; what comes of
            it is to be filled so with the values of its samples.
        labels: Which of the labels that takes, in order; after the last one is when it was created.
        samples: Which of the samples that takes, in order.
        lines: Which sample each line is, the one of its creation too.
    """

    heading: bytes
    outline: str
    labels: tuple[int, ...]
    samples: tuple[int, ...]
    lines: tuple[int, ...]

    def template(self, children: Iterable[Sequence[str]], created: Iterable[float]) -> str:
        """Return the lines of children, with a place for each value.

        Args:
            children: For each, the values of its labels.
            created: For each, when it was created.
        """
        # Such a number takes as long as everything else here.
        times = map(format_number, created) if CREATED in self.outline else repeat("")
        rows = [(*labels, time) for labels, time in zip(children, times, strict=False)]
        texts = [row[place] for row in rows for place in self.labels]
        everything = _MARK.join(texts)
        if everything.count(_MARK) == len(texts) - 1:
            # Together in a tenth of the time: what has to be escaped is rare.
            texts = _escape(everything).split(_MARK)
        else:
            texts = list(map(_escape, texts))
        return self.outline * len(rows) % tuple(texts)


class FamilyTemplate:
    """How the families of a form read in a format.

    Attributes:
        heading: What stands above no child at all.
        sections: What there is with children.
        shows_exemplars: Whether the format has them.
    """

    def __init__(
        self, form: FamilySchema, encoded: EncodeFamilies, sections: tuple[TemplateSection, ...]
    ) -> None:
        self.heading = encoded([form.metric()])
        self.sections = sections
        self.shows_exemplars = _shows_exemplars(form, encoded)
        self._form = form

    @classmethod
    def from_encoder(cls, form: FamilySchema, encoded: EncodeFamilies) -> FamilyTemplate | None:
        """Return the outline of a form; None where the lines cannot be told from what the encoder gives.

        Raises:
            Exception: What the encoder raises.
        """
        names = (form.name, form.unit, *form.label_names)
        if any(_MARK in name or "\n" in name for name in names):
            return None
        if not form.samples:
            return cls(form, encoded, ())
        places = [f"{_MARK}{place}{_MARK}" for place in range(len(form.label_names))]
        sections = _sections(form, encoded([form.metric(places)]).decode("utf-8"))
        outline = cls(form, encoded, sections)
        return outline if outline._is_true(encoded) else None

    def exemplar(self, sample: int, exemplar: Exemplar, encoded: EncodeFamilies) -> str:
        """Return what follows the value of a sample with an exemplar.

        Raises:
            Exception: What the encoder raises for one that it cannot write.
        """
        form = self._form._replace(label_names=(), samples=(self._form.samples[sample],))
        without, with_it = encoded([form.metric([])]), encoded([form.metric([], exemplar)])
        return with_it[len(without) - 1 : -1].decode("utf-8")

    def _is_true(self, encoded: EncodeFamilies) -> bool:
        """Tell whether a child with everything odd reads as it does with the encoder."""
        labels = [f"{ESCAPING_PROBE}{place}" for place in range(len(self._form.label_names))]
        suffixes = [suffix for suffix, _ in self._form.samples]
        created = float(suffixes.index(CREATED)) if CREATED in suffixes else 0.0
        parts = []
        for section in self.sections:
            values = tuple(map(format_number, map(float, section.samples)))
            parts += [section.heading, (section.template([labels], [created]) % values).encode("utf-8")]
        return b"".join(parts) == encoded([self._form.metric(labels)])


def _sections(form: FamilySchema, text: str) -> tuple[TemplateSection, ...]:
    """Read what the encoder made of a child whose labels are marks, and whose values are places."""
    sections: list[TemplateSection] = []
    heading, outline = "", ""
    labels: list[int] = []
    samples: list[int] = []
    order: list[int] = []
    for line in text.split("\n"):
        if line.startswith("# ") or not line:
            if outline:
                places = tuple(labels), tuple(samples), tuple(order)
                sections.append(TemplateSection(heading.encode("utf-8"), outline, *places))
                heading, outline, labels, samples, order = "", "", [], [], []
            heading += f"{line}\n"
        else:
            before, _, place = line.rpartition(" ")
            literals = before.replace("%", "%%%%").split(_MARK)
            labels += map(int, literals[1::2])
            outline += "%s".join(literals[::2])
            sample = int(float(place))
            order.append(sample)
            if form.samples[sample].suffix == CREATED:
                outline += " %s\n"
                labels.append(len(form.label_names))
            else:
                outline += " %%s\n"
                samples.append(sample)
    return tuple(sections)


def _escape(text: str) -> str:
    return escape_label_value(text).replace("%", "%%")


def _shows_exemplars(form: FamilySchema, encoded: EncodeFamilies) -> bool:
    if form.type not in ("counter", "histogram") or not form.samples:
        return False
    first = form._replace(label_names=(), samples=form.samples[:1])
    try:
        return encoded([first.metric([], Exemplar({"a": "b"}, 1.0))]) != encoded([first.metric([])])
    except ValueError:  # of a sample that must not have one
        return True
