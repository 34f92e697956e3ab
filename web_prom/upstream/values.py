"""The values of metrics: where they are, and how several in memory are written together."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from operator import attrgetter
from threading import Lock
from typing import Any

from prometheus_client import Counter, Gauge, Histogram, Summary
from prometheus_client.metrics import MetricWrapperBase

from web_prom.upstream.checks import PROBE, checked
from web_prom.upstream.value_class import InMemoryValue, throwaway_values

number_of: Callable[[Any], Any] = attrgetter("_value")
"""Return the number of a value in memory, without its lock: after :func:`has_numbers`."""

exemplar_of: Callable[[Any], Any] = attrgetter("_exemplar")
"""Return the exemplar of a value in memory, without its lock: after :func:`has_numbers`."""


@checked("values of metrics", "requests are recorded and scraped by slower methods")
def has_values() -> bool:
    """Check :func:`values_of`. Without it, metrics are written by ``inc()`` and ``observe()``."""
    with throwaway_values():
        counter, gauge = Counter(PROBE, "", registry=None), Gauge(PROBE, "", registry=None)
        summary = Summary(PROBE, "", registry=None)
        histogram = Histogram(PROBE, "", registry=None, buckets=(1,))
    counter.inc(2)
    gauge.set(3)
    summary.observe(4)
    histogram.observe(0.5)
    histogram.observe(5)
    numbers = [[value.get() for value in _values_of(each)] for each in (counter, gauge, summary, histogram)]
    return numbers == [[2.0], [3.0], [1.0, 4.0], [5.5, 1.0, 1.0]]


def values_of(metric: Any) -> list[Any] | None:
    """Return the values of a child, or of a metric without labels.

    None if :func:`has_values` fails, or if it is no metric of prometheus_client.

    That is: the value of a counter or a gauge; the count and the sum of a summary; the sum and the buckets
    of a histogram.
    """
    return _values_of(metric) if isinstance(metric, MetricWrapperBase) and has_values() else None


def _values_of(metric: Any) -> list[Any]:
    if isinstance(metric, Histogram):
        return [metric._sum, *metric._buckets]
    if isinstance(metric, Summary):
        return [metric._count, metric._sum]
    return [metric._value]


@checked("method that makes values", "metrics that exist before the values are shared are not shared")
def has_new_values() -> bool:
    """Check :func:`make_new_values`. Without it, only new metrics have values of another class."""
    with throwaway_values() as made:
        metric = Counter(PROBE, "", registry=None)
        before = _values_of(metric)
        make_new_values(metric)
        return len(made) == 2 and _values_of(metric) != before


def make_new_values(metric: Any) -> None:
    """Have a child, or a metric without labels, make its values once more: of the present value class."""
    metric._metric_init()


@checked("numbers of values in memory", "requests are recorded and scraped by slower methods")
def has_numbers() -> bool:
    """Check number, lock and exemplar of a value in memory. Without it, the value's methods are called."""
    lock = _CountedLock()
    value = InMemoryValue("gauge", PROBE, PROBE, (), (), "")
    value._lock = lock
    value.inc(2)
    value._value += 1.0
    value.set_exemplar(lock)
    return bool(value.get() == number_of(value) == 3.0 and exemplar_of(value) is lock and lock.taken == 3)


class _CountedLock:
    def __init__(self) -> None:
        self.taken = 0

    def __enter__(self) -> None:
        self.taken += 1

    def __exit__(self, *error: object) -> None:
        """Do nothing."""


def in_memory_write(
    count: Any, total: Any, buckets: Sequence[Any], bounds: Sequence[float], lock: Lock
) -> Callable[[float, object], None]:
    """Return what writes an observation to values in memory, which share one lock from now on.

    Most of what prometheus_client's ``inc`` costs is the lock of each value. Call this after
    :func:`has_numbers`. What is returned takes the amount, and another argument that it ignores.

    Args:
        count: The value of a counter; None if there is none.
        total: The value of the histogram's sum.
        buckets: Its buckets.
        bounds: Their upper bounds.
        lock: The lock. A scrape and the values' own methods take it, too.
    """
    buckets = tuple(buckets)
    for value in (*([] if count is None else [count]), total, *buckets):
        value._lock = lock

    def write(amount: float, _: object) -> None:
        bucket = buckets[bisect_left(bounds, amount)]
        with lock:
            total._value += amount
            bucket._value += 1.0

    def count_and_write(amount: float, _: object) -> None:
        bucket = buckets[bisect_left(bounds, amount)]
        with lock:
            count._value += 1.0
            total._value += amount
            bucket._value += 1.0

    return write if count is None else count_and_write
