"""The base of what records operations inside of requests: queries, cache operations, outgoing calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from web_prom.metrics.families import MetricFamilies
from web_prom.metrics.limited_metric import LimitedMetric
from web_prom.metrics.recorder import Recorder
from web_prom.metrics.writers import make_writer

Write = Callable[[float, object], object]
"""Writes an observation to a histogram. The second argument is ignored."""


class OperationRecorder:
    """Finds the children that operations of one application write. Safe to share between threads.

    A subclass keeps the children that it found, and drops them in :meth:`drop_writers`. This is called when
    values become shared, when the families of the registry were replaced, and in a forked child, which has
    another slot.

    Args:
        recorder: The recorder of the application. It must keep this object alive, because the families refer
            to it weakly.

    Attributes:
        recorder: As given.
        families: The families of its registry.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.families: MetricFamilies = recorder.families
        self.drop_writers()
        self.families.recorders.add(self)

    def drop_writers(self) -> None:
        """Drop all children and writers. The next operations look them up again."""
        raise NotImplementedError

    def rebind_values(self) -> None:
        """Drop all children and writers: the metrics or the values of the registry were replaced."""
        self.drop_writers()

    def on_scrape(self) -> None:
        """Write what is read at a scrape. Here it is nothing: an operation is observed when it ends."""

    def histogram_write(
        self, family: LimitedMetric, attributes: Mapping[str, str], bounds: Sequence[float]
    ) -> tuple[Write, bool]:
        """Return what writes to a label set of a histogram, and whether it may be kept under its own key.

        It may not be kept if it is the overflow label set.

        Args:
            family: The family, of :meth:`MetricFamilies.limited_family`.
            attributes: The values of its labels by attribute.
            bounds: The upper bounds of its buckets.
        """
        child, overflow = self.recorder.child_without_extra(family, attributes)
        return make_writer(None, child, bounds, ()).write, not overflow

    def counter_inc(
        self, family: LimitedMetric, attributes: Mapping[str, str]
    ) -> tuple[Callable[[float], Any], bool]:
        """Return the ``inc`` of a label set of a counter, and whether it may be kept under its own key."""
        child, overflow = self.recorder.child_without_extra(family, attributes)
        return child.inc, not overflow
