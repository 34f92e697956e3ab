"""The text of merged families in one of the formats of a scrape."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

from prometheus_client.metrics_core import Metric

from web_prom.multiprocess.reading.histogram_shape import HistogramShape
from web_prom.multiprocess.reading.model import Family, LabelSchema, LabelSet, Series
from web_prom.text_format import (
    EXPONENT_FROM,
    MINUS_INFINITY,
    escape_label_value,
    format_number,
    format_numbers,
)

Encoder = Callable[[Any], bytes]
"""An encoder from ``choose_encoder`` of prometheus_client. It takes a registry or anything with
``collect()``."""

_END = b"# EOF\n"
_VALUE = " %s\n"
# Matches label values that need neither escaping in the text nor in a template.
_IS_ORDINARY = re.compile(r'[^\\\n"%]*').fullmatch


class FamilyText(NamedTuple):
    """The text of one merged family in one format.

    Attributes:
        heading: The lines above the samples. If the encoder writes the family as a whole, all its lines.
        samples: The lines of the samples.
    """

    heading: bytes
    samples: list[bytes]


def update_texts(label_sets: Iterable[LabelSet]) -> None:
    """Merge the values of label sets, and update their texts in their families, which are sorted."""
    for label_set in label_sets:
        family, position = label_set.family, label_set.position
        values = family.merge(label_set) if label_set.is_visible else ()
        if len(values) != label_set.sample_count:
            family.sample_count += len(values) - label_set.sample_count
            label_set.sample_count = len(values)
        if not values:
            family.texts[position] = b""
        elif family.is_single:
            # The text before the value is taken from the existing text, so that it is not kept twice.
            text = family.texts[position]
            before = text[: text.rindex(b" ")] if text else _text_before_value(label_set)
            (value,) = values
            is_ordinary = MINUS_INFINITY < value < EXPONENT_FROM  # as in format_number(), without a call
            number = repr(value) if is_ordinary else format_number(value)
            family.texts[position] = b"%b %b\n" % (before, number.encode())
        else:
            if label_set.template is None:
                label_set.template = _make_template(label_set)
            text = (label_set.template % tuple(format_numbers(values))).encode("utf-8")
            family.texts[position] = text


def select_lines(family: Family, names: Collection[str]) -> tuple[list[bytes], int]:
    """Return the lines of some samples of a family with plain names, and the number of these samples.

    The lines are taken from the existing text. This costs less than making samples.

    Args:
        family: The family.
        names: The names of the samples to return.
    """
    own = family.sample_names()
    if own.issubset(names):
        return family.texts, family.sample_count
    wanted = own.intersection(names)
    if not wanted:
        return [], 0
    if family.is_single:
        pairs = zip(family.ordered, family.texts, strict=True)
        lines = [text for label_set, text in pairs if text and label_set.name in wanted]
        return lines, len(lines)
    prefixes = tuple([f"{name}{after}".encode() for name in wanted for after in "{ "])
    # Buckets, count, sum: one search for each label set takes a fifth of the time of one for each line.
    count_start = f"\n{family.name}_count".encode()
    parts = []
    for text in family.texts:
        count = text.find(count_start) + 1
        last = text.find(b"\n", count) + 1
        pieces = (text[:count], text[count:last], text[last:]) if count else _split_lines(text)
        parts += [piece for piece in pieces if piece.startswith(prefixes)]
    return parts, sum([part.count(b"\n") for part in parts])


def _split_lines(text: bytes) -> list[bytes]:
    # splitlines() would also split at carriage returns.
    return [line + b"\n" for line in text.split(b"\n")[:-1]]


def _text_before_value(label_set: LabelSet) -> bytes:
    """Return the text of a single sample before its value."""
    return _make_template(label_set)[: -len(_VALUE)].replace("%%", "%").encode("utf-8")


def _make_template(label_set: LabelSet) -> str:
    """Return the text of the samples of a label set with placeholders for their values."""
    family, schema, shape = label_set.family, label_set.schema, label_set.shape
    if not (family.is_single or (shape is not None and shape.is_regular)):
        return _template_of_series(family.series(label_set))
    template = schema.templates.get(shape)
    if template is None:
        template = schema.templates[shape] = _make_schema_template(schema, shape)
    values = label_set.label_values
    if not _IS_ORDINARY("".join(values)):
        values = tuple([escape_label_value(value).replace("%", "%%") for value in values])
    return template % (values if shape is None else values * (len(shape.bound_texts) + 2))


def _make_schema_template(schema: LabelSchema, shape: HistogramShape | None) -> str:
    """Return the text of samples with placeholders for the values of labels and of the samples."""
    samples: list[tuple[str, list[tuple[str, str]]]] = [(schema.name, [])]
    if shape is not None:
        samples = [(f"{schema.name}_bucket", [("le", bound)]) for bound in shape.bound_texts]
        samples += [(f"{schema.name}_count", []), (f"{schema.name}_sum", [])]
    placeholders = [(label.replace("%", "%%%%"), "%s") for label in schema.label_names]
    lines = []
    for sample, more in samples:
        inside = ",".join(f'{label}="{value}"' for label, value in sorted([*placeholders, *more]))
        name = sample.replace("%", "%%%%")
        lines.append(f"{name}{{{inside}}}" if inside else name)
    return "".join([f"{line}{_VALUE.replace('%', '%%')}" for line in lines])


def _template_of_series(series: Sequence[Series]) -> str:
    """Return the lines of samples with a placeholder for each value."""
    return "".join([_sample_template(name, labels) for name, labels in series])


def _sample_template(name: str, labels: Sequence[tuple[str, str]]) -> str:
    if labels:
        inside = ",".join([f'{label}="{escape_label_value(value)}"' for label, value in sorted(labels)])
        name = f"{name}{{{inside}}}"
    return name.replace("%", "%%") + _VALUE


class TextFormat:
    """One of the formats of a scrape: text 0.0.4 or 1.0.0, or OpenMetrics, with a way to escape names.

    If all names consist of the original characters of Prometheus, the lines of samples are the same in all
    formats. The exception is a way of escaping that changes such names too. So the encoder is asked once. The
    encoder also writes the lines above the samples.

    Args:
        encoder: The encoder of prometheus_client.

    Attributes:
        is_plain: Whether the format writes the samples of families with plain names as :func:`update_texts`
            does.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._headings: dict[str, tuple[tuple[str, str, str], bytes]] = {}
        probe = Metric("a_b:c", "", "gauge")
        probe.add_sample("a_b:c", {"c_d": 'x\\y"z\n'}, 1e6)
        line = _template_of_series([("a_b:c", (("c_d", 'x\\y"z\n'),))]) % format_number(1e6)
        self.is_plain = self.encode(probe).endswith(line.encode())

    def heading(self, family: Family, unit: str) -> bytes:
        """Return the lines above the samples of a family."""
        content = (family.documentation, family.columns.metric_type, unit)
        known = self._headings.get(family.name)
        if known is None or known[0] != content:
            known = self._headings[family.name] = content, self.encode(Metric(family.name, *content))
        return known[1]

    def encode(self, metric: Metric) -> bytes:
        """Return a family as the encoder writes it."""
        return self._encoder(_SingleMetric(metric)).removesuffix(_END)


class _SingleMetric:
    """A collector of one metric."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return [self._metric]
