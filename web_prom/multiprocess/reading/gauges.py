"""Gauges as they are merged: for each mode, what the values of several processes make together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from web_prom.multiprocess.reading.merged_family import GONE, Family, LabelSet, Series


class _Gauge(Family):
    """A gauge whose processes are merged into one value."""

    def present(self, label_set: LabelSet) -> list[Any]:
        """Return the values that there are, in the order of the files."""
        values = label_set.values
        found = [values[column] for column in self.kind.order if values[column] is not None]
        return [value for value in found if value is not GONE] if label_set.removed else found

    def raw(self, column: int) -> Iterable[tuple[Any, ...]]:
        """Return what one file says, with the ``pid`` of its process."""
        pid = (("pid", self.kind.owners[column]),)
        for name, labels, value in super().raw(column):
            yield name, labels + pid, value


class GaugeOfAll(_Gauge):
    """Modes ``all`` and ``liveall``: a sample for each process."""

    is_single = False

    def merged(self, label_set: LabelSet) -> tuple[float, ...]:
        """Return each process's value."""
        return tuple(self._by_owner(label_set).values())

    def series(self, label_set: LabelSet) -> Sequence[Series]:
        """Return the name and labels for each process, its ``pid`` among them."""
        labels = tuple(item for item in label_set.labels if item[0] != "pid")
        return [
            (label_set.name, tuple(sorted((*labels, ("pid", owner))))) for owner in self._by_owner(label_set)
        ]

    def _by_owner(self, label_set: LabelSet) -> dict[str, float]:
        values, owners = label_set.values, self.kind.owners
        return {
            owners[column]: values[column]
            for column in self.kind.order
            if values[column] is not None and values[column] is not GONE
        }


class LeastGauge(_Gauge):
    """Modes ``min`` and ``livemin``."""

    def merged(self, label_set: LabelSet) -> tuple[float, ...]:
        """Return the least value."""
        return (min(self.present(label_set)),)


class GreatestGauge(_Gauge):
    """Modes ``max`` and ``livemax``."""

    def merged(self, label_set: LabelSet) -> tuple[float, ...]:
        """Return the greatest value."""
        return (max(self.present(label_set)),)


class SumOfGauges(_Gauge):
    """Modes ``sum`` and ``livesum``."""


class LatestGauge(_Gauge):
    """Modes ``mostrecent`` and ``livemostrecent``; the rows are value and timestamp, zero if never set."""

    def merged(self, label_set: LabelSet) -> tuple[float, ...]:
        """Return the value with the latest timestamp, if one was ever set."""
        found: tuple[float, ...] = ()
        latest = 0.0
        for value, timestamp in self.present(label_set):
            if latest < timestamp:
                found, latest = (value,), timestamp
        return found

    def raw(self, column: int) -> Iterable[tuple[Any, ...]]:
        """Return what one file says, with timestamps."""
        for name, labels, (value, timestamp) in super().raw(column):
            yield name, labels, value, timestamp
