"""The text of the instruments of one process, from cached line templates and the values of their children."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple

from prometheus_client.metrics import Counter, Gauge, Histogram, Summary

from web_prom.exposition.encoding.child_blocks import ChildBlock, update_blocks
from web_prom.exposition.encoding.child_values import (
    CounterValueReader,
    GaugeValueReader,
    HistogramValueReader,
    Rows,
    UnsupportedInstrumentError,
    ValueReader,
)
from web_prom.exposition.encoding.encoder import EncodeFamilies
from web_prom.exposition.encoding.line_templates import (
    FamilySchema,
    FamilyTemplate,
    TemplateSection,
)
from web_prom.text_format import format_numbers
from web_prom.upstream.children import (
    CREATED,
    children_of,
    family_of,
    has_samples,
    is_unmodified,
    label_names,
)

# The number of samples that one call formats. A larger number is not faster, and blocks other threads for
# longer.
_SAMPLES_PER_BLOCK = 512
# A client can invent the version in a content type.
_MAX_TEMPLATES = 16

_VALUE_READERS: dict[type, ValueReader] = {
    Counter: CounterValueReader(Counter),
    Gauge: GaugeValueReader(Gauge),
    Summary: ValueReader(Summary),
    Histogram: HistogramValueReader(Histogram),
}


class EncodedInstrument(NamedTuple):
    """The text of an instrument.

    Attributes:
        parts: The parts of the text, in order.
        headings: Those parts that are headings.
        series: The number of samples in the text.
    """

    parts: list[bytes]
    headings: list[bytes]
    series: int


class RegistryEncoder:
    """Encodes the instruments of a registry as prometheus_client's encoder does, without creating samples.

    Safe to share between threads and to use after a fork. It needs no lock, because cached objects are
    replaced and never modified.
    """

    def __init__(self) -> None:
        self._instruments: dict[Any, _InstrumentEncoder] = {}

    def encode(
        self, collector: Any, encode: EncodeFamilies, content_type: str, names: Collection[str] | None
    ) -> EncodedInstrument | None:
        """Return the text of an instrument, which is byte for byte that of prometheus_client's encoder.

        Args:
            collector: A collector of the registry.
            encode: The encoder of a format.
            content_type: The format.
            names: The names of the wanted samples; None for all samples.

        Returns:
            None if the collector is not an unmodified Counter, Gauge, Histogram or Summary. The caller then
            calls its ``collect``, which this method has not called.

        Raises:
            Exception: What ``collect`` or the encoder would raise.
        """
        reader = _VALUE_READERS.get(type(collector))
        if reader is None or not has_samples() or not is_unmodified(collector):
            return None
        instrument = self._instruments.get(collector)
        if instrument is None:
            instrument = self._instruments[collector] = _InstrumentEncoder(reader)
        try:
            return instrument.encode(collector, encode, content_type, names)
        except UnsupportedInstrumentError:
            self._instruments.pop(collector, None)
            return None

    def retain(self, collectors: Iterable[Any]) -> None:
        """Delete the caches of all other collectors."""
        cached = self._instruments
        self._instruments = {each: cached[each] for each in collectors if each in cached}


class _InstrumentEncoder:
    """The caches of one instrument: the templates of its formats, and the blocks of its children."""

    def __init__(self, reader: ValueReader) -> None:
        self._reader = reader
        self._blocks: list[ChildBlock] = []
        self._templates: dict[tuple[str, FamilySchema], FamilyTemplate | None] = {}

    def encode(
        self, instrument: Any, encode: EncodeFamilies, content_type: str, names: Collection[str] | None
    ) -> EncodedInstrument | None:
        """Return the text of the instrument, as :meth:`RegistryEncoder.encode` does.

        Raises:
            UnsupportedInstrumentError: The values of the instrument cannot be read from its attributes.
        """
        children = children_of(instrument)
        family = family_of(instrument)
        samples = self._reader.samples_of(children[0]) if children else ()
        wanted = [
            position
            for position, sample in enumerate(samples)
            if names is None or family.name + sample.suffix in names
        ]
        if names is not None and not wanted:
            return EncodedInstrument([], [], 0)
        schema = FamilySchema(
            family.name,
            family.documentation,
            family.type,
            family.unit,
            tuple(label_names(instrument)),
            samples,
        )
        template = self._template(content_type, schema, encode)
        if template is None:
            return None
        shows_created = bool(samples) and samples[-1].suffix == CREATED
        size = max(1, _SAMPLES_PER_BLOCK // max(1, len(samples)))
        blocks = update_blocks(self._blocks, children, size, shows_created=shows_created)
        self._blocks = blocks
        if not children:
            return EncodedInstrument([template.heading], [template.heading], 0)
        value_samples = [sample for sample in samples if sample.suffix != CREATED]
        sections = _select(template.sections, frozenset(wanted))
        parts = [[section.heading] for section, _, _ in sections]
        for block in blocks:
            rows = self._reader.rows(block.children, value_samples)
            for (section, lines, positions), section_parts in zip(sections, parts, strict=True):
                values = _format_values(rows, positions)
                if template.shows_exemplars:
                    for child, position, exemplar in self._reader.exemplars(block.children, value_samples):
                        if position in positions:
                            text = template.exemplar(position, exemplar, encode)
                            values[child * len(positions) + positions.index(position)] += text
                section_parts.append((block.template(section, lines) % tuple(values)).encode("utf-8"))
        headings = [section.heading for section, _, _ in sections]
        return EncodedInstrument(list(chain.from_iterable(parts)), headings, len(children) * len(wanted))

    def _template(
        self, content_type: str, schema: FamilySchema, encode: EncodeFamilies
    ) -> FamilyTemplate | None:
        key = content_type, schema
        templates = self._templates
        if key not in templates:
            template = FamilyTemplate.from_encoder(schema, encode)
            cached = templates if len(templates) < _MAX_TEMPLATES else {}
            self._templates = templates = {**cached, key: template}
        return templates[key]


def _select(
    sections: Sequence[TemplateSection], wanted: Collection[int]
) -> list[tuple[TemplateSection, list[int], list[int]]]:
    """Return the sections that contain wanted samples, each with the wanted lines and value positions.

    The first section is always included, because its heading is always written.
    """
    selected: list[tuple[TemplateSection, list[int], list[int]]] = []
    for section in sections:
        lines = [line for line, sample in enumerate(section.line_samples) if sample in wanted]
        if lines or not selected:
            positions = [position for position in section.value_positions if position in wanted]
            selected.append((section, lines, positions))
    return selected


def _format_values(rows: Rows, positions: list[int]) -> list[str]:
    """Return the values at some positions of each row as text."""
    if not positions:
        return []
    if len(positions) == len(rows[0]):
        return list(format_numbers(list(chain.from_iterable(rows))))
    return list(format_numbers([row[position] for row in rows for position in positions]))
