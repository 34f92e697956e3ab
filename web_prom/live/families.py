"""The families of one scrape by name, with their histograms and sums by labels."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from web_prom.live.family_table import UNPREFIXED
from web_prom.live.text_samples import Family, Scrape, Series, SeriesList
from web_prom.metrics.namings.recognition import ScrapeNames

Labels = Mapping[str, str]


class Histogram(NamedTuple):
    """A histogram of one label set.

    Attributes:
        labels: The labels without ``le``.
        seconds: The sum of what was observed.
        observed: How often something was observed.
        counts: The count of each bucket, not cumulative.
    """

    labels: Labels
    seconds: float
    observed: float
    counts: list[float]


class _Layout(NamedTuple):
    """Where the values of histograms are: each list has a position for each label set.

    Missing values are at -1, where a 0 is put. Lists of numbers cost the garbage collector nothing.
    """

    bounds: list[float]
    labels: list[Labels]
    totals: list[int]
    observed: list[int]
    buckets: list[list[int]]


class Families:
    """The families of one scrape. Values that JSON cannot have (NaN and infinities) count as 0."""

    def __init__(self, scrape: Scrape) -> None:
        self.scrape = scrape
        self._by_name = {_sample_name(family, scrape): family for family in scrape.families.values()}
        self.names = ScrapeNames(self._by_name.keys(), self._labels_of)
        """The names of web-prom's families in the scrape."""
        self._values = [*scrape.values, 0.0]
        self._found: set[str] = set()

    def unused(self, known: Collection[str]) -> Iterator[Family]:
        """Yield the families that no section has used, without those with known names."""
        return (
            family
            for name, family in self._by_name.items()
            if not (name in self._found or name in known or self._is_creation(name))
        )

    def _is_creation(self, name: str) -> bool:
        """Return whether a family has the times at which the series of another one were created."""
        return name.endswith("_created") and bool(self.names.spelled(name.removesuffix("_created")))

    def value(self, series: Series) -> float | None:
        """Return the value of a series, or None for NaN and infinities."""
        return None if series.at in self.scrape.not_finite else self._values[series.at]

    def find(self, name: str) -> Family | None:
        """Return a family by its name without the namespace. The name of a counter ends in ``_total``."""
        name = self.names.spelled(name) if name in UNPREFIXED else self.names.find(name)
        self._found.add(name)
        return self._by_name.get(name)

    def _labels_of(self, name: str) -> Collection[str] | None:
        """Return the label names of a family by its name; None if it has no series."""
        family = self._by_name.get(name)
        return family.series[0].labels if family is not None and family.series else None

    def samples(self, name: str) -> list[tuple[Labels, float]]:
        """Return the labels and values of a counter or a gauge; nothing if the scrape has no such family."""
        family = self.find(name)
        return [] if family is None else self.samples_of(family)

    def samples_of(self, family: Family) -> list[tuple[Labels, float]]:
        """Return the labels and values of a family, without the times at which series were created."""
        series = lasting(family)
        return list(zip(series.labels, map(self._values.__getitem__, series.positions), strict=True))

    def total(self, name: str) -> float | None:
        """Return the sum of the values of a family, or None if the scrape has no such family."""
        samples = self.samples(name)
        return math.fsum(value for _, value in samples) if samples else None

    def histograms(self, name: str) -> tuple[list[float], list[Histogram]]:
        """Return the upper bounds and the histograms of a family by name; infinity is the last bound."""
        family = self.find(name)
        return ([math.inf], []) if family is None else self.histograms_of(family)

    def histograms_of(self, family: Family) -> tuple[list[float], list[Histogram]]:
        """Return the upper bounds and the histograms of a family. A summary has one bucket."""
        layout: _Layout | None = family.derived.get("layout")
        if layout is None:
            layout = family.derived["layout"] = _layout(family.series)
        value_at = self._values.__getitem__
        below = [0.0] * len(layout.labels)
        columns = []
        for positions in layout.buckets:
            upper = list(map(value_at, positions))
            # Another worker may have written between two buckets.
            grown = [high - low if high > low else 0.0 for high, low in zip(upper, below, strict=True)]
            columns.append(grown)
            below = list(map(max, upper, below))
        counts = map(list, zip(*columns, strict=True))
        totals, observed = map(value_at, layout.totals), map(value_at, layout.observed)
        return layout.bounds, list(map(Histogram, layout.labels, totals, observed, counts))


def lasting(family: Family) -> SeriesList:
    """Return the series of a family, without the times at which series were created."""
    found: SeriesList | None = family.derived.get("lasting")
    if found is None:
        found = SeriesList(series for series in family.series if not series.name.endswith("_created"))
        family.derived["lasting"] = found
    return found


def json_bounds(bounds: Iterable[float]) -> list[float | None]:
    """Return upper bounds as JSON has them: None is infinity."""
    return [None if math.isinf(bound) else bound for bound in bounds]


def one_histogram(bounds: Sequence[float], histograms: Sequence[Histogram]) -> dict[str, Any] | None:
    """Return several histograms as one, or None if there is none."""
    if not histograms:
        return None
    return {
        "buckets": json_bounds(bounds),
        "counts": add_columns(histogram.counts for histogram in histograms),
        "seconds": math.fsum(histogram.seconds for histogram in histograms),
    }


def add_columns(rows: Iterable[Sequence[float]]) -> list[float]:
    """Return the sum of each column."""
    return [math.fsum(column) for column in zip(*rows, strict=True)]


def by_label(samples: Iterable[tuple[Labels, float]], label: str) -> dict[str, float]:
    """Return the sums of values by the values of one label."""
    found: dict[str, float] = {}
    for labels, value in samples:
        key = labels.get(label, "")
        found[key] = found.get(key, 0.0) + value
    return found


def _sample_name(family: Family, scrape: Scrape) -> str:
    """Return the name of a family with the end that the samples of a counter have also in OpenMetrics."""
    name = f"{family.name}_total"
    is_short = family.type == "counter" and not family.name.endswith("_total") and name not in scrape.families
    return name if is_short else family.name


def _layout(every: Iterable[Series]) -> _Layout:
    """Return the upper bounds of a family, and the positions of the values of each label set."""
    found: dict[tuple[str, ...], tuple[dict[str, str], dict[str, int], dict[float, int]]] = {}
    for name, labels, at in every:
        own = {label: value for label, value in labels.items() if label not in ("le", "quantile")}
        _labels, others, buckets = found.setdefault(tuple(chain(*own.items())), (own, {}, {}))
        if name.endswith("_bucket") and "le" in labels:
            buckets[float(labels["le"])] = at
        else:
            others[name.rpartition("_")[2]] = at
    bounds = sorted({math.inf}.union(*(buckets for _, _, buckets in found.values())))
    layout = _Layout(bounds, [], [], [], [[] for _ in bounds])
    for own, others, buckets in found.values():
        count = others.get("count", buckets.get(math.inf, -1))
        layout.labels.append(own)
        layout.totals.append(others.get("sum", -1))
        layout.observed.append(count)
        for bound, positions in zip(bounds, layout.buckets, strict=True):
            positions.append(buckets.get(bound, count if bound == math.inf else -1))
    return layout
