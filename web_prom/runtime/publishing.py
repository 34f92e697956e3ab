"""Publication of the measurements of this process as shared values."""

from __future__ import annotations

import os
from collections.abc import Iterable
from threading import Lock

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from web_prom.multiprocess.writing.shared_value import SharedValue

Key = tuple[str, tuple[str, ...]]


class Publisher:
    """Writes families to the value files of this process.

    The value of a gauge is written as it is. Of counters and histograms, the increase is written.

    A forked child has a copy of its parent's measurements, which the parent has written. The child writes
    what is added in the child.

    Safe to share between threads and to use after a fork.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._pid = 0
        self._written: dict[Key, float] = {}
        self._values: dict[Key, SharedValue] = {}

    def publish(self, families: Iterable[Metric]) -> None:
        """Write families. If a file cannot be written, the values wait in memory, and nothing is raised."""
        # If another thread is writing, it writes the same values.
        if self._lock.acquire(blocking=False):
            try:
                self._publish(list(families))
            finally:
                self._lock.release()

    def renew_lock(self) -> None:
        """Replace the lock. In a forked child, the thread that holds it may not exist."""
        self._lock = Lock()

    def _publish(self, families: list[Metric]) -> None:
        is_child, self._pid = self._pid not in (0, os.getpid()), os.getpid()
        shown: set[Key] = set()
        for family in families:
            for sample in _as_in_files(family):
                key = (sample.name, tuple(sample.labels.values()))
                shown.add(key)
                before = self._written.get(key)
                self._written[key] = sample.value
                if family.type == "gauge":
                    self._value(key, family, sample).set(sample.value)
                elif is_child and before is not None:
                    continue  # the parent has written it
                elif before is None or sample.value != before:
                    self._value(key, family, sample).inc(sample.value - (before or 0.0))
        for key in self._written.keys() - shown:
            del self._written[key]
            value = self._values.pop(key, None)
            # The slot of this process has changed. The next process in the old slot has its own gauge.
            if value is not None and value.prefix.startswith("gauge") and not is_child:
                value.set(0.0)

    def _value(self, key: Key, family: Metric, sample: Sample) -> SharedValue:
        value = self._values.get(key)
        if value is None:
            value = self._values[key] = SharedValue(
                family.type,
                family.name,
                sample.name,
                tuple(sample.labels),
                tuple(sample.labels.values()),
                family.documentation,
                "livesum" if family.type == "gauge" else "",
            )
        return value


def _as_in_files(family: Metric) -> Iterable[Sample]:
    """Yield samples as value files have them: each bucket by itself, and no count.

    The reader adds the buckets up.
    """
    if family.type != "histogram":
        yield from family.samples
        return
    # The sum comes first, because the buckets of a label set refer to it.
    yield from (sample for sample in family.samples if sample.name.endswith("_sum"))
    below = 0.0
    for sample in family.samples:
        if sample.name.endswith("_bucket"):
            yield sample._replace(value=sample.value - below)
            below = 0.0 if sample.labels["le"] == "+Inf" else sample.value
