"""The column that each file of a group has in the values of every label set."""

from __future__ import annotations

from heapq import heappop, heappush

from web_prom.multiprocess.file_format import FileName

SortKey = tuple[bool, int, str]
"""The fixed order of files: files of slots by number, then the others by name."""


class FileColumns:
    """The files of one metric type and, for gauges, of one mode. Each file has a column of its own.

    Args:
        metric_type: ``counter``, ``gauge``, ``histogram`` or ``summary``.
        mode: The ``multiprocess_mode`` of gauges. Empty for the other types.

    Attributes:
        owners: For each column, the owner of the file as the value of the label ``pid``.
        order: The columns in use, in the fixed order of their files.
        capacity: The number of columns that every label set has.
    """

    def __init__(self, metric_type: str, mode: str) -> None:
        self.metric_type = metric_type
        self.mode = mode
        self.owners: list[str] = []
        self.order: list[int] = []
        self.capacity = 0
        self._sort_keys: list[SortKey] = []
        self._free: list[int] = []

    def add(self, name: FileName) -> int:
        """Return a column for a file. No other file uses the column."""
        slot = name.slot
        sort_key = (slot is None, slot or 0, str(name))
        if self._free:
            column = heappop(self._free)
            self._sort_keys[column], self.owners[column] = sort_key, name.pid_label
        else:
            column = len(self._sort_keys)
            self._sort_keys.append(sort_key)
            self.owners.append(name.pid_label)
        self.order = sorted((*self.order, column), key=self.sort_key)
        return column

    def remove(self, column: int) -> None:
        """Free a column for another file. No label set may have a value in it."""
        self.order.remove(column)
        heappush(self._free, column)

    def sort_key(self, column: int) -> SortKey:
        """Return the sort key of a column's file in the fixed order."""
        return self._sort_keys[column]
