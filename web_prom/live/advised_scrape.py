"""A scrape of the live page, as the checks of :mod:`web_prom.advice` read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from web_prom.advice.scrapes import Labels, Point, Scrape
from web_prom.live import text_samples
from web_prom.live.text_samples import Series


class AdvisedScrape(Scrape):
    """A scrape of which only the samples are made that a check asks for. One thread at a time may use it.

    Args:
        scrape: The families and the values.
        at: When it was taken, in seconds since the epoch.
    """

    def __init__(self, scrape: text_samples.Scrape, at: float) -> None:
        self.at = at
        self.samples = _Samples(scrape)


class _Samples(Mapping[str, Mapping[Labels, Point]]):
    """The samples of a scrape by name."""

    def __init__(self, scrape: text_samples.Scrape) -> None:
        self._values = scrape.values
        self._series: dict[str, list[tuple[Labels, Series]]] = {}
        for family in scrape.families.values():
            named = family.derived.get("named")
            if named is None:
                named = family.derived["named"] = {}
                for series in family.series:
                    named.setdefault(series.name, []).append((frozenset(series.labels.items()), series))
            self._series.update(named)
        self._made: dict[str, Mapping[Labels, Point]] = {}

    def __getitem__(self, name: str) -> Mapping[Labels, Point]:
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = {
                key: Point(series.labels, self._values[series.at]) for key, series in self._series[name]
            }
        return made

    def __contains__(self, name: object) -> bool:
        return name in self._series

    def __iter__(self) -> Iterator[str]:
        return iter(self._series)

    def __len__(self) -> int:
        return len(self._series)
