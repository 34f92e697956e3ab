"""The limit on the label sets of a family in the slot of this process, where values are shared."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client.metrics_core import Metric

from web_prom.multiprocess.file_format import entry_key
from web_prom.multiprocess.writing.current_storage import process_storage
from web_prom.multiprocess.writing.process_files import ProcessStorage
from web_prom.multiprocess.writing.shared_value import SharedValue
from web_prom.upstream.children import family_of, has_removal, multiprocess_mode
from web_prom.upstream.value_class import value_class

_SUFFIXES = {"counter": "_total", "gauge": "", "histogram": "_sum", "summary": "_count"}


def first_key(family: Metric, label_names: Sequence[str], label_values: Sequence[str]) -> bytes:
    """Return the key of the first entry that a label set has in a file."""
    sample = family.name + _SUFFIXES[family.type]
    return entry_key(family.name, sample, label_names, label_values, family.documentation)


def is_in_slots() -> bool:
    """Return whether new metrics keep their values in files of slots.

    :func:`web_prom.multiprocess.writing.activation.is_shared` is true for files of process ids too.
    """
    kind = value_class()
    return isinstance(kind, type) and issubclass(kind, SharedValue)


class AdmittedLabelSets:
    """The label sets of one family that are in the slot of this process, or are about to be written to it.

    Attributes:
        keys: The keys of their first entries.
        values: The values of the labels, of those label sets that were asked for.
        former_are_loaded: Whether ``keys`` includes the label sets of former holders of the slot.
    """

    def __init__(self) -> None:
        self.keys: set[bytes] = set()
        self.values: set[tuple[str, ...]] = set()
        self.former_are_loaded = False


class SlotLimiter:
    """Admits label sets of a family while the slot of this process has fewer of them than the limit.

    The label sets of former holders stay in the slot. They are admitted, and are counted. A process counts
    them once, when it needs the number for the first time. Safe to share between threads. After a fork the
    child counts the label sets of its own slot. All metrics of the same name in the process share the count.

    Args:
        metric: The metric.
        label_names: The names of its labels.
        limit: The maximum number of label sets.
        is_overflow: Returns whether label values are those of an overflow label set, which is not counted.
    """

    def __init__(
        self,
        metric: Any,
        label_names: Sequence[str],
        limit: int,
        is_overflow: Callable[[tuple[str, ...]], bool],
    ) -> None:
        self._family = family_of(metric)
        kind = self._family.type
        self._file_prefix = (
            f"gauge_{multiprocess_mode(metric)}" if kind == "gauge" and has_removal() else kind
        )
        self._label_names = tuple(label_names)
        self._limit = limit
        self._is_overflow = is_overflow
        self._key_prefix = first_key(self._family, (), ()).partition(b"{")[0]

    def admit(self, values: tuple[str, ...]) -> bool:
        """Return whether a label set is in the slot, or there is room for it."""
        storage = process_storage()
        admitted = storage.admitted.get(self._key_prefix)
        if admitted is not None:
            if values in admitted.values:
                return True
            if self._limit <= len(admitted.keys) == len(admitted.values):
                return False  # without computing the key, which takes longer
        key = first_key(self._family, self._label_names, values)
        with storage.lock:
            admitted = storage.admitted.setdefault(self._key_prefix, AdmittedLabelSets())
            if not admitted.former_are_loaded:
                self._add_former(storage, admitted)
            if key not in admitted.keys:
                if len(admitted.keys) >= self._limit:
                    return False
                admitted.keys.add(key)
            admitted.values.add(values)
        storage.log_errors()
        return True

    def _add_former(self, storage: ProcessStorage, admitted: AdmittedLabelSets) -> None:
        """Add the label sets of former holders of the slot, if the file can be read now."""
        if not storage.has_slot():
            return
        file = storage.existing_file(self._file_prefix)
        if file is not None:
            admitted.keys.update(key for key in file.keys(self._key_prefix) if file.has(key))
            admitted.keys.difference_update([key for key in admitted.keys if self._is_overflow_key(key)])
        admitted.former_are_loaded = True

    def _is_overflow_key(self, key: bytes) -> bool:
        if b'"_overflow"' not in key:
            return False
        labels = json.loads(key)[2]
        names = self._label_names
        return set(labels) == set(names) and self._is_overflow(tuple(labels[name] for name in names))
