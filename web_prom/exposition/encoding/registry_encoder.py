"""The text of one process's instruments, from their children's values and lines that only lack these."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from operator import is_
from typing import Any, NamedTuple

from prometheus_client.metrics import Counter, Gauge, Histogram, Summary

from web_prom.exposition.encoding.child_values import (
    CounterValueReader,
    GaugeValueReader,
    HistogramValueReader,
    Rows,
    UnsupportedInstrumentError,
    ValueReader,
    created_of,
)
from web_prom.exposition.encoding.encoder import EncodeFamilies
from web_prom.exposition.encoding.line_templates import (
    CREATED,
    FamilySchema,
    FamilyTemplate,
    SampleSchema,
    TemplateSection,
)
from web_prom.text_format import format_numbers
from web_prom.upstream.children import (
    children_of,
    family_of,
    has_samples,
    is_unmodified,
    label_names,
    label_values,
)

# Samples whose text one call makes: more make it no faster, and hold the interpreter longer.
_SAMPLES = 512
# A content type holds a version that a client may invent, and name[] what it likes.
_MOST_OUTLINES = 16
# For each child: Prometheus asks for one or two formats, one of which has two sections.
_MOST_TEMPLATES = 3

_VALUE_READERS: dict[type, ValueReader] = {
    Counter: CounterValueReader(Counter),
    Gauge: GaugeValueReader(Gauge),
    Summary: ValueReader(Summary),
    Histogram: HistogramValueReader(Histogram),
}


class EncodedInstrument(NamedTuple):
    """The text of a family.

    Attributes:
        parts: Its bytes, in order.
        headings: Those of its bytes that are headings.
        series: The number of samples in it.
    """

    parts: list[bytes]
    headings: list[bytes]
    series: int


class RegistryEncoder:
    """Writes the instruments of prometheus_client as its own encoder would, without making samples of them.

    Safe to share between threads and to use after a fork, without a lock: what is kept is replaced, and
    never changed half-way.
    """

    def __init__(self) -> None:
        self._families: dict[Any, _Family] = {}

    def encode(
        self, collector: Any, encoded: EncodeFamilies, content_type: str, names: Collection[str] | None
    ) -> EncodedInstrument | None:
        """Return a collector's text, byte for byte what the encoder makes of what it collects.

        Args:
            collector: Anything that is registered.
            encoded: The encoder of a format.
            content_type: The format.
            names: The samples that are wanted; None for all.

        Returns:
            None for anything but a Counter, Gauge, Histogram or Summary that is as upstream has it: then
            ``collect`` it, which was not done.

        Raises:
            Exception: What ``collect`` or the encoder would raise.
        """
        reading = _VALUE_READERS.get(type(collector))
        if reading is None or not has_samples() or not is_unmodified(collector):
            return None
        family = self._families.get(collector)
        if family is None:
            family = self._families[collector] = _Family(reading)
        try:
            return family.encode(collector, encoded, content_type, names)
        except UnsupportedInstrumentError:
            self._families.pop(collector, None)
            return None

    def retain(self, collectors: Iterable[Any]) -> None:
        """Delete the cached texts of all other collectors."""
        self._families = {each: self._families[each] for each in collectors if each in self._families}


class _Family:
    """What is kept of one instrument from scrape to scrape."""

    def __init__(self, reading: ValueReader) -> None:
        self._reading = reading
        self._blocks: list[_Block] = []
        self._outlines: dict[tuple[str, FamilySchema], FamilyTemplate | None] = {}

    def encode(
        self, collector: Any, encoded: EncodeFamilies, content_type: str, names: Collection[str] | None
    ) -> EncodedInstrument | None:
        """Do what :meth:`RegistryEncoder.encode` does.

        Raises:
            UnsupportedInstrumentError: This instrument is not as upstream has it.
        """
        children = children_of(collector)
        metric = family_of(collector)
        forms = self._reading.samples_of(children[0]) if children else ()
        wanted = [
            place for place, form in enumerate(forms) if names is None or metric.name + form.suffix in names
        ]
        if names is not None and not wanted:
            return EncodedInstrument([], [], 0)
        form = FamilySchema(
            metric.name, metric.documentation, metric.type, metric.unit, tuple(label_names(collector)), forms
        )
        outline = self._outline(content_type, form, encoded)
        if outline is None:
            return None
        blocks = self._update(children, forms)
        if not children:
            return EncodedInstrument([outline.heading], [outline.heading], 0)
        read = [form for form in forms if form.suffix != CREATED]
        sections = _chosen(outline.sections, frozenset(wanted))
        parts = [[section.heading] for section, _, _ in sections]
        for block in blocks:
            rows = self._reading.rows(block.children, read)
            for (section, kept, places), lines in zip(sections, parts, strict=True):
                texts = _texts(rows, places)
                if outline.shows_exemplars:
                    for child, place, exemplar in self._reading.exemplars(block.children, read):
                        if place in places:
                            text = outline.exemplar(place, exemplar, encoded)
                            texts[child * len(places) + places.index(place)] += text
                lines.append((block.template(section, kept) % tuple(texts)).encode("utf-8"))
        headings = [section.heading for section, _, _ in sections]
        return EncodedInstrument(list(chain.from_iterable(parts)), headings, len(children) * len(wanted))

    def _outline(
        self, content_type: str, form: FamilySchema, encoded: EncodeFamilies
    ) -> FamilyTemplate | None:
        key = content_type, form
        outlines = self._outlines
        if key not in outlines:
            learnt = FamilyTemplate.from_encoder(form, encoded)
            kept = outlines if len(outlines) < _MOST_OUTLINES else {}
            self._outlines = outlines = {**kept, key: learnt}
        return outlines[key]

    def _update(self, children: list[Any], forms: Sequence[SampleSchema]) -> list[_Block]:
        """Return blocks of the children that there are now: last time's, as far as these are the same."""
        size = max(1, _SAMPLES // max(1, len(forms)))
        shows_created = bool(forms) and forms[-1].suffix == CREATED
        known = {id(block.children): block for block in self._blocks}
        runs = _runs([block.children for block in self._blocks], children, size)
        blocks = []
        for run in _joined(runs, size):
            created = created_of(run) if shows_created else [0.0] * len(run)
            block = known.get(id(run))
            # After Counter.reset() it is another object.
            if block is None or not all(map(is_, created, block.created)):
                block = _Block(run, created)
            blocks.append(block)
        self._blocks = blocks
        return blocks


class _Block:
    """Children that stand one after the other, and their lines.

    Attributes:
        children: Some of an instrument's.
        created: When they were created; zeros where that is not shown.
    """

    __slots__ = ("_templates", "children", "created")

    def __init__(self, children: list[Any], created: list[float]) -> None:
        self.children = children
        self.created = created
        self._templates: dict[str, str] = {}

    def template(self, section: TemplateSection, kept: Sequence[int]) -> str:
        """Return the children's lines of a section, with a place for each value.

        Args:
            section: The section.
            kept: Which of a child's lines. Some of them are cut out of the whole each time: who asks for
                ever other ones must not make the whole anew for everybody else.
        """
        whole = self._whole(section)
        count = len(section.line_samples)
        if len(kept) == count:
            return whole
        lines = whole.split("\n")
        rows = zip(*[lines[line:-1:count] for line in kept], strict=True)
        return "".join([f"{line}\n" for line in chain.from_iterable(rows)])

    def _whole(self, section: TemplateSection) -> str:
        template = self._templates.get(section.child_template)
        if template is None:
            labels = list(map(label_values, self.children))
            template = section.template(labels, map(float, self.created))
            kept = self._templates if len(self._templates) < _MOST_TEMPLATES else {}
            self._templates = {**kept, section.child_template: template}
        return template


def _chosen(
    sections: Sequence[TemplateSection], wanted: Collection[int]
) -> list[tuple[TemplateSection, list[int], list[int]]]:
    """Return the sections with samples that are wanted: each with its lines, and the places of its values.

    The first one is always there, because its heading is.
    """
    chosen: list[tuple[TemplateSection, list[int], list[int]]] = []
    for section in sections:
        kept = [line for line, sample in enumerate(section.line_samples) if sample in wanted]
        if kept or not chosen:
            chosen.append((section, kept, [sample for sample in section.value_positions if sample in wanted]))
    return chosen


def _texts(rows: Rows, places: list[int]) -> list[str]:
    """Return the values at some places of every row as text."""
    if not places:
        return []
    if len(places) == len(rows[0]):
        return list(format_numbers(list(chain.from_iterable(rows))))
    return list(format_numbers([row[place] for row in rows for place in places]))


def _runs(known: Iterable[list[Any]], children: list[Any], size: int) -> Iterator[list[Any]]:
    """Give the known runs that still stand as they stood, what is left of the others, and new ones."""
    at = 0
    for run in known:
        begun, end = at, at + len(run)
        if children[begun:end] == run:
            at = end
            yield run
        else:
            for child in run:
                if at < len(children) and children[at] is child:
                    at += 1
            yield children[begun:at]
    for begun in range(at, len(children), size):
        yield children[begun : begun + size]


def _joined(runs: Iterable[list[Any]], size: int) -> Iterator[list[Any]]:
    """Join small neighbours: children that come and go one by one would leave runs of one."""
    last: list[Any] = []
    for run in runs:
        if not last:
            last = run
        elif len(last) + len(run) <= size:
            last = last + run
        else:
            yield last
            last = run
    if last:
        yield last
