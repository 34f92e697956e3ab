"""Writers of values in the files that all workers share. They take the lock of the files once per request."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from web_prom.multiprocess.writing.current_storage import process_storage
from web_prom.multiprocess.writing.pending_value import UNATTACHED, PendingValue
from web_prom.multiprocess.writing.process_files import ProcessStorage
from web_prom.multiprocess.writing.shared_value import SharedValue
from web_prom.multiprocess.writing.value_file import ValueFile


class MmapHistogramWriter:
    """Writes a histogram, and decrements the gauge of requests in progress.

    It keeps the positions of the histogram's values in the mapped file. They are valid while the process is
    the same and no value waits in memory.

    Args:
        total: The value of the histogram's sum.
        buckets: Its buckets.
        bounds: Their upper bounds.
        gauge: The value of the gauge; None if the caller decrements it, or if there is none.
    """

    __slots__ = ("_bounds", "_buckets", "_gauge", "_histograms", "_positions", "_sum")

    def __init__(
        self, total: Any, buckets: Sequence[Any], bounds: Sequence[float], gauge: SharedValue | None = None
    ) -> None:
        self._bounds = bounds
        self._sum = total
        self._buckets = tuple(buckets)
        self._gauge = gauge
        # With this value, the first write goes through the storage of the process and finds the positions.
        self._histograms: ValueFile | PendingValue = UNATTACHED
        self._positions: tuple[Any, ...] = ()

    def write(self, duration: float, recording: Any) -> None:
        """Write one request. ``in_progress`` of the recording is false when the gauge is decremented."""
        histograms = self._histograms
        if not histograms.guard[0]:
            self._write_through_storage(duration, recording)
            return
        sum_at, buckets_at = self._positions
        bucket_at = buckets_at[bisect_left(self._bounds, duration)]
        gauge = self._gauge
        with histograms.lock:
            if gauge is not None:
                # No signal handler runs between these two lines, so the gauge is decremented once.
                gauge.file.view[gauge.position] -= 1.0
                recording.in_progress = False
            view = histograms.view
            view[sum_at] += duration
            view[bucket_at] += 1.0
            view[sum_at + 1] += 1.0  # the revision, as SharedValue.inc does

    def _write_through_storage(self, duration: float, recording: Any) -> None:
        storage = process_storage()
        gauge = self._gauge
        with storage.lock:
            if gauge is not None:
                gauge_file = storage.attach(gauge)
                gauge_file.view[gauge.position] -= 1.0
                recording.in_progress = False
            if self._histograms.owner is not storage and self._attach(storage):
                self._keep_positions()
            self._inc_values(duration)
        storage.log_errors()

    def _attach(self, storage: ProcessStorage) -> bool:
        """Attach the values to the storage, and tell whether all of them are in its files."""
        return not any(
            isinstance(storage.attach(value), PendingValue) for value in (self._sum, *self._buckets)
        )

    def _keep_positions(self) -> None:
        self._positions = self._sum.position, tuple(bucket.position for bucket in self._buckets)
        self._histograms = self._sum.file  # last, because other threads then use the positions

    def _inc_values(self, duration: float) -> None:
        self._sum.inc(duration)
        self._buckets[bisect_left(self._bounds, duration)].inc(1.0)


class MmapWriter(MmapHistogramWriter):
    """Also writes a counter of requests. The files of a process have one lock.

    Args:
        count: The value of the counter.
        total, buckets, bounds, gauge: See :class:`MmapHistogramWriter`.
    """

    __slots__ = ("_count", "_counters")

    def __init__(
        self,
        count: Any,
        total: Any,
        buckets: Sequence[Any],
        bounds: Sequence[float],
        gauge: SharedValue | None = None,
    ) -> None:
        super().__init__(total, buckets, bounds, gauge)
        self._count = count
        self._counters: ValueFile | PendingValue = UNATTACHED

    def write(self, duration: float, recording: Any) -> None:
        """Write one request. ``in_progress`` of the recording is false when the gauge is decremented."""
        histograms = self._histograms
        if not histograms.guard[0]:
            self._write_through_storage(duration, recording)
            return
        count_at, sum_at, buckets_at = self._positions
        bucket_at = buckets_at[bisect_left(self._bounds, duration)]
        gauge = self._gauge
        with histograms.lock:
            if gauge is not None:
                # No signal handler runs between these two lines, so the gauge is decremented once.
                gauge.file.view[gauge.position] -= 1.0
                recording.in_progress = False
            self._counters.view[count_at] += 1.0
            view = histograms.view
            view[sum_at] += duration
            view[bucket_at] += 1.0
            view[sum_at + 1] += 1.0  # the revision, as SharedValue.inc does

    def _attach(self, storage: ProcessStorage) -> bool:
        return not isinstance(storage.attach(self._count), PendingValue) and super()._attach(storage)

    def _keep_positions(self) -> None:
        self._positions = (
            self._count.position,
            self._sum.position,
            tuple(bucket.position for bucket in self._buckets),
        )
        self._counters = self._count.file
        self._histograms = self._sum.file  # last, because other threads then use the positions

    def _inc_values(self, duration: float) -> None:
        self._count.inc(1.0)
        super()._inc_values(duration)
