"""One or two scrapes of a service, and what can be computed from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from web_prom.metrics.conventions import NAMINGS, QUEUE_TIME
from web_prom.metrics.namings.recognition import ScrapeNames

Metrics = str | Iterable[Metric]
"""Metrics as the text of a scrape, or as families."""

Labels = frozenset[tuple[str, str]]


class Point(NamedTuple):
    """A sample: its labels and its value."""

    labels: Mapping[str, str]
    value: float


class Scrape:
    """The samples of one scrape by name. Immutable after it is made.

    Args:
        metrics: Text in Prometheus' format, or families, for example ``registry.collect()``.
        at: When it was taken, in seconds since the epoch.

    Raises:
        ValueError: The text is not in Prometheus' format.
    """

    def __init__(self, metrics: Metrics, at: float) -> None:
        self.at = at
        samples: dict[str, dict[Labels, Point]] = defaultdict(dict)
        families = text_string_to_metric_families(metrics) if isinstance(metrics, str) else metrics
        for family in families:
            for sample in family.samples:
                key = frozenset(sample.labels.items())
                samples[sample.name][key] = Point(sample.labels, sample.value)
        self._samples: Mapping[str, Mapping[Labels, Point]] = dict(samples)

    @property
    def names(self) -> Collection[str]:
        """The names of the samples."""
        return self._samples.keys()

    def points(self, name: str) -> Collection[Point]:
        """Return the samples of a name, none where it is missing."""
        return self._samples[name].values() if name in self._samples else ()

    def growth(self, name: str, before: Scrape) -> Iterator[tuple[Mapping[str, str], float]]:
        """Yield, for each sample of a counter, its labels and by how much it grew since an earlier scrape."""
        earlier = {frozenset(point.labels.items()): point.value for point in before.points(name)}
        for key, point in self._samples.get(name, {}).items():
            former = earlier.get(key, 0.0)
            yield point.labels, point.value - former if former <= point.value else point.value

    def total(self, name: str) -> float | None:
        """Return the sum of all samples of a name, or None where there are none."""
        points = self.points(name)
        return sum(point.value for point in points) if points else None

    def sum_by_label(self, name: str, label: str) -> dict[str, float]:
        """Return the sums of a name's samples by the values of one label."""
        sums: dict[str, float] = defaultdict(float)
        for point in self.points(name):
            sums[point.labels.get(label, "")] += point.value
        return dict(sums)


class Window:
    """What a service showed, once or twice.

    Args:
        after: The later scrape.
        before: The earlier one, or None where there is just one. Nothing can then be said of rates.
    """

    def __init__(self, after: Scrape, before: Scrape | None = None) -> None:
        self.after = after
        self.before = before
        self.seconds = max(after.at - before.at, 1e-9) if before else 0.0
        families = {*after.names, *(name.removesuffix("_sum") for name in after.names)}
        self.names = ScrapeNames(families, self._labels_of)
        """The names of web-prom's families in the later scrape."""
        self.duration = self._duration_name(families)
        """The name of the histogram of request durations in the naming and the namespace of the service; ""
        if the scrape has none."""
        self.queue_time = self.names.find(QUEUE_TIME.name)
        """The name of the histogram of queue times in the namespace of the service; "" if the scrape has
        none."""

    def increase(self, name: str) -> float | None:
        """Return by how much all counters of a name grew, or None where that cannot be known.

        A counter that went back started again at zero. A counter that is new counts whole.
        """
        if self.before is None or not self.after.points(name):
            return None
        return sum(growth for _labels, growth in self.growth(name))

    def rate(self, name: str) -> float | None:
        """Return the same for each second."""
        grown = self.increase(name)
        return None if grown is None else grown / self.seconds

    def quantile(self, histogram: str, quantile: float) -> float | None:
        """Estimate a quantile of what a histogram observed between the scrapes, as PromQL does.

        The estimate is linear within a bucket. Observations above the highest bound count as that bound.
        None where nothing was observed.
        """
        grown: dict[float, float] = defaultdict(float)
        if self.before is None:
            return None
        for labels, growth in self.growth(f"{histogram}_bucket"):
            grown[float(labels.get("le", "inf"))] += growth
        bounds = sorted(grown)
        if not bounds or grown[bounds[-1]] <= 0:
            return None
        wanted = quantile * grown[bounds[-1]]
        lower, below = 0.0, 0.0
        for bound in bounds:
            if grown[bound] >= wanted:
                if bound == float("inf"):
                    return lower
                return lower + (bound - lower) * min(1.0, (wanted - below) / max(grown[bound] - below, 1e-9))
            lower, below = bound, grown[bound]
        return lower

    def growth(self, name: str) -> Iterator[tuple[Mapping[str, str], float]]:
        """Yield, for each sample of a counter, its labels and by how much it grew; nothing for one scrape."""
        if self.before is not None:
            yield from self.after.growth(name, self.before)

    def _labels_of(self, family: str) -> Collection[str] | None:
        for name in (family, f"{family}_count", f"{family}_sum"):
            points = self.after.points(name)
            if points:
                return next(iter(points)).labels.keys()
        return None

    def _duration_name(self, families: Collection[str]) -> str:
        if self.names.naming is not None:
            return self.names.find(self.names.naming.duration.name)
        # Sums over all routes have the name alone.
        for naming in NAMINGS.values():
            spec = naming.duration
            name = f"{spec.prefix}_{spec.name}" if spec.prefix else spec.name
            if name in families:
                return name
            for each in families:
                if each.endswith(f"_{name}") and not self._labels_of(each):
                    return each
        return ""
