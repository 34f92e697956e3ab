"""What a request writes: the values of its instruments, bound once, without a look-up or a check left."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, Protocol

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.values import MutexValue

from web_prom.multiprocess.writing.process_files import Storage, current
from web_prom.multiprocess.writing.shared_value import NOWHERE, SharedValue
from web_prom.multiprocess.writing.value_file import Held, ValueFile
from web_prom.posix import at_fork

GaugeUpdater = Callable[[int], object]
Measure = tuple[str, Callable[[float], None]]

_lock = Lock()
"""Held by whoever writes the values of a request: one lock, in the place of one for each value."""

# A thread of the parent that held it does not exist in a forked child, and would never let it go there.
at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]


class RequestWriter(Protocol):
    """The values that a finished request of one label set writes. Safe to share between threads."""

    def write(self, duration: float, recording: Any) -> None:
        """Write one request.

        Args:
            duration: How long it took, in seconds.
            recording: What else was measured of it.
        """


def make_writer(
    requests: Counter | None, duration: Histogram, bounds: Sequence[float], measures: Sequence[Measure]
) -> RequestWriter:
    """Return what writes to the children of one label set.

    Args:
        requests: Of the counter of requests, where there is one.
        duration: Of the histogram of their duration.
        bounds: The upper bounds of its buckets.
        measures: For each further histogram, the field of the recording and the child's ``observe``.
    """
    values = (*([requests._value] if requests else []), duration._sum, *duration._buckets)
    cells: RequestWriter
    if all(map(_is_local, values)):
        cells = (
            InMemoryWriter(requests, duration, bounds)
            if requests
            else InMemoryHistogramWriter(duration, bounds)
        )
    elif all(map(_is_shared, values)):
        cells = MmapWriter(requests, duration, bounds) if requests else MmapHistogramWriter(duration, bounds)
    else:
        cells = GenericWriter(requests, duration, bounds)
    return ExtendedWriter(cells, measures) if measures else cells


class GenericWriter:
    """Values of any kind, each written by its own ``inc``."""

    __slots__ = ("_bounds", "_buckets", "_count", "_sum")

    def __init__(self, requests: Counter | None, duration: Histogram, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._count = requests._value.inc if requests else _count_nothing
        self._sum = duration._sum.inc
        self._buckets = tuple(bucket.inc for bucket in duration._buckets)

    def write(self, duration: float, recording: Any) -> None:
        """Write one request."""
        self._count(1.0)
        self._sum(duration)
        self._buckets[bisect_left(self._bounds, duration)](1.0)


class InMemoryHistogramWriter:
    """Values of this process alone, written together under one lock, where the histogram is all there is.

    Most of what prometheus_client's ``inc`` costs is its lock. Here all values share one, which a scrape
    and their own methods take too.
    """

    __slots__ = ("_bounds", "_buckets", "_sum")

    def __init__(self, duration: Histogram, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._sum = duration._sum
        self._buckets = tuple(duration._buckets)
        for value in (self._sum, *self._buckets):
            value._lock = _lock

    def write(self, duration: float, recording: Any) -> None:
        """Write one request."""
        bucket = self._buckets[bisect_left(self._bounds, duration)]
        with _lock:
            self._sum._value += duration
            bucket._value += 1.0


class InMemoryWriter(InMemoryHistogramWriter):
    """The same, with a counter of requests."""

    __slots__ = ("_count",)

    def __init__(self, requests: Counter, duration: Histogram, bounds: Sequence[float]) -> None:
        super().__init__(duration, bounds)
        self._count = requests._value
        self._count._lock = _lock

    def write(self, duration: float, recording: Any) -> None:
        """Write one request."""
        bucket = self._buckets[bisect_left(self._bounds, duration)]
        with _lock:
            self._count._value += 1.0
            self._sum._value += duration
            bucket._value += 1.0


class MmapHistogramWriter:
    """Values in the files that workers share, written together, where the histogram is all there is.

    It knows where in the files they are, while this is the same process and none of them waits in memory.
    """

    __slots__ = ("_at", "_bounds", "_buckets", "_histograms", "_sum")

    def __init__(self, duration: Histogram, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._sum: Any = duration._sum
        self._buckets: tuple[Any, ...] = tuple(duration._buckets)
        # Where nothing is written without asking the storage; the next write finds the places.
        self._histograms: ValueFile | Held = NOWHERE
        self._at: tuple[int, tuple[int, ...]] = 0, ()

    def write(self, duration: float, recording: Any) -> None:
        """Write one request."""
        histograms = self._histograms
        if not histograms.here[0]:
            self._write_slowly(duration)
            return
        sum_at, buckets_at = self._at
        bucket_at = buckets_at[bisect_left(self._bounds, duration)]
        with histograms.lock:
            view = histograms.view
            view[sum_at] += duration
            view[bucket_at] += 1.0
            view[sum_at + 1] += 1.0  # the mark, as SharedValue.inc does

    def _write_slowly(self, duration: float) -> None:
        total, bucket = self._sum, self._buckets[bisect_left(self._bounds, duration)]
        storage = current()
        with storage.lock:
            if self._histograms.owner is not storage:
                self._find(storage)
            total.inc(duration)
            bucket.inc(1.0)
        storage.report()

    def _find(self, storage: Storage) -> None:
        """Remember where the values are, unless one of them is in memory."""
        cells = (self._sum, *self._buckets)
        if not any(isinstance(storage.attach(cell), Held) for cell in cells):
            self._at = self._sum.at, tuple(bucket.at for bucket in self._buckets)
            self._histograms = self._sum.file  # last, as other threads go by it


class MmapWriter:
    """Values in the files that workers share, written together: a counter of requests and a histogram.

    It knows where in the files they are, while this is the same process and none of them waits in memory.
    """

    __slots__ = ("_at", "_bounds", "_buckets", "_count", "_counters", "_histograms", "_sum")

    def __init__(self, requests: Counter, duration: Histogram, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._count: Any = requests._value
        self._sum: Any = duration._sum
        self._buckets: tuple[Any, ...] = tuple(duration._buckets)
        # Where nothing is written without asking the storage; the next write finds the places.
        self._counters: ValueFile | Held = NOWHERE
        self._histograms: ValueFile | Held = NOWHERE
        self._at: tuple[int, int, tuple[int, ...]] = 0, 0, ()

    def write(self, duration: float, recording: Any) -> None:
        """Write one request."""
        counters = self._counters
        if not counters.here[0]:
            self._write_slowly(duration)
            return
        count_at, sum_at, buckets_at = self._at
        at = buckets_at[bisect_left(self._bounds, duration)]
        with counters.lock:
            counters.view[count_at] += 1.0
            view = self._histograms.view
            view[sum_at] += duration
            view[at] += 1.0
            view[sum_at + 1] += 1.0  # the mark, as SharedValue.inc does

    def _write_slowly(self, duration: float) -> None:
        total, bucket = self._sum, self._buckets[bisect_left(self._bounds, duration)]
        storage = current()
        with storage.lock:
            if self._counters.owner is not storage:
                self._find(storage)
            self._count.inc(1.0)
            total.inc(duration)
            bucket.inc(1.0)
        storage.report()

    def _find(self, storage: Storage) -> None:
        """Remember where the values are, unless one of them is in memory."""
        cells = (self._count, self._sum, *self._buckets)
        if not any(isinstance(storage.attach(cell), Held) for cell in cells):
            self._at = self._count.at, self._sum.at, tuple(bucket.at for bucket in self._buckets)
            self._histograms = self._sum.file
            self._counters = self._count.file  # last, as other threads go by it


class ExtendedWriter:
    """RequestWriter, and the histograms that only some configurations ask for."""

    __slots__ = ("_cells", "_measures")

    def __init__(self, cells: RequestWriter, measures: Sequence[Measure]) -> None:
        self._cells = cells
        self._measures = tuple(measures)

    def write(self, duration: float, recording: Any) -> None:
        """Write one request, and what its recording measured."""
        self._cells.write(duration, recording)
        for field, observe in self._measures:
            value = getattr(recording, field, None)
            if value is not None:
                observe(value)


def gauge_updaters(gauge: Gauge, in_flight: list[int]) -> tuple[GaugeUpdater, GaugeUpdater]:
    """Return what takes a gauge up, called with 1, and what takes it down, called with -1.

    The gauge of a process alone shows the length of ``in_flight``: a list grows and shrinks in one piece
    for all threads, in a fifth of the time of a lock.

    Args:
        gauge: The child that shows the requests in progress.
        in_flight: The same list for the same child each time.
    """
    if _is_local(gauge._value):
        gauge.set_function(in_flight.__len__)
        return in_flight.append, in_flight.pop
    vars(gauge).pop("_child_samples", None)  # ends set_function()
    if in_flight:  # they began before the values were shared
        gauge._value.inc(len(in_flight))
        in_flight.clear()
    return gauge._value.inc, gauge._value.inc


def _count_nothing(_amount: float) -> None:
    """Stand for the counter that there is not."""


def _is_local(value: object) -> bool:
    return type(value) is MutexValue


def _is_shared(value: object) -> bool:
    return type(value) is SharedValue
