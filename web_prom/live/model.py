"""What is computed from snapshots: rates across resets, ratios and estimates of quantiles.

The live page computes the same in ``assets/model.js``, in functions with the same names. A snapshot has
counters that only grow, except when the service starts again. Every function here is pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from web_prom.live.snapshot import reduced

Snapshot = Mapping[str, Any]

_EMPTY: Mapping[str, Any] = {}


def growth(now: float, before: float) -> float:
    """Return by how much a counter grew. A counter that went back started again at zero."""
    return now - before if now >= before else now


def growth_of(now: Mapping[str, float], before: Mapping[str, float] | None) -> dict[str, float]:
    """Return the growth of each of several counters. A counter that is new counts whole."""
    before = before or _EMPTY
    return {name: growth(value, before.get(name, 0.0)) for name, value in now.items()}


def growth_of_counts(now: Sequence[float], before: Sequence[float] | None) -> list[float]:
    """Return the growth of each bucket of a histogram."""
    if not before or len(before) != len(now) or any(map(float.__lt__, map(float, now), map(float, before))):
        return list(now)
    return [value - former for value, former in zip(now, before, strict=True)]


def quantile(bounds: Sequence[float | None], counts: Sequence[float], wanted: float) -> float | None:
    """Estimate a quantile from the counts of buckets, as PromQL does: linear within a bucket.

    Observations above the highest bound count as that bound.

    Args:
        bounds: Upper bounds in seconds; None is infinity.
        counts: Observations in each bucket, not cumulative.
        wanted: The quantile, from 0 to 1.

    Returns:
        Seconds, or None if nothing was observed.
    """
    rank = wanted * sum(counts)
    if not any(counts):
        return None
    below = lower = 0.0
    for bound, count in zip(bounds, counts, strict=True):
        if count > 0 and below + count >= rank:
            return lower if bound is None else lower + (bound - lower) * (rank - below) / count
        below += count
        lower = lower if bound is None else bound
    return lower


def point_of(snapshot: Snapshot) -> dict[str, Any]:
    """Return the totals of a snapshot: a point of ``history.json``."""
    return reduced(dict(snapshot))


@dataclass(frozen=True, kw_only=True)
class Step:
    """What happened between two points.

    Attributes:
        time: When it ended, in seconds since the epoch.
        elapsed: Seconds.
        requests: Requests that ended.
        failed: Requests of them that ended with status 5xx.
        counts: Observations in each bucket of the duration, not cumulative.
        utilisation: The share of the capacity that was busy, or None if the capacity is not known.
        queue_mean: The mean time in the queue in seconds, or None if it is not known.
        cpu: CPU seconds of all workers in each second, or None if that is not known.
        memory: Bytes of all workers at the end, or None if that is not known.
    """

    time: float
    elapsed: float
    requests: float
    failed: float
    counts: Sequence[float]
    utilisation: float | None
    queue_mean: float | None
    cpu: float | None
    memory: float | None

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.elapsed

    @property
    def errors(self) -> float | None:
        """The share of requests that ended with status 5xx, or None if there was no request."""
        return self.failed / self.requests if self.requests else None


def between(before: Mapping[str, Any], after: Mapping[str, Any]) -> Step:
    """Return what happened between two points."""
    elapsed = max(after["time"] - before["time"], 1e-3)
    grown = growth_of(after["statuses"], before["statuses"])
    busy = growth(after["seconds"], before["seconds"])
    queued = _growth_if_known(after["queue_count"], before["queue_count"])
    waited = _growth_if_known(after["queue_seconds"], before["queue_seconds"])
    used = _growth_if_known(after["cpu_seconds"], before["cpu_seconds"])
    return Step(
        time=after["time"],
        elapsed=elapsed,
        requests=math.fsum(grown.values()),
        failed=grown.get("5xx", 0.0),
        counts=growth_of_counts(after["counts"], before["counts"]),
        utilisation=busy / elapsed / after["capacity"] if after["capacity"] else None,
        queue_mean=waited / queued if queued and waited is not None else None,
        cpu=None if used is None else used / elapsed,
        memory=after["resident_bytes"],
    )


def accumulate(steps: Sequence[Step]) -> Step | None:
    """Add up steps that follow one another, so that a reset in the middle is counted right.

    Returns:
        The sum, or None without steps.
    """
    if not steps:
        return None
    elapsed = math.fsum(step.elapsed for step in steps)
    size = len(steps[-1].counts)
    counts = [step.counts for step in steps if len(step.counts) == size]
    queued = [step.queue_mean for step in steps if step.queue_mean is not None]
    busy = [(step.utilisation, step.elapsed) for step in steps if step.utilisation is not None]
    used = [(step.cpu, step.elapsed) for step in steps if step.cpu is not None]
    return Step(
        time=steps[-1].time,
        elapsed=elapsed,
        requests=math.fsum(step.requests for step in steps),
        failed=math.fsum(step.failed for step in steps),
        counts=[math.fsum(column) for column in zip(*counts, strict=True)],
        utilisation=_weighted(busy),
        queue_mean=math.fsum(queued) / len(queued) if queued else None,
        cpu=_weighted(used),
        memory=steps[-1].memory,
    )


@dataclass(frozen=True, kw_only=True)
class RouteRow:
    """What a route did between two snapshots, or since the service started.

    Attributes:
        method, route: The route.
        requests: Requests that ended.
        seconds: The sum of their durations.
        rate: Requests per second; None without an earlier snapshot.
        errors: The share that ended with status 5xx; None without requests.
        p50, p95, p99: Estimates of quantiles in seconds; None without requests.
        queries: Database queries per request; None if they are not measured.
        repeated: Repeated queries per request; None if they are not measured.
        exceptions: Exceptions by type.
        share: The share of the time of all routes; None if there was none.
    """

    method: str
    route: str
    requests: float
    seconds: float
    rate: float | None
    errors: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    queries: float | None
    repeated: float | None
    exceptions: Mapping[str, float] = field(default_factory=dict)
    share: float | None = None

    @property
    def key(self) -> str:
        """The method and the route."""
        return f"{self.method} {self.route}".strip()


def key_of(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return what identifies a row of the section ``requests``."""
    return row["method"], row["route"]


