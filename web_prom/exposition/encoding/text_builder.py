"""The text of one scrape, built family by family in the format that the client asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.metrics_core import Metric

from web_prom.errors import ConflictError
from web_prom.exposition.encoding.encoder import Encode, Families
from web_prom.exposition.encoding.registry_encoder import RegistryEncoder
from web_prom.multiprocess.reading.collector import WorkersCollector

_TYPE = b"# TYPE "
# The samples of a family of these types have other names than the family.
_SUFFIXES: dict[bytes, tuple[bytes, ...]] = {
    b"counter": (b"_total",),
    b"histogram": (b"_bucket", b"_count", b"_sum"),
    b"summary": (b"_count", b"_sum"),
    b"info": (b"_info",),
}


class TextBuilder:
    """Builds the text of one scrape. It is used by one thread.

    Args:
        encode: The encoder of prometheus_client for the format.
        content_type: The format.
        names: The names of the wanted samples; None for all samples.

    Attributes:
        series: The number of samples so far.
    """

    def __init__(self, encode: Encode, content_type: str, names: Collection[str] | None) -> None:
        self.series = 0
        self._encode = encode
        self._content_type = content_type
        self._names = names
        self._end = encode(Families(()))  # empty, except for OpenMetrics
        self._parts: list[bytes] = []
        self._parts_by_position: dict[int, list[bytes]] = {}
        self._used_names: set[bytes] = set()

    def add(self, families: Iterable[Metric]) -> None:
        """Add families. Only their wanted samples are added."""
        self._add(self._wanted(families))

    @contextlib.contextmanager
    def at_position(self, position: int) -> Iterator[None]:
        """Write what is added inside of this context at a position, in any order of calls."""
        outer, self._parts = self._parts, []
        try:
            yield
        finally:
            self._parts_by_position[position], self._parts = self._parts, outer

    def add_instrument(self, collector: Any, encoder: RegistryEncoder) -> None:
        """Add the wanted samples of an instrument of this process, and mark its names as used."""
        encoded = encoder.encode(collector, self._encode_families, self._content_type, self._names)
        if encoded is None:
            self._used_names |= _names_in(self._add(self._wanted(collector.collect())))
        else:
            self._parts += encoded.parts
            self.series += encoded.series
            self._used_names.update(*map(_names_in, encoded.headings))

    def add_unique(self, family: Metric, source_names: set[bytes] | None = None) -> None:
        """Add a family whose names no other source has used.

        Names are compared in the form in which this format writes them.

        Args:
            family: The family.
            source_names: The names that the same source has used so far. It may use them again. The names
                of this family are added to the set.

        Raises:
            ConflictError: Another source has used one of the names.
        """
        source_names = set() if source_names is None else source_names
        for wanted in self._wanted([family]):
            series = len(wanted.samples)
            text = self._encode_families([wanted])
            names = _names_in(text)
            if not (names - source_names).isdisjoint(self._used_names):
                raise ConflictError(f"another metric in this scrape is called {family.name}; rename one")
            self._used_names |= names
            source_names |= names
            self._parts.append(text)
            self.series += series

    def add_merged(self, collector: WorkersCollector, units: Mapping[str, str]) -> None:
        """Add the merged families of all workers.

        Args:
            collector: The collector that merges them.
            units: The units of families by name. The value files do not contain units.
        """
        for family in collector.render_families(self._encode, self._content_type, self._names, units):
            self._used_names |= _names_in(family.heading)
            self._parts.append(family.heading)
            self._parts += family.samples
        self.series += collector.series

    def finish(self) -> bytes:
        """Return the whole text: first the parts with a position, then the others."""
        positions = sorted(self._parts_by_position)
        positioned = [part for position in positions for part in self._parts_by_position[position]]
        return b"".join([*positioned, *self._parts, self._end])

    def _wanted(self, families: Iterable[Metric]) -> list[Metric]:
        if self._names is None:
            return list(families)
        wanted = []
        for family in families:
            samples = [sample for sample in family.samples if sample.name in self._names]
            if samples:
                wanted.append(Metric(family.name, family.documentation, family.type, family.unit))
                wanted[-1].samples = samples
        return wanted

    def _add(self, families: list[Metric]) -> bytes:
        text = self._encode_families(families)
        self._parts.append(text)
        self.series += sum(len(family.samples) for family in families)
        return text

    def _encode_families(self, families: Iterable[Metric]) -> bytes:
        return self._encode(Families(families)).removesuffix(self._end)


def join_parts(parts: Sequence[Metric]) -> Metric:
    """Return the parts of one family, which have its name and type, as one family. The first has its help."""
    first = parts[0]
    if len(parts) == 1:
        return first
    joined = Metric(first.name, first.documentation, first.type, first.unit)
    joined.samples = [sample for part in parts for sample in part.samples]
    return joined


def _names_in(text: bytes) -> set[bytes]:
    """Return the names that the families of a text use, read from its TYPE lines."""
    names: set[bytes] = set()
    # The search for one character is 15 times faster than the search for two or more.
    at = text.find(b"#")
    while at >= 0:
        if text.startswith(_TYPE, at) and text[at - 1 : at] in (b"", b"\n"):
            end = text.index(b"\n", at) + 1
            name, _, type_name = text[at + len(_TYPE) : end - 1].rpartition(b" ")
            name = name.strip(b'"')  # UTF-8 names are quoted
            names.update((name, *(name + suffix for suffix in _SUFFIXES.get(type_name, ()))))
            at = end
        at = text.find(b"#", at + 1)
    return names
