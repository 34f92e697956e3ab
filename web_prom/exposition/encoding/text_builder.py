"""A scrape's text as it grows, family by family, in the format that was asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.metrics_core import Metric

from web_prom.errors import ConflictError
from web_prom.exposition.encoding.registry_encoder import RegistryEncoder
from web_prom.multiprocess.reading.collector import WorkersCollector

Encode = Callable[[Any], bytes]

_TYPE = b"# TYPE "
# What a family of a type has under other names than its own.
_SUFFIXES: dict[bytes, tuple[bytes, ...]] = {
    b"counter": (b"_total",),
    b"histogram": (b"_bucket", b"_count", b"_sum"),
    b"summary": (b"_count", b"_sum"),
    b"info": (b"_info",),
}


class TextBuilder:
    """The text of one scrape.

    Args:
        encode: Upstream's encoder of the format.
        content_type: The format.
        names: The samples that are wanted; None for all.

    Attributes:
        series: The number of samples so far.
    """

    def __init__(self, encode: Encode, content_type: str, names: Collection[str] | None) -> None:
        self.series = 0
        self._encode = encode
        self._content_type = content_type
        self._names = names
        self._end = encode(_Families(()))  # OpenMetrics has one, the others none
        self._parts: list[bytes] = []
        self._apart: dict[int, list[bytes]] = {}
        self._taken: set[bytes] = set()

    def put(self, families: Iterable[Metric]) -> None:
        """Add families, as far as they are wanted."""
        self._put(self._wanted(families))

    @contextlib.contextmanager
    def at(self, place: int) -> Iterator[None]:
        """Put what is added within at a place among others of its kind, in whichever order they come."""
        outer, self._parts = self._parts, []
        try:
            yield
        finally:
            self._apart[place], self._parts = self._parts, outer

    def put_collected(self, collector: Any, encoder: RegistryEncoder) -> None:
        """Add what an instrument of this process has, as far as it is wanted, and note its names."""
        rendered = encoder.render(collector, self._encoded, self._content_type, self._names)
        if rendered is None:
            self._taken |= _names_in(self._put(self._wanted(collector.collect())))
        else:
            self._parts += rendered.parts
            self.series += rendered.series
            self._taken.update(*map(_names_in, rendered.parts))

    def put_new(self, family: Metric, own: set[bytes] | None = None) -> None:
        """Add a family whose names no other source has taken.

        Names are compared as they read in this format.

        Args:
            family: The family.
            own: The names that its source has so far, which it may use again; those of this family are added.

        Raises:
            ConflictError: Another source has one of the names.
        """
        own = set() if own is None else own
        for kept in self._wanted([family]):
            text = self._encoded([kept])
            taken = _names_in(text)
            if not (taken - own).isdisjoint(self._taken):
                raise ConflictError(f"another metric in this scrape is called {family.name}; rename one")
            self._taken |= taken
            own |= taken
            self._parts.append(text)
            self.series += len(kept.samples)

    def put_merged(self, collector: WorkersCollector, units: Mapping[str, str]) -> None:
        """Add what all workers have.

        Args:
            collector: Whoever merges it.
            units: Of families by name: the value files do not tell them.
        """
        for family in collector.render_families(self._encode, self._content_type, self._names, units):
            self._taken |= _names_in(family.heading)
            self._parts.append(family.heading)
            self._parts += family.samples
        self.series += collector.series

    def finish(self) -> bytes:
        """Return the whole: what was put at a place first."""
        apart = [part for place in sorted(self._apart) for part in self._apart[place]]
        return b"".join([*apart, *self._parts, self._end])

    def _wanted(self, families: Iterable[Metric]) -> list[Metric]:
        if self._names is None:
            return list(families)
        kept = []
        for family in families:
            samples = [sample for sample in family.samples if sample.name in self._names]
            if samples:
                kept.append(Metric(family.name, family.documentation, family.type, family.unit))
                kept[-1].samples = samples
        return kept

    def _put(self, families: list[Metric]) -> bytes:
        text = self._encoded(families)
        self._parts.append(text)
        self.series += sum(len(family.samples) for family in families)
        return text

    def _encoded(self, families: Iterable[Metric]) -> bytes:
        return self._encode(_Families(families)).removesuffix(self._end)


def joined(families: Iterable[Metric]) -> list[Metric]:
    """Return the families of one source, those of one name and type as one, with the first one's help.

    OpenTelemetry's scopes give one family several times, and so do collectors that yield one for each item.
    """
    found: dict[tuple[str, str], list[Metric]] = {}
    for family in families:
        found.setdefault((family.name, family.type), []).append(family)
    return [_as_one(same) if len(same) > 1 else same[0] for same in found.values()]


def _as_one(families: list[Metric]) -> Metric:
    first = families[0]
    whole = Metric(first.name, first.documentation, first.type, first.unit)
    whole.samples = [sample for family in families for sample in family.samples]
    return whole


class _Families:
    """What upstream's encoders take."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _names_in(text: bytes) -> set[bytes]:
    """Return the names that the families in a text take, which their TYPE lines show."""
    names: set[bytes] = set()
    # One character is found 15 times faster than the two or more that would be surer.
    at = text.find(b"#")
    while at >= 0:
        if text.startswith(_TYPE, at) and text[at - 1 : at] in (b"", b"\n"):
            end = text.index(b"\n", at) + 1
            name, _, kind = text[at + len(_TYPE) : end - 1].rpartition(b" ")
            name = name.strip(b'"')  # UTF-8 names are quoted
            names.update((name, *(name + suffix for suffix in _SUFFIXES.get(kind, ()))))
            at = end
        at = text.find(b"#", at + 1)
    return names
