"""What is known of one value file: its entries, the label sets that they belong to, and their values."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from web_prom.multiprocess.file_format import HEADER, LENGTH, VALUE, FileName, value_offset
from web_prom.multiprocess.reading.file_group import Kind
from web_prom.multiprocess.reading.histograms import Histogram, Shape
from web_prom.multiprocess.reading.keys import DamagedFileError
from web_prom.multiprocess.reading.merged_family import Family, LabelSet
from web_prom.multiprocess.reading.value_blocks import (
    DOUBLE_BYTES,
    Chunk,
    Layout,
    MarkedChunk,
    RowChunk,
    Run,
    ValueChunk,
    layout_at,
)

# What a label set has from a file until it is read for the first time: not None, which would mean no entry.
_UNREAD: Any = ()
_PAIR = layout_at((0, DOUBLE_BYTES))
# Each takes room in every label set. One sample has an entry for each help text that it ever had.
_MOST_COLUMNS = 64
# A histogram whose buckets stand in several places is read piece by piece, each time anew.
_MOST_PIECES = 512


class _Known(NamedTuple):
    """A run of entries, and where it is noted in a list of owners."""

    column: int
    run: Run
    owners: list[Any]
    place: int


class Contents:
    """The entries of one file, each found once; afterwards only values are read.

    A file has one column in its kind. It gets more where several of its entries mean the same sample: the
    documentation is part of a key, and another release of an application may have changed it.

    Args:
        kind: What the files of its kind have in common.
        name: The file's.
        marked: Whether it is of web-prom: there the ``_sum`` of a histogram tells when a bucket has changed.

    Attributes:
        end: Up to where the entries are known.
    """

    def __init__(self, kind: Kind, name: FileName, marked: bool) -> None:
        self.end = HEADER.size
        self._kind = kind
        self._name = name
        self._marked = marked
        self._columns = [kind.add_column(name)]
        self._chunks: list[Chunk] = []
        self._found: dict[tuple[type[Chunk], int], tuple[array[int], list[Any]]] = {}
        self._runs: dict[LabelSet, list[_Known]] | None = None
        self._last_key = b""
        self._last_start = 0

    def parse(self, data: bytes, end: int, changed: set[LabelSet]) -> None:
        """Find the entries that were added, up to ``end``, and their histograms to ``changed``.

        Raises:
            DamagedFileError: There is something else; the file is to be dropped.
        """
        try:
            with memoryview(data) as view, view[:end] as used, used.cast("i") as lengths:
                if self._kind.type == "histogram":
                    self._parse_histograms(data, lengths, end)
                else:
                    self._parse_values(data, lengths, end)
            self.end = end
        finally:  # whatever was found has to be dropped again
            self._runs = None
            self._keep_found(data, changed)

    def read(self, data: bytes, changed: set[LabelSet]) -> None:
        """Take over the values that have changed, and add their label sets to ``changed``."""
        for chunk in self._chunks:
            chunk.read(data, changed)

    def begins_like(self, data: bytes) -> bool:
        """Tell whether the last entry that is known is still at its place."""
        start = self._last_start
        return data.startswith(self._last_key, start)

    def drop(self, changed: set[LabelSet]) -> None:
        """Take the file out of all label sets that it has."""
        for chunk in self._chunks:
            column = chunk.column
            for label_set in chunk.label_sets():
                label_set.values[column] = None
                label_set.template = None
                family = label_set.family
                if isinstance(family, Histogram) and label_set in family.shapes:
                    family.set_shape(label_set, column, None)
                changed.add(label_set)
        for column in self._columns:
            self._kind.remove_column(column)
        self._chunks = []
        self._columns = []

    def _parse_values(self, data: bytes, lengths: memoryview, end: int) -> None:
        kind, column = self._kind, self._columns[0]
        label_sets, places = self._walk(data, lengths, end)
        # They stand without gaps, so that an entry begins where the one before it ends.
        starts = [self.end, *(at + VALUE.size for at in places)]
        first = dict(zip(map(attrgetter("family"), reversed(label_sets)), reversed(starts[:-1]), strict=True))
        for family, start in first.items():
            if column not in family.helps:
                self._note_help(family, _key(data, lengths, start, end))
            if not family.is_single:  # a sample for each file
                for label_set in label_sets:
                    label_set.template = None
        if not (self._chunks or kind.has_pairs) and len(set(label_sets)) == len(label_sets):
            self._found[ValueChunk, column] = places, label_sets
        else:
            for label_set, at in zip(label_sets, places, strict=True):
                self._add_value(label_set, at)
        self._remember(data, starts[-2])

    def _walk(self, data: bytes, lengths: memoryview, end: int) -> tuple[list[LabelSet], array[int]]:
        """Return whose the entries up to ``end`` are, and where their values are."""
        keys, new = self._kind.keys, []
        find = keys.get
        found, places = [], array("I")
        position = self.end
        while position < end:
            length = lengths[position >> 2]
            key_end = position + 4 + length
            at = key_end // 8 * 8 + 8  # value_offset(), whose call would cost a third of this loop
            if length < 0 or at + 16 > end:
                raise DamagedFileError(f"its entry at byte {position} is longer than the file")
            key = data[position + 4 : key_end]
            label_set = find(key)
            if label_set is None:
                new.append(key)
            found.append(label_set)
            places.append(at)
            position = at + 16
        self._kind.learn(new)
        learnt = map(keys.__getitem__, new)
        return [label_set or next(learnt) for label_set in found], places

    def _add_value(self, label_set: LabelSet, at: int) -> None:
        column = self._free_column(label_set)
        label_set.values[column] = _UNREAD
        if self._kind.has_pairs:
            offsets, owners = self._list(RowChunk, column)
            offsets.extend((at, at + DOUBLE_BYTES))
            owners.extend([Run(label_set, at, _PAIR)] * 2)
        else:
            offsets, owners = self._list(ValueChunk, column)
            offsets.append(at)
            owners.append(label_set)

    def _parse_histograms(self, data: bytes, lengths: memoryview, end: int) -> None:
        kind, marked, column = self._kind, self._marked, self._columns[0]
        offsets, owners = self._list(MarkedChunk, column)
        start = position = self.end
        find, join, removed = kind.foretold.get, b"".join, kind.removed
        while position < end:
            start = position
            length = lengths[start >> 2]
            key = data[start + 4 : start + 4 + length]  # wrong only for what is not known
            known = find(key) or kind.foretell(_key(data, lengths, start, end))
            parts = known.gather(data, start) if known and start + known.size <= end else ()
            if known and join(parts[::2]) == known.prefixes:
                label_set, position = known.label_set, start + known.size
                if column not in label_set.family.helps:
                    self._note_help(label_set.family, key)
                # What _add_run() does, for the many label sets with which nothing is unusual.
                usual = marked and self._runs is None and label_set.shape is known.shape
                if usual and label_set.values[column] is None and parts[1] not in removed:
                    label_set.values[column] = parts[1::2]
                    offsets.append(start + known.first)
                    owners.append(known)
                else:
                    self._add_run(data, Run(label_set, start, known.layout), known.shape)
            else:
                position = self._parse_by_key(data, lengths, start, end)
                find = kind.foretold.get  # other ones, where a shape was seen that is longer
        self._remember(data, start)

    def _parse_by_key(self, data: bytes, lengths: memoryview, start: int, end: int) -> int:
        """Read the entries of one label set that stand together, each by its key; return where they end."""
        kind = self._kind
        position = start
        first = None
        entries: dict[str | float, int] = {}
        while position < end:
            key = _key(data, lengths, position, end)
            parsed = kind.parse(key)
            bound = parsed.bound()
            whose = parsed.family, parsed.without_bound()
            entry = parsed.sample if bound is None else bound
            if entry in entries or (first is not None and whose != first):
                break
            first = whose
            at = position + value_offset(len(key))
            entries[entry] = at - start
            position = at + VALUE.size
        assert first is not None
        label_set = kind.label_set(first[0], first[0], first[1])
        family = label_set.family
        assert isinstance(family, Histogram)
        self._note_help(family, _key(data, lengths, start, end))
        if not self._extend(label_set, start, entries):
            shape = family.shape(entries)
            kind.see(family, shape)
            self._add_run(data, Run(label_set, start, layout_at(tuple(entries.values()))), shape)
        return position

    def _extend(self, label_set: LabelSet, start: int, entries: dict[str | float, int]) -> bool:
        """Add entries to a run of the label set that stands elsewhere; False if all have them."""
        if all(label_set.values[column] is None for column in self._columns):
            return False
        family = label_set.family
        assert isinstance(family, Histogram)
        for column, run, owners, place in self._all_runs()[label_set]:
            shape = family.shape_of(label_set, column)
            if not entries.keys() & set(shape.entries):
                if len(shape.entries) > _MOST_PIECES:
                    raise DamagedFileError(f"it has a histogram in more than {_MOST_PIECES} pieces")
                moved = [start - run.start + offset for offset in entries.values()]
                run.layout = Layout((*run.layout.offsets, *moved))  # not kept: the next one is longer
                owners[place] = run
                shape = family.shape((*shape.entries, *entries))
                self._kind.see(family, shape)
                family.set_shape(label_set, column, shape)
                self._watch(column, run, [run.start + offset for offset in moved])
                return True
        return False

    def _add_run(self, data: bytes, run: Run, shape: Shape) -> None:
        column, label_set = self._columns[0], run.label_set
        if label_set.values[column] is not None:
            column = self._free_column(label_set)
        family = label_set.family
        assert isinstance(family, Histogram)
        if label_set.shape is not shape:
            family.set_shape(label_set, column, shape)
        row = run.layout.read(data, run.start)
        label_set.put(column, row, shape.marker is not None and row[shape.marker] in self._kind.removed)
        if self._marked and shape.marker == 0:
            offsets, owners = self._list(MarkedChunk, column)
            offsets.append(run.start + run.layout.first)
            owners.append(run)
        else:
            self._watch(column, run, [run.start + offset for offset in run.layout.offsets])
            _, owners = self._list(RowChunk, column)
        if self._runs is not None:
            self._runs.setdefault(label_set, []).append(_Known(column, run, owners, len(owners) - 1))

    def _watch(self, column: int, run: Run, offsets: Sequence[int]) -> None:
        """Read a run again whenever one of the doubles at these offsets has changed."""
        all_offsets, owners = self._list(RowChunk, column)
        all_offsets.extend(offsets)
        owners.extend([run] * len(offsets))

    def _all_runs(self) -> dict[LabelSet, list[_Known]]:
        if self._runs is None:
            self._runs = {}
            lists = [(chunk.column, chunk.offsets, chunk.owners) for chunk in self._chunks]
            lists += [(column, offsets, owners) for (_, column), (offsets, owners) in self._found.items()]
            for column, offsets, owners in lists:
                for place, (at, entries) in enumerate(zip(offsets, owners, strict=True)):
                    known = self._runs.setdefault(entries.label_set, [])
                    if isinstance(entries, Run):
                        run = entries
                    else:
                        run = Run(entries.label_set, at - entries.layout.first, entries.layout)
                    if all(run is not other.run for other in known):
                        known.append(_Known(column, run, owners, place))
        return self._runs

    def _free_column(self, label_set: LabelSet) -> int:
        for column in self._columns:
            if label_set.values[column] is None:
                return column
        if len(self._columns) >= _MOST_COLUMNS:
            raise DamagedFileError(f"it has more than {_MOST_COLUMNS} entries of one sample")
        self._columns.append(self._kind.add_column(self._name))
        return self._columns[-1]

    def _note_help(self, family: Family, key: bytes) -> None:
        column = self._columns[0]
        if column not in family.helps:
            family.helps[column] = self._kind.parse(key).help

    def _list(self, make: type[Chunk], column: int) -> tuple[array[int], list[Any]]:
        if (make, column) not in self._found:
            self._found[make, column] = array("I"), []
        return self._found[make, column]

    def _remember(self, data: bytes, start: int) -> None:
        (length,) = LENGTH.unpack_from(data, start)
        self._last_start = start
        self._last_key = data[start : start + LENGTH.size + length]

    def _keep_found(self, data: bytes, changed: set[LabelSet]) -> None:
        for (make, column), (offsets, owners) in self._found.items():
            if not owners:
                continue
            chunk = make(column, offsets, owners, self._kind.removed)
            if make is MarkedChunk:  # all rows have been read
                chunk.note(data)
                changed.update(chunk.label_sets())
            # Each call of struct costs something, so that chunks of about one size become one.
            for earlier in reversed(self._chunks):
                if earlier.column == column and isinstance(earlier, make):
                    if len(earlier) <= 2 * len(chunk):
                        self._chunks.remove(earlier)
                        chunk = earlier.joined(chunk)
                    else:
                        break
            self._chunks.append(chunk)
        self._found = {}


def _key(data: bytes, lengths: memoryview, start: int, end: int) -> bytes:
    length = lengths[start >> 2]
    if length < 0 or start + value_offset(length) + VALUE.size > end:
        raise DamagedFileError(f"its entry at byte {start} is longer than the file")
    return data[start + LENGTH.size : start + LENGTH.size + length]
