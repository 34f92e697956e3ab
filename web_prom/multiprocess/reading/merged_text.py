"""From merged label sets to the text of a scrape."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from prometheus_client.metrics_core import Metric

from web_prom.multiprocess.reading.merged_family import Family, Form, LabelSet, Series
from web_prom.text_format import (
    EXPONENT_FROM,
    MINUS_INFINITY,
    escape_label_value,
    format_number,
    format_numbers,
)

if TYPE_CHECKING:
    from web_prom.multiprocess.reading.histograms import Shape

Encoder = Callable[[Any], bytes]
"""What ``choose_encoder`` of prometheus_client gives: from a registry, or what collects like one, to text."""

_END = b"# EOF\n"


class FamilyText(NamedTuple):
    """The text of one merged family in one format.

    Attributes:
        heading: The lines above the samples. If the encoder writes the family as a whole, all its lines.
        samples: The lines of the samples.
    """

    heading: bytes
    samples: list[bytes]


_VALUE = " %s\n"
# Texts that are written as they are, also into a template.
_IS_ORDINARY = re.compile(r'[^\\\n"%]*').fullmatch


def write(label_sets: Iterable[LabelSet]) -> None:
    """Bring the text of label sets up to date in their families, which must be settled."""
    for label_set in label_sets:
        family, rank = label_set.family, label_set.rank
        values = family.merged(label_set) if label_set.is_shown else ()
        if len(values) != label_set.size:
            family.size += len(values) - label_set.size
            label_set.size = len(values)
        if not values:
            family.texts[rank] = b""
        elif family.is_single:
            # What stands before the value is in the text that is there, and need not be kept a second time.
            text = family.texts[rank]
            before = text[: text.rindex(b" ")] if text else _before(label_set)
            (value,) = values
            ordinary = MINUS_INFINITY < value < EXPONENT_FROM  # as in format_number(), without a call
            family.texts[rank] = b"%b %b\n" % (
                before,
                (repr(value) if ordinary else format_number(value)).encode(),
            )
        else:
            if label_set.template is None:
                label_set.template = _template_of(label_set)
            family.texts[rank] = (label_set.template % tuple(format_numbers(values))).encode("utf-8")


def _before(label_set: LabelSet) -> bytes:
    """Return the text of a single sample before its value."""
    return _template_of(label_set)[: -len(_VALUE)].replace("%%", "%").encode("utf-8")


def part_of(family: Family, names: Collection[str]) -> tuple[list[bytes], int]:
    """Return the lines of some samples of a family with plain names, and how many there are.

    They are chosen from the text that there is already, which costs less than to make samples of them.
    """
    own = family.sample_names()
    if own.issubset(names):
        return family.texts, family.size
    wanted = own.intersection(names)
    if not wanted:
        return [], 0
    if family.is_single:
        pairs = zip(family.ordered, family.texts, strict=True)
        lines = [text for label_set, text in pairs if text and label_set.name in wanted]
        return lines, len(lines)
    begins = tuple([f"{name}{after}".encode() for name in wanted for after in "{ "])
    # Buckets, count, sum: one search for each label set takes a fifth of the time of one for each line.
    mark = f"\n{family.name}_count".encode()
    parts = []
    for text in family.texts:
        count = text.find(mark) + 1
        last = text.find(b"\n", count) + 1
        pieces = (text[:count], text[count:last], text[last:]) if count else _lines(text)
        parts += [piece for piece in pieces if piece.startswith(begins)]
    return parts, sum([part.count(b"\n") for part in parts])


def _lines(text: bytes) -> list[bytes]:
    # Not splitlines(), which ends a line at a carriage return too.
    return [line + b"\n" for line in text.split(b"\n")[:-1]]


def _template_of(label_set: LabelSet) -> str:
    """Return the text of a label set's samples, with a place for each value."""
    family, form, shape = label_set.family, label_set.form, label_set.shape
    if not (family.is_single or (shape is not None and shape.plain)):
        return _template(family.series(label_set))
    outline = form.outlines.get(shape)
    if outline is None:
        outline = form.outlines[shape] = _outline(form, shape)
    values = label_set.label_values
    if not _IS_ORDINARY("".join(values)):
        values = tuple([escape_label_value(value).replace("%", "%%") for value in values])
    return outline % (values if shape is None else values * (len(shape.le) + 2))


def _outline(form: Form, shape: Shape | None) -> str:
    """Return a template for templates: with places for the values of labels as well."""
    samples: list[tuple[str, list[tuple[str, str]]]] = [(form.name, [])]
    if shape is not None:
        samples = [(f"{form.name}_bucket", [("le", le)]) for le in shape.le]
        samples += [(f"{form.name}_count", []), (f"{form.name}_sum", [])]
    places = [(label.replace("%", "%%%%"), "%s") for label in form.label_names]
    lines = []
    for sample, more in samples:
        inside = ",".join(f'{label}="{value}"' for label, value in sorted([*places, *more]))
        name = sample.replace("%", "%%%%")
        lines.append(f"{name}{{{inside}}}" if inside else name)
    return "".join([f"{line}{_VALUE.replace('%', '%%')}" for line in lines])


def _template(series: Sequence[Series]) -> str:
    """Return the lines of samples, with a place for each value."""
    return "".join([_before_value(name, labels) + _VALUE for name, labels in series])


def _before_value(name: str, labels: Sequence[tuple[str, str]]) -> str:
    if labels:
        inside = ",".join([f'{label}="{escape_label_value(value)}"' for label, value in sorted(labels)])
        name = f"{name}{{{inside}}}"
    return name.replace("%", "%%")


class Format:
    """One of the formats of a scrape: text 0.0.4 or 1.0.0, or OpenMetrics, and how names are escaped in it.

    For names of Prometheus' old character set the lines of samples are the same in all of them, except
    that some ways of escaping change such names too: so the encoder is asked. What stands above a family's
    samples it always says itself.

    Args:
        encode: prometheus_client's encoder.

    Attributes:
        is_plain: Whether a plain family's lines are those of :func:`write`.
    """

    def __init__(self, encode: Encoder) -> None:
        self._encode = encode
        self._headers: dict[str, tuple[tuple[str, str, str], bytes]] = {}
        probe = Metric("a_b:c", "", "gauge")
        probe.add_sample("a_b:c", {"c_d": 'x\\y"z\n'}, 1e6)
        line = _template([("a_b:c", (("c_d", 'x\\y"z\n'),))]) % format_number(1e6)
        self.is_plain = self.encode(probe).endswith(line.encode())

    def header(self, family: Family, unit: str = "") -> bytes:
        """Return the lines above the samples of a family."""
        content = (family.documentation, family.kind.type, unit)
        known = self._headers.get(family.name)
        if known is None or known[0] != content:
            header = self.encode(Metric(family.name, *content))
            known = self._headers[family.name] = content, header
        return known[1]

    def encode(self, metric: Metric) -> bytes:
        """Return a family as prometheus_client writes it."""
        return self._encode(_Single(metric)).removesuffix(_END)


class _Single:
    """A registry with one family."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        """Return the family."""
        return [self._metric]
