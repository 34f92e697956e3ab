"""One or two scrapes of a service, and what can be computed from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from web_prom.metrics.conventions import NAMINGS, QUEUE_TIME, MetricSpec

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
        self._names: dict[str, str] = {}
        self.seconds = max(after.at - before.at, 1e-9) if before else 0.0
        self.duration = self._histogram_name(*map(_name, (naming.duration for naming in NAMINGS.values())))
        """The name of the histogram of request durations in the naming and the namespace of the service; ""
        if the scrape has none."""
        self.queue_time = self._histogram_name(QUEUE_TIME.name)
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
                return lower + (bound - lower) * (wanted - below) / max(grown[bound] - below, 1e-9)
            lower, below = bound, grown[bound]
        return lower

    def sample_name(self, name: str) -> str:
        """Return the name of samples in the later scrape, with any namespace before it, or ""."""
        found = self._names.get(name)
        if found is None:
            every = self.after.names
            found = name if name in every else next((each for each in every if each.endswith(f"_{name}")), "")
            self._names[name] = found
        return found

    def growth(self, name: str) -> Iterator[tuple[Mapping[str, str], float]]:
        """Yield, for each sample of a counter, its labels and by how much it grew; nothing for one scrape."""
        if self.before is not None:
            yield from self.after.growth(name, self.before)

    def _histogram_name(self, *names: str) -> str:
        """Return the first of these histograms that the scrape has, with its namespace, or ""."""
        for name in names:
            for sample in self.after.names:
                if sample == f"{name}_sum" or sample.endswith(f"_{name}_sum"):
                    return sample.removesuffix("_sum")
        return ""


def _name(spec: MetricSpec) -> str:
    return f"{spec.prefix}_{spec.name}" if spec.prefix else spec.name
