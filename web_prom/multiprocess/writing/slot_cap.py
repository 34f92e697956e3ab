"""The cap on label sets where values are in shared files: it counts what the slot of this process has."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client.metrics_core import Metric

from web_prom.multiprocess.file_format import entry_key
from web_prom.multiprocess.writing.process_files import Storage, current
from web_prom.multiprocess.writing.shared_value import SharedValue
from web_prom.upstream.children import family_of
from web_prom.upstream.value_class import value_class

_SUFFIXES = {"counter": "_total", "gauge": "", "histogram": "_sum", "summary": "_count"}


def first_key(family: Metric, label_names: Sequence[str], label_values: Sequence[str]) -> bytes:
    """Return the key of the first entry that a file has of a label set, given the family."""
    sample = family.name + _SUFFIXES[family.type]
    return entry_key(family.name, sample, label_names, label_values, family.documentation)


def is_in_slots() -> bool:
    """Tell whether new instruments keep their values in files of slots."""
    kind = value_class()
    return isinstance(kind, type) and issubclass(kind, SharedValue)


class Admitted:
    """The label sets of one family that the slot of this process has, or will have in a moment.

    Attributes:
        keys: Of their first entries.
        values: Those of them that were asked for, by the labels' values.
        is_complete: Whether those are among the keys that the slot had when it was taken.
    """

    def __init__(self) -> None:
        self.keys: set[bytes] = set()
        self.values: set[tuple[str, ...]] = set()
        self.is_complete = False


class SlotCap:
    """Admits label sets of a family as long as the slot of this process has fewer of them than the limit.

    The slot keeps the label sets of its former holders: they stay admitted, and are counted. A process counts
    once, when it needs the number for the first time. Safe to share between threads; after a fork the child
    counts those of its own slot. All instruments with the same name in the process share the count.

    Args:
        metric: The family; a counter or a histogram.
        label_names: Its labels.
        limit: How many label sets there may be.
        is_overflow: Tells from the labels' values whether a label set is one of those that stand for others,
            which are not counted.
    """

    def __init__(
        self,
        metric: Any,
        label_names: Sequence[str],
        limit: int,
        is_overflow: Callable[[tuple[str, ...]], bool],
    ) -> None:
        self._family = family_of(metric)
        self._label_names = tuple(label_names)
        self._limit = limit
        self._is_overflow = is_overflow
        self._start = first_key(self._family, (), ()).partition(b"{")[0]

    def admit(self, values: tuple[str, ...]) -> bool:
        """Tell whether a label set is in the slot, or there is room for it."""
        storage = current()
        admitted = storage.admitted.get(self._start)
        if admitted is not None:
            if values in admitted.values:
                return True
            if self._limit <= len(admitted.keys) == len(admitted.values):
                return False  # without its key, which takes longer
        key = first_key(self._family, self._label_names, values)
        with storage.lock:
            admitted = storage.admitted.setdefault(self._start, Admitted())
            if not admitted.is_complete:
                self._count(storage, admitted)
            if key not in admitted.keys:
                if len(admitted.keys) >= self._limit:
                    return False
                admitted.keys.add(key)
            admitted.values.add(values)
        storage.report()
        return True

    def _count(self, storage: Storage, admitted: Admitted) -> None:
        """Add what the slot has, if that can be read now."""
        if not storage.is_ready():
            return
        file = storage.existing(self._family.type)
        if file is not None:
            admitted.keys.update(key for key in file.keys(self._start) if file.has(key))
            admitted.keys.difference_update([key for key in admitted.keys if self._stands_for_others(key)])
        admitted.is_complete = True

    def _stands_for_others(self, key: bytes) -> bool:
        if b'"_overflow"' not in key:
            return False
        labels = json.loads(key)[2]
        names = self._label_names
        return set(labels) == set(names) and self._is_overflow(tuple(labels[name] for name in names))
