"""The value class: keeps a number of a prometheus_client metric where each process can scrape it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from web_prom.multiprocess.file_format import REMOVED_VALUES, entry_key
from web_prom.multiprocess.writing.current_storage import process_storage
from web_prom.multiprocess.writing.definitions import check_label_names
from web_prom.multiprocess.writing.pending_value import UNATTACHED, PendingValue, RemovedValue
from web_prom.multiprocess.writing.process_files import ProcessStorage
from web_prom.multiprocess.writing.value_file import ValueFile


class SharedValue:
    """One number of one label set, in a file of the slot that this process holds.

    prometheus_client creates instances in the place of its own values. The number is only in the file, which
    is mapped into memory. So a killed process loses nothing, and the next holder of its slot continues
    from there.

    Safe to share between threads. After a fork, the value of the child moves to the child's own file at its
    next use. While the disk is full, the number is in memory and the failure is counted in
    ``web_prom_storage_errors_total``. It is written when there is room. No method raises an exception for
    that.

    Attributes:
        file: Where the number is.
        position: The index of the number in the file's ``view``.
        revision_position: For a bucket of a histogram, the index of the number that counts the writes to all
            its buckets (the revision); else 0.
        prefix: How the name of the file begins.
        key: The key of the entry in the file.
        sum_key: For a bucket, the key of the histogram's sum; else None.
    """

    __slots__ = ("file", "key", "position", "prefix", "revision_position", "sum_key")

    _multiprocess = True

    def __init__(  # noqa: PLR0917 - prometheus_client passes them by position
        self,
        typ: str,
        metric_name: str,
        name: str,
        labelnames: Sequence[str],
        labelvalues: Sequence[str],
        help_text: str,
        multiprocess_mode: str = "",
        **kwargs: Any,
    ) -> None:
        names, values = tuple(labelnames), tuple(labelvalues)
        check_label_names(metric_name, names)
        self.prefix = f"{typ}_{multiprocess_mode}" if typ == "gauge" else typ
        self.key = entry_key(metric_name, name, names, values, help_text)
        self.sum_key: bytes | None = None
        if typ == "histogram" and "le" in names:
            le = names.index("le")
            others = names[:le] + names[le + 1 :], values[:le] + values[le + 1 :]
            self.sum_key = _sum_key(metric_name, *others, help_text)
        self.file: ValueFile | PendingValue = UNATTACHED
        self.position = self.revision_position = 0
        if multiprocess_mode.endswith(("min", "max")):
            self.__class__ = _ExtremeValue
        # A label set is in scrapes as soon as it is created.
        self._through_storage(self._read)

    # The first lines of these three methods are the same. A function for them would take half as long again.

    def inc(self, amount: float) -> None:
        """Add an amount to the number."""
        file = self.file
        if not file.guard[0]:
            self._through_storage(self._add, amount)
            return
        with file.lock:
            view = file.view
            view[self.position] += amount
            if self.revision_position:
                view[self.revision_position] += 1.0

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Set the number. The timestamp is for gauges of the mode ``mostrecent``."""
        file = self.file
        if not file.guard[0]:
            self._through_storage(self._put, value, timestamp or 0.0)
            return
        with file.lock:
            self._put(self.file, value, timestamp or 0.0)

    def get(self) -> float:
        """Return the number. It is zero if another registry has removed the label set."""
        file = self.file
        if not file.guard[0]:
            return float(self._through_storage(self._read))
        with file.lock:
            return self._read(self.file)

    def set_exemplar(self, exemplar: Any) -> None:
        """Do nothing, because the file format has no exemplars."""

    def get_exemplar(self) -> None:
        """Return None."""

    def attach(self, file: ValueFile | PendingValue, position: int, revision_position: int) -> None:
        """Use these positions in a file from now on. The storage calls this under its lock."""
        self.position, self.revision_position = position, revision_position
        self.file = file  # last, because other threads read it without the lock

    def detach(self) -> None:
        """Move the number to memory that no other object reads. The caller holds the storage's lock."""
        if isinstance(self.file, RemovedValue):
            return
        value = self._read(self.file)
        # A thread that waits for the lock in inc() has the file already. Its amount is added to the
        # timestamp of the removed entry, which is never read. (The timestamp of a histogram's sum only has
        # to change.)
        self.position += 1
        self.file = RemovedValue(self.position, value)

    def flush(self, pending: PendingValue) -> None:
        """Write what was in memory to the file. The storage calls this under its lock."""
        if pending.was_set:
            self._put(self.file, pending.view[0], pending.view[1])
        elif pending.view[0] or pending.view[2]:
            self._add(self.file, pending.view[0])

    def _through_storage(self, operation: Any, *arguments: float) -> Any:
        storage: ProcessStorage = process_storage()
        with storage.lock:
            result = operation(storage.attach(self), *arguments)
        storage.log_errors()
        return result

    def _add(self, file: ValueFile | PendingValue, amount: float) -> None:
        file.view[self.position] = self._read(file) + amount
        if self.revision_position:
            file.view[self.revision_position] += 1.0

    def _put(self, file: ValueFile | PendingValue, value: float, timestamp: float) -> None:
        file.view[self.position] = value
        if self.revision_position:
            file.view[self.revision_position] += 1.0
        elif self.prefix != "histogram":  # the timestamp of a histogram's sum is the revision
            file.view[self.position + 1] = timestamp
        if isinstance(file, PendingValue):
            file.was_set = True

    def _read(self, file: ValueFile | PendingValue) -> float:
        value: float = file.view[self.position]
        return 0.0 if value in REMOVED_VALUES else value


class _ExtremeValue(SharedValue):
    """A number of a gauge of the mode ``min`` or ``max``.

    Another registry may have removed the entry of this value. The entry then has a number near the greatest
    or the smallest double, which an amount does not change. In all other files it is a number near zero.
    """

    __slots__ = ()

    def inc(self, amount: float) -> None:
        """Add an amount to the number."""
        file = self.file
        if not file.guard[0]:
            self._through_storage(self._add, amount)
            return
        with file.lock:
            self._add(self.file, amount)


# The buckets of a label set are created one after the other.
@lru_cache(maxsize=16)
def _sum_key(metric_name: str, names: tuple[str, ...], values: tuple[str, ...], help_text: str) -> bytes:
    return entry_key(metric_name, f"{metric_name}_sum", names, values, help_text)
