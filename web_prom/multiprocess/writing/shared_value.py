"""The value class: what prometheus_client's instruments keep a number in, where any process can scrape it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from web_prom.multiprocess.file_format import entry_key
from web_prom.multiprocess.writing.definitions import note_definition
from web_prom.multiprocess.writing.process_files import Storage, current
from web_prom.multiprocess.writing.value_file import Held, Removed, ValueFile

NOWHERE = Held(None, None)
"""Where a cell's value is before anybody asks: any process's storage finds it a place."""


class SharedValue:
    """One number of one label set, in a file of the slot that this process holds.

    prometheus_client makes them, as it does its own values. The number is nowhere but in the file, mapped
    into memory: a killed process loses nothing, and whoever has its slot next goes on.

    Safe to share between threads. After a fork a child's cell goes to the child's own file at its next use.
    While the disk is full the number is in memory (``web_prom_storage_errors_total`` counts), and is written
    when there is room; no method raises for it.

    Attributes:
        file: Where the number is.
        at: Its index in the file's ``view``.
        mark: For a histogram's bucket, the index of what counts the writes to all its buckets; else 0.
        prefix: How the file's name begins.
        key: Its entry in the file.
        total: For a bucket, the entry of the histogram's sum; else None.
    """

    __slots__ = ("at", "file", "key", "mark", "prefix", "total")

    _multiprocess = True

    def __init__(  # noqa: PLR0917 - prometheus_client gives them by position
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
        note_definition(metric_name, names)
        self.prefix = f"{typ}_{multiprocess_mode}" if typ == "gauge" else typ
        self.key = entry_key(metric_name, name, names, values, help_text)
        self.total: bytes | None = None
        if typ == "histogram" and "le" in names:
            le = names.index("le")
            rest = names[:le] + names[le + 1 :], values[:le] + values[le + 1 :]
            self.total = _total_key(metric_name, *rest, help_text)
        self.file: ValueFile | Held = NOWHERE
        self.at = self.mark = 0
        # A label set is in a scrape as soon as it is made.
        self._slowly(self._read)

    # The first lines of these three are the same; a function for them would be half as much again.

    def inc(self, amount: float) -> None:
        """Add to the number."""
        file = self.file
        if not file.here[0]:
            self._slowly(self._add, amount)
            return
        with file.lock:
            view = file.view
            view[self.at] += amount
            if self.mark:
                view[self.mark] += 1.0

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Put another number in its place; the timestamp is what the mode ``mostrecent`` goes by."""
        file = self.file
        if not file.here[0]:
            self._slowly(self._put, value, timestamp or 0.0)
            return
        with file.lock:
            self._put(self.file, value, timestamp or 0.0)

    def get(self) -> float:
        """Return the number."""
        file = self.file
        if not file.here[0]:
            return float(self._slowly(self._read))
        with file.lock:
            value: float = self.file.view[self.at]
            return value

    def set_exemplar(self, exemplar: Any) -> None:
        """Do nothing: the format has no place for it."""

    def get_exemplar(self) -> None:
        """Return None."""

    def place(self, file: ValueFile | Held, at: int, mark: int) -> None:
        """Have the number there from now on; the storage calls this, under its lock."""
        self.at, self.mark = at, mark
        self.file = file  # last, as others look at it without the lock

    def detach(self) -> None:
        """Have the number in memory that nobody else reads; to be called under the storage's lock."""
        if isinstance(self.file, Removed):
            return
        value = self.file.view[self.at]
        # A thread that waits for the lock in inc() has the file already. What it adds goes to the timestamp
        # of the removed entry, which nobody reads (that of a histogram's sum only has to change).
        self.at += 1
        self.file = Removed(self.at, value)

    def carry(self, held: Held) -> None:
        """Write what was held in memory; the storage calls this, under its lock."""
        if held.replaced:
            self._put(self.file, held.view[0], held.view[1])
        elif held.view[0] or held.view[2]:
            self._add(self.file, held.view[0])

    def _slowly(self, operation: Any, *arguments: float) -> Any:
        storage: Storage = current()
        with storage.lock:
            result = operation(storage.attach(self), *arguments)
        storage.report()
        return result

    def _add(self, file: ValueFile | Held, amount: float) -> None:
        file.view[self.at] += amount
        if self.mark:
            file.view[self.mark] += 1.0

    def _put(self, file: ValueFile | Held, value: float, timestamp: float) -> None:
        file.view[self.at] = value
        if self.mark:
            file.view[self.mark] += 1.0
        elif self.prefix != "histogram":  # where the timestamp of the sum is the mark
            file.view[self.at + 1] = timestamp
        if isinstance(file, Held):
            file.replaced = True

    def _read(self, file: ValueFile | Held) -> float:
        return file.view[self.at]


# The buckets of a label set are made one after the other.
@lru_cache(maxsize=16)
def _total_key(metric_name: str, names: tuple[str, ...], values: tuple[str, ...], help_text: str) -> bytes:
    return entry_key(metric_name, f"{metric_name}_sum", names, values, help_text)
