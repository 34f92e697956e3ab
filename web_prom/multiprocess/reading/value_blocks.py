"""Blocks of values of one file, each read in one call and compared with the values of the last scrape."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import compress
from operator import ne, or_
from typing import Any, Protocol

from web_prom.multiprocess.reading.entry_layout import EntryLayout, make_pair_unpacker, make_unpacker
from web_prom.multiprocess.reading.model import LabelSet


class Entries(Protocol):
    """The entries of a label set with the same layout in several files."""

    @property
    def label_set(self) -> LabelSet:
        """The label set of the entries."""

    @property
    def layout(self) -> EntryLayout:
        """The offsets of their values."""


class EntryGroup:
    """The entries that one file has of a label set, if they are more than one value.

    Attributes:
        label_set: The label set of the entries.
        start: The offset of the first entry in the file.
        layout: The offsets of the values from there.
    """

    __slots__ = ("label_set", "layout", "start")

    def __init__(self, label_set: LabelSet, start: int, layout: EntryLayout) -> None:
        self.label_set = label_set
        self.start = start
        self.layout = layout


class ValueBlock:
    """Doubles of one file that are read and compared together.

    Args:
        column: The column of the file in the label sets.
        offsets: The offsets of the doubles in the file.
        owners: For each offset, the label set of the value, or the entries to read if the value has changed.
        removed_values: The values that mark an entry as removed.
        changed: The set that receives the label sets with new values.

    Attributes:
        last: The doubles at the last scrape. Empty before the first one.
    """

    _make_unpacker = staticmethod(make_unpacker)

    def __init__(
        self,
        column: int,
        offsets: array[int],
        owners: list[Any],
        removed_values: tuple[float, ...],
        changed: set[LabelSet],
    ) -> None:
        self.column = column
        self.offsets = offsets
        self.owners = owners
        self.last: tuple[float, ...] = ()
        self._removed_values = removed_values
        self._changed = changed
        self._has_removed = False
        self._unpack = self._make_unpacker(offsets)

    def __len__(self) -> int:
        return len(self.owners)

    def read(self, data: bytes) -> None:
        """Store the values that have changed."""
        now = self._unpack(data)
        last = self.last
        if now != last:
            self.last = now
            # A NaN is not equal to itself and counts as changed. A list that is iterated twice is a third
            # faster than one pass over pairs.
            if last:
                self._store_changed(data, now, list(map(ne, last, now)))
            else:
                self._store_all(data, now)

    def mark_as_read(self, data: bytes) -> None:
        """Remember the doubles in the file. Their owners have the values already."""
        self.last = self._unpack(data)

    def label_sets(self) -> Iterable[LabelSet]:
        """Return the label sets of the values."""
        return [owner.label_set for owner in self.owners]

    def joined(self, other: ValueBlock) -> ValueBlock:
        """Return one block for two of the same file. This block is the earlier one."""
        offsets, owners = self.offsets + other.offsets, self.owners + other.owners
        both = type(self)(self.column, offsets, owners, self._removed_values, self._changed)
        both._has_removed = self._has_removed or other._has_removed
        if self.last and other.last:
            both.last = self.last + other.last
        return both

    def _store_changed(self, data: bytes, now: tuple[float, ...], differs: list[bool]) -> None:
        raise NotImplementedError

    def _store_all(self, data: bytes, now: tuple[float, ...]) -> None:
        self._store_changed(data, now, [True] * len(now))


class SingleValueBlock(ValueBlock):
    """The values of label sets that have one value in a file: counters, summaries and most gauges."""

    def _store_changed(self, data: bytes, now: tuple[float, ...], differs: list[bool]) -> None:
        label_sets = list(compress(self.owners, differs))
        self._store(label_sets, list(compress(now, differs)))
        self._changed.update(label_sets)

    def _store_all(self, data: bytes, now: tuple[float, ...]) -> None:
        self._store(self.owners, now)
        self._changed.update(self.owners)

    def _store(self, label_sets: list[LabelSet], values: Sequence[float]) -> None:
        column, removed_values = self.column, self._removed_values
        for removed in removed_values:
            if removed in values:
                self._has_removed = True
        if self._has_removed:
            for label_set, value in zip(label_sets, values, strict=True):
                if value in removed_values or label_set.was_removed:
                    label_set.store(column, value, is_removed=value in removed_values)
                else:
                    label_set.values[column] = value
        else:
            for label_set, value in zip(label_sets, values, strict=True):
                label_set.values[column] = value

    def label_sets(self) -> Iterable[LabelSet]:
        """Return the label sets of the values."""
        return self.owners


class RowBlock(ValueBlock):
    """All doubles of entry groups. If one has changed, the row of the group is read.

    These are histograms without revisions, and gauges whose timestamps count.
    """

    def _store_changed(self, data: bytes, now: tuple[float, ...], differs: list[bool]) -> None:
        column = self.column
        add = self._changed.add
        removed_values = frozenset(self._removed_values)
        for group in dict.fromkeys(compress(self.owners, differs)):
            label_set = group.label_set
            row = group.layout.unpack(data, group.start)
            label_set.store(column, row, is_removed=not removed_values.isdisjoint(row))
            add(label_set)


class RevisionBlock(ValueBlock):
    """The sums of histograms and their revisions. If one has changed, the row of the label set is read.

    The sum is the first of the entries. The owners are :class:`Entries`: most files of a group share them.
    """

    _make_unpacker = staticmethod(make_pair_unpacker)

    def _store_changed(self, data: bytes, now: tuple[float, ...], differs: list[bool]) -> None:
        column, removed_values = self.column, self._removed_values
        add = self._changed.add
        either = list(map(or_, differs[::2], differs[1::2]))
        for entries, at in zip(compress(self.owners, either), compress(self.offsets, either), strict=True):
            label_set, layout = entries.label_set, entries.layout
            row = layout.unpack(data, at - layout.first)
            if row[0] in removed_values or label_set.was_removed:
                label_set.store(column, row, is_removed=row[0] in removed_values)
            else:
                label_set.values[column] = row
            add(label_set)
