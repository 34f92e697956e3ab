"""Values gathered out of a file by one call, and what has changed among them since the last time."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import compress
from operator import ne, or_, sub
from struct import Struct
from typing import Any, Protocol

from web_prom.multiprocess.file_format import VALUE
from web_prom.multiprocess.reading.merged_family import LabelSet, Row

Gather = Callable[..., tuple[Any, ...]]
"""``Struct.unpack_from``."""

DOUBLE_BYTES = 8


class Layout:
    """Where the values of a label set's entries are, from the first entry's beginning.

    Attributes:
        offsets: In bytes.
        first: The first of them.
        read: Takes the values out of a file: all of them, in one call.
    """

    __slots__ = ("first", "offsets", "read")

    def __init__(self, offsets: tuple[int, ...]) -> None:
        self.offsets = offsets
        self.first = offsets[0]
        self.read: Callable[..., Row] = gatherer(offsets)


@lru_cache(maxsize=1024)
def layout_at(offsets: tuple[int, ...]) -> Layout:
    """Return the layout of values at these offsets."""
    return Layout(offsets)


@lru_cache(maxsize=1024)
def layout_of(lengths: tuple[int, ...]) -> Layout:
    """Return the layout of entries without gaps, given how much stands before each value."""
    offsets = []
    position = 0
    for length in lengths:
        offsets.append(position + length)
        position += length + VALUE.size
    return layout_at(tuple(offsets))


@lru_cache(maxsize=1024)
def entries_of(lengths: tuple[int, ...]) -> Gather:
    """Return what takes entries out of a file, in turn what stands before a value, of that length, and it."""
    return Struct("=" + "".join(f"{length}sd{VALUE.size - DOUBLE_BYTES}x" for length in lengths)).unpack_from


class _Codes(dict[int, str]):
    """The codes of :mod:`struct` for a double after a gap."""

    def __missing__(self, gap: int) -> str:
        self[gap] = code = f"{gap}xd" if gap else "d"
        return code


def gatherer(offsets: Sequence[int]) -> Gather:
    """Return what takes the doubles at ascending offsets out of a file: one call, at C speed."""
    return Struct(_pattern(offsets, DOUBLE_BYTES)).unpack_from


def pairs_gatherer(offsets: Sequence[int]) -> Gather:
    """Return what takes two doubles at each of ascending offsets out of a file."""
    # One code for both instead of two, of 32 bytes each.
    return Struct(_pattern(offsets, 2 * DOUBLE_BYTES).replace("d", "2d")).unpack_from


def _pattern(offsets: Sequence[int], length: int) -> str:
    ends = [0, *(offset + length for offset in offsets[:-1])]
    return "".join(map(_Codes().__getitem__, map(sub, offsets, ends)))


class Entries(Protocol):
    """The entries of a label set, which stand alike in several files."""

    @property
    def label_set(self) -> LabelSet:
        """Whose they are."""

    @property
    def layout(self) -> Layout:
        """Where their values are."""


class Run:
    """The entries that a file has of one label set, where one double does not tell them all.

    Attributes:
        label_set: Whose entries they are.
        start: Where the first one begins in the file.
        layout: Where the values are from there.
    """

    __slots__ = ("label_set", "layout", "start")

    def __init__(self, label_set: LabelSet, start: int, layout: Layout) -> None:
        self.label_set = label_set
        self.start = start
        self.layout = layout


class Chunk:
    """Doubles of one file that are read and compared together.

    Attributes:
        column: Where the label sets keep what this file says.
        offsets: Of the doubles in the file.
        owners: For each offset, the label set whose value is there, or the entries that have changed when
            it has.
        removed: What the value of a removed entry is.
        last: What the doubles were.
    """

    _gatherer = staticmethod(gatherer)

    def __init__(
        self, column: int, offsets: array[int], owners: list[Any], removed: tuple[float, ...] = ()
    ) -> None:
        self.column = column
        self.offsets = offsets
        self.owners = owners
        self.removed = removed
        self.last: tuple[float, ...] = ()
        self._had_removed = False
        self._gather = self._gatherer(offsets)

    def __len__(self) -> int:
        return len(self.owners)

    def read(self, data: bytes, changed: set[LabelSet]) -> None:
        """Take over what has changed, and add the label sets to ``changed``."""
        now = self._gather(data)
        last = self.last
        if now != last:
            self.last = now
            # What is not a number is not equal to itself, and so is taken for changed. A list that is gone
            # over twice is a third faster than one pass over pairs.
            if last:
                self._take(data, now, list(map(ne, last, now)), changed)
            else:
                self._take_all(data, now, changed)

    def note(self, data: bytes) -> None:
        """Take the values that owners have for those that are in the file now."""
        self.last = self._gather(data)

    def label_sets(self) -> Iterable[LabelSet]:
        """Give the label sets of the values."""
        return [owner.label_set for owner in self.owners]

    def joined(self, other: Chunk) -> Chunk:
        """Return one chunk for two of the same file, this one being the earlier."""
        offsets, owners = self.offsets + other.offsets, self.owners + other.owners
        both = type(self)(self.column, offsets, owners, self.removed)
        both._had_removed = self._had_removed or other._had_removed
        if self.last and other.last:
            both.last = self.last + other.last
        return both

    def _take(self, data: bytes, now: tuple[float, ...], differs: list[bool], changed: set[LabelSet]) -> None:
        raise NotImplementedError

    def _take_all(self, data: bytes, now: tuple[float, ...], changed: set[LabelSet]) -> None:
        self._take(data, now, [True] * len(now), changed)


class ValueChunk(Chunk):
    """Values as such: of counters, summaries and most gauges."""

    def _take(self, data: bytes, now: tuple[float, ...], differs: list[bool], changed: set[LabelSet]) -> None:
        label_sets = list(compress(self.owners, differs))
        self._put(label_sets, list(compress(now, differs)))
        changed.update(label_sets)

    def _take_all(self, data: bytes, now: tuple[float, ...], changed: set[LabelSet]) -> None:
        self._put(self.owners, now)
        changed.update(self.owners)

    def _put(self, label_sets: list[LabelSet], values: Sequence[float]) -> None:
        column, removed = self.column, self.removed
        for mark in removed:
            if mark in values:
                self._had_removed = True
        if self._had_removed:
            for label_set, value in zip(label_sets, values, strict=True):
                if value in removed or label_set.removed:
                    label_set.put(column, value, value in removed)
                else:
                    label_set.values[column] = value
        else:
            for label_set, value in zip(label_sets, values, strict=True):
                label_set.values[column] = value

    def label_sets(self) -> Iterable[LabelSet]:
        """Give the label sets of the values."""
        return self.owners


class RowChunk(Chunk):
    """Doubles that tell whether to read rows: of histograms, and of gauges whose timestamps count."""

    def _take(self, data: bytes, now: tuple[float, ...], differs: list[bool], changed: set[LabelSet]) -> None:
        column = self.column
        add = changed.add
        removed = frozenset(self.removed)
        for run in dict.fromkeys(compress(self.owners, differs)):
            label_set = run.label_set
            row = run.layout.read(data, run.start)
            label_set.put(column, row, not removed.isdisjoint(row))
            add(label_set)


class MarkedChunk(Chunk):
    """Sums of histograms, each with its mark, where the sum is the first of the entries.

    The owners are :class:`Entries`: most files of a kind share them.
    """

    _gatherer = staticmethod(pairs_gatherer)

    def _take(self, data: bytes, now: tuple[float, ...], differs: list[bool], changed: set[LabelSet]) -> None:
        column, removed = self.column, self.removed
        add = changed.add
        either = list(map(or_, differs[::2], differs[1::2]))
        for entries, at in zip(compress(self.owners, either), compress(self.offsets, either), strict=True):
            label_set, layout = entries.label_set, entries.layout
            row = layout.read(data, at - layout.first)
            if row[0] in removed or label_set.removed:
                label_set.put(column, row, row[0] in removed)
            else:
                label_set.values[column] = row
            add(label_set)