def route_table(now: Mapping[str, Any], before: Mapping[str, Any] | None, elapsed: float) -> list[RouteRow]:
    """Return the table of routes: what each did between two snapshots, or since the service started.

    Args:
        now: The section ``requests`` of the later snapshot.
        before: That of the earlier one, if there is one.
        elapsed: Seconds between the two.
    """
    former = {key_of(row): row for row in before["routes"]} if before else {}
    whole = math.fsum(_seconds(row, former) for row in now["routes"])
    rows = [_route_row(row, former, now["buckets"], elapsed, whole) for row in now["routes"]]
    return [row for row in rows if row.requests > 0 or before is None]


def _route_row(
    row: Mapping[str, Any],
    former: Mapping[tuple[str, str], Mapping[str, Any]],
    bounds: Sequence[float | None],
    elapsed: float,
    whole: float,
) -> RouteRow:
    earlier = former.get(key_of(row), _EMPTY)
    statuses = growth_of(row["statuses"], earlier.get("statuses"))
    counts = growth_of_counts(row["counts"], earlier.get("counts"))
    requests = math.fsum(statuses.values())
    seconds = _seconds(row, former)

    def per_request(member: str) -> float | None:
        grown = _growth_if_known(row.get(member), earlier.get(member))
        return grown / requests if grown is not None and requests else None

    failed = math.fsum(value for status, value in statuses.items() if status >= "5")
    return RouteRow(
        method=row["method"],
        route=row["route"],
        requests=requests,
        seconds=seconds,
        rate=requests / elapsed if elapsed else None,
        errors=failed / requests if requests else None,
        p50=quantile(bounds, counts, 0.5),
        p95=quantile(bounds, counts, 0.95),
        p99=quantile(bounds, counts, 0.99),
        queries=per_request("queries"),
        repeated=per_request("repeated_queries"),
        exceptions=growth_of(row["exceptions"], earlier.get("exceptions")),
        share=seconds / whole if whole else None,
    )


def exception_table(rows: Iterable[RouteRow]) -> list[tuple[str, float, RouteRow]]:
    """Return exceptions of all routes with their counts, the most frequent first."""
    found = [(name, count, row) for row in rows for name, count in row.exceptions.items() if count > 0]
    return sorted(found, key=lambda each: -each[1])


def _seconds(row: Mapping[str, Any], former: Mapping[tuple[str, str], Mapping[str, Any]]) -> float:
    return growth(row["seconds"], former.get(key_of(row), _EMPTY).get("seconds", 0.0))


def _growth_if_known(now: float | None, before: float | None) -> float | None:
    return None if now is None else growth(now, before or 0.0)


def _weighted(values: Sequence[tuple[float, float]]) -> float | None:
    """Return the mean of values with the seconds that each stands for."""
    seconds = math.fsum(length for _, length in values)
    return math.fsum(value * length for value, length in values) / seconds if seconds else None
