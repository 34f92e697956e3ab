"""Merging of gauges: the rule of each multiprocess mode."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from web_prom.multiprocess.reading.merged_family import MergedFamily
from web_prom.multiprocess.reading.model import REMOVED_ENTRY, LabelSet, Series


class SumGauge(MergedFamily):
    """Modes ``sum`` and ``livesum``. Base of the other modes."""

    def file_samples(self, column: int) -> Iterable[tuple[Any, ...]]:
        """Return the samples of one file, with the ``pid`` of its process."""
        pid = (("pid", self.columns.owners[column]),)
        for name, labels, value in super().file_samples(column):
            yield name, labels + pid, value

    def _present(self, label_set: LabelSet) -> list[Any]:
        """Return the values that exist, in the order of the files."""
        values = label_set.values
        found = [values[column] for column in self.columns.order if values[column] is not None]
        return [value for value in found if value is not REMOVED_ENTRY] if label_set.was_removed else found


class AllGauge(SumGauge):
    """Modes ``all`` and ``liveall``: a sample for each process."""

    is_single = False

    def merge(self, label_set: LabelSet) -> tuple[float, ...]:
        """Return the value of each process."""
        return tuple(self._by_owner(label_set).values())

    def series(self, label_set: LabelSet) -> Sequence[Series]:
        """Return the name and the labels of each process's sample, including ``pid``."""
        labels = tuple(item for item in label_set.labels if item[0] != "pid")
        return [
            (label_set.name, tuple(sorted((*labels, ("pid", owner))))) for owner in self._by_owner(label_set)
        ]

    def _by_owner(self, label_set: LabelSet) -> dict[str, float]:
        values, owners = label_set.values, self.columns.owners
        return {
            owners[column]: values[column]
            for column in self.columns.order
            if values[column] is not None and values[column] is not REMOVED_ENTRY
        }


class MinGauge(SumGauge):
    """Modes ``min`` and ``livemin``."""

    def merge(self, label_set: LabelSet) -> tuple[float, ...]:
        """Return the minimum."""
        return (min(self._present(label_set)),)


class MaxGauge(SumGauge):
    """Modes ``max`` and ``livemax``."""

    def merge(self, label_set: LabelSet) -> tuple[float, ...]:
        """Return the maximum."""
        return (max(self._present(label_set)),)


class MostRecentGauge(SumGauge):
    """Modes ``mostrecent`` and ``livemostrecent``. A row is a value and its timestamp, zero if never set."""

    def merge(self, label_set: LabelSet) -> tuple[float, ...]:
        """Return the value with the latest timestamp. Return nothing if no process has set a value."""
        found: tuple[float, ...] = ()
        latest = 0.0
        for value, timestamp in self._present(label_set):
            if latest < timestamp:
                found, latest = (value,), timestamp
        return found

    def file_samples(self, column: int) -> Iterable[tuple[Any, ...]]:
        """Return the samples of one file with their timestamps."""
        for name, labels, (value, timestamp) in super().file_samples(column):
            yield name, labels, value, timestamp
