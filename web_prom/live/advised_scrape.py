"""A scrape of the live page, as the checks of :mod:`web_prom.advice` read it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from web_prom.advice.scrapes import Labels, Point, Scrape
from web_prom.live import text_samples
from web_prom.live.text_samples import SeriesList


class AdvisedScrape(Scrape):
    """A scrape of which each sample is made when a check reads it. Immutable after it is made.

    Args:
        scrape: The families and the values.
        at: When it was taken, in seconds since the epoch.
    """

    def __init__(self, scrape: text_samples.Scrape, at: float) -> None:
        self.at = at
        self._values = scrape.values
        self._series: dict[str, SeriesList] = {}
        for family in scrape.families.values():
            named = family.derived.get("named")
            if named is None:
                named = family.derived["named"] = {}
                for series in family.series:
                    named.setdefault(series.name, SeriesList()).add(*series)
            self._series.update(named)

    @property
    def names(self) -> Collection[str]:
        """The names of the samples."""
        return self._series.keys()

    def points(self, name: str) -> Collection[Point]:
        """Return the samples of a name, none where it is missing."""
        return _Points(self._series.get(name, SeriesList()), self._values)

    def growth(self, name: str, before: Scrape) -> Iterator[tuple[Mapping[str, str], float]]:
        """Yield, for each sample of a counter, its labels and by how much it grew since an earlier scrape."""
        series = self._series.get(name)
        if series is None:
            return
        former = self._former(series, name, before)
        for labels, at, begun in zip(series.labels, series.positions, former, strict=True):
            value = self._values[at]
            yield labels, value - begun if begun <= value else value

    def _former(self, series: SeriesList, name: str, before: Scrape) -> Sequence[float]:
        """Return the value that each series had in an earlier scrape; 0 for those that it has not."""
        known: dict[int, float] = {}
        rest: dict[Labels, float] = {}
        if isinstance(before, AdvisedScrape):
            earlier = before._series.get(name, SeriesList())
            values = list(map(before._values.__getitem__, earlier.positions))
            if earlier is series:
                return values
            # Scrapes of one reader share the labels of the series that both have.
            shared = set(map(id, series.labels))
            for labels, value in zip(earlier.labels, values, strict=True):
                if id(labels) in shared:
                    known[id(labels)] = value
                else:
                    rest[frozenset(labels.items())] = value
        else:
            rest = {frozenset(point.labels.items()): point.value for point in before.points(name)}
        found = [known.get(id(labels)) for labels in series.labels]
        return [
            (rest.get(frozenset(labels.items()), 0.0) if rest else 0.0) if value is None else value
            for value, labels in zip(found, series.labels, strict=True)
        ]


class _Points(Collection[Point]):
    """The samples of some series."""

    def __init__(self, series: SeriesList, values: Sequence[float]) -> None:
        self._series = series
        self._values = values

    def __len__(self) -> int:
        return len(self._series)

    def __iter__(self) -> Iterator[Point]:
        series = self._series
        return map(Point, series.labels, map(self._values.__getitem__, series.positions))

    def __contains__(self, point: object) -> bool:
        return any(point == each for each in self)
