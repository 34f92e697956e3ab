"""Writers: they write the values of one finished request, without a look-up and without a check."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, Protocol

from prometheus_client import Counter, Gauge, Histogram

from web_prom.metrics.mmap_writers import MmapHistogramWriter, MmapWriter
from web_prom.multiprocess.writing.shared_value import SharedValue
from web_prom.posix import at_fork
from web_prom.upstream.children import remove_callback
from web_prom.upstream.value_class import InMemoryValue
from web_prom.upstream.values import has_numbers, in_memory_write, values_of

GaugeUpdater = Callable[[int], object]
"""Adds an amount to a gauge."""

OptionalHistogram = tuple[str, Callable[[float], None]]
"""The attribute of a recording that has a measured value, and the ``observe`` of its histogram."""

WriteRequest = Callable[[float, Any], None]
"""The ``write`` of a :class:`RequestWriter`."""

_lock = Lock()
"""Held while the values of a request are written: one lock for all values, not one for each."""

# A thread of the parent that held the lock does not exist in a forked child, and could never release it
# there.
at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]


class RequestWriter(Protocol):
    """Writes the values of finished requests with one label set. Safe to share between threads."""

    def write(self, duration: float, recording: Any) -> None:
        """Write one request.

        Args:
            duration: The duration of the request, in seconds.
            recording: The recording of the request, which may have further measured values.
        """


def make_writer(
    requests: Counter | None,
    duration: Histogram,
    bounds: Sequence[float],
    optional_histograms: Sequence[OptionalHistogram],
    gauge: SharedValue | None = None,
) -> RequestWriter:
    """Return a writer for one label set.

    Args:
        requests: The child of the counter of requests, or None if the naming has no such counter.
        duration: The child of the histogram of durations.
        bounds: The upper bounds of its buckets.
        optional_histograms: Histograms of measured values, which only some configurations have.
        gauge: The shared value of the gauge of requests in progress. If all other values are shared, the
            writer decrements it under the same lock, and sets ``in_progress`` of the recording to False.
    """
    counted = [] if requests is None else values_of(requests)
    observed = values_of(duration)
    writer: RequestWriter
    if counted is None or observed is None:
        writer = PublicWriter(requests, duration)
    else:
        (count,), (total, *buckets) = counted or [None], observed
        if all(map(_is_in_memory, (*counted, *observed))):
            writer = InMemoryWriter(count, total, buckets, bounds)
        elif not all(map(_is_shared, (*counted, *observed))):
            writer = GenericWriter(count, total, buckets, bounds)
        elif count is None:
            writer = MmapHistogramWriter(total, buckets, bounds, gauge)
        else:
            writer = MmapWriter(count, total, buckets, bounds, gauge)
    return ExtendedWriter(writer, optional_histograms) if optional_histograms else writer


class GenericWriter:
    """Writes values of any class, each with its own ``inc``."""

    __slots__ = ("_bounds", "_buckets", "_count", "_sum")

    def __init__(self, count: Any, total: Any, buckets: Sequence[Any], bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._count = _ignore if count is None else count.inc
        self._sum = total.inc
        self._buckets = tuple(bucket.inc for bucket in buckets)

    def write(self, duration: float, recording: Any) -> None:
        """Write one request."""
        self._count(1.0)
        self._sum(duration)
        self._buckets[bisect_left(self._bounds, duration)](1.0)


class InMemoryWriter:
    """Writes values that are in the memory of this process, under one lock.

    Most of the time of prometheus_client's ``inc`` is its lock. Here all values share one lock. Scrapes and
    the methods of the values take the same lock.

    Args:
        count: The value of the counter of requests; None if there is none.
        total: The value of the histogram's sum.
        buckets: Its buckets.
        bounds: Their upper bounds.
    """

    __slots__ = ("write",)

    def __init__(self, count: Any, total: Any, buckets: Sequence[Any], bounds: Sequence[float]) -> None:
        self.write = in_memory_write(count, total, buckets, bounds, _lock)


class PublicWriter:
    """Writes metrics whose values are not found in this version of prometheus_client."""

    __slots__ = ("_count", "_observe")

    def __init__(self, requests: Counter | None, duration: Histogram) -> None:
        self._count = _ignore if requests is None else requests.inc
        self._observe = duration.observe

    def write(self, duration: float, recording: Any) -> None:
        """Write one request."""
        self._count(1.0)
        self._observe(duration)


class ExtendedWriter:
    """A writer that also observes the measured values that only some configurations have."""

    __slots__ = ("_optional_histograms", "_writer")

    def __init__(self, writer: RequestWriter, optional_histograms: Sequence[OptionalHistogram]) -> None:
        self._writer = writer
        self._optional_histograms = tuple(optional_histograms)

    def write(self, duration: float, recording: Any) -> None:
        """Write one request and the measured values of its recording."""
        self._writer.write(duration, recording)
        for attribute, observe in self._optional_histograms:
            value = getattr(recording, attribute, None)
            if value is not None:
                observe(value)


def gauge_updaters(gauge: Gauge, in_flight: list[int]) -> tuple[GaugeUpdater, GaugeUpdater]:
    """Return the function that adds to a gauge at the start of a request, and that for its end.

    If the value is in the memory of this process, the gauge shows the length of ``in_flight``. Appending to a
    list and removing from it are atomic for all threads, and take a fifth of the time of a lock.

    Args:
        gauge: The child of the gauge of requests in progress.
        in_flight: A list that must be the same object in each call for the same child.
    """
    values = values_of(gauge)
    if values is None:
        return gauge.inc, gauge.inc
    (value,) = values
    if _is_in_memory(value):
        gauge.set_function(in_flight.__len__)
        return in_flight.append, in_flight.pop
    remove_callback(gauge)
    if in_flight:  # requests that started before the values were shared
        value.inc(len(in_flight))
        in_flight.clear()
    return value.inc, value.inc


def shared_gauge(updater: GaugeUpdater) -> SharedValue | None:
    """Return the shared value to which an updater of :func:`gauge_updaters` adds, or None."""
    value = getattr(updater, "__self__", None)
    return value if type(value) is SharedValue else None


def _ignore(_amount: float) -> None:
    """Do nothing: there is no counter."""


def _is_in_memory(value: object) -> bool:
    return type(value) is InMemoryValue and has_numbers()


def _is_shared(value: object) -> bool:
    return type(value) is SharedValue
