"""The index of a file of histograms: each label set has a sum and its buckets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from web_prom.multiprocess.file_entries import CorruptFileError
from web_prom.multiprocess.file_format import VALUE, value_offset
from web_prom.multiprocess.reading.entry_layout import EntryLayout, layout_from_offsets
from web_prom.multiprocess.reading.file_index import FileIndex, read_key
from web_prom.multiprocess.reading.histogram_shape import HistogramShape
from web_prom.multiprocess.reading.histograms import HistogramFamily
from web_prom.multiprocess.reading.model import LabelSet
from web_prom.multiprocess.reading.value_blocks import EntryGroup, RevisionBlock, RowBlock, ValueBlock

# The entries of a histogram may be in several pieces. Each new piece makes the reader unpack all of them
# again.
_MAX_PIECES = 512


class _IndexedGroup(NamedTuple):
    """A group of entries, and its place in a list of owners."""

    column: int
    group: EntryGroup
    owners: list[Any]
    owner_index: int


class HistogramIndex(FileIndex):
    """The index of a file of histograms."""

    # The groups of each label set. None until a label set is found whose entries are in several pieces.
    _groups: dict[LabelSet, list[_IndexedGroup]] | None = None

    def parse(self, data: bytes, end: int) -> None:
        """Locate the entries that were added, up to the offset ``end``.

        Raises:
            CorruptFileError: The file has other contents. The caller has to drop the index.
        """
        try:
            super().parse(data, end)
        finally:
            self._groups = None

    def _locate(self, data: bytes, lengths: memoryview, end: int) -> None:
        file_group, column = self._file_group, self._columns[0]
        offsets, owners = self._values_for(RevisionBlock, column)
        start = position = self.end
        find, join, removed_values = file_group.predictions.get, b"".join, file_group.removed_values
        while position < end:
            start = position
            length = lengths[start >> 2]
            key = data[start + 4 : start + 4 + length]  # a wrong length gives a key that is not known
            predicted = find(key) or file_group.predict(read_key(data, lengths, start, end))
            parts = predicted.unpack(data, start) if predicted and start + predicted.size <= end else ()
            if predicted and join(parts[::2]) == predicted.prefixes:
                label_set, position = predicted.label_set, start + predicted.size
                if column not in label_set.family.helps:
                    self._add_help(label_set.family.helps, key)
                # The same as _add_group(), without calls, for the usual label sets.
                is_usual = self._has_revisions and self._groups is None and label_set.shape is predicted.shape
                if is_usual and label_set.values[column] is None and parts[1] not in removed_values:
                    label_set.values[column] = parts[1::2]
                    offsets.append(start + predicted.first)
                    owners.append(predicted)
                else:
                    self._add_group(data, EntryGroup(label_set, start, predicted.layout), predicted.shape)
            else:
                position = self._locate_by_key(data, lengths, start, end)
                find = file_group.predictions.get  # another dict, if a longer shape was found
        self._remember_last(data, start)

    def _locate_by_key(self, data: bytes, lengths: memoryview, start: int, end: int) -> int:
        """Locate the adjacent entries of one label set by their keys. Return the offset of their end."""
        position = start
        first = None
        offsets: dict[str | float, int] = {}
        while position < end:
            key = read_key(data, lengths, position, end)
            parsed = self._file_group.parse_key(key)
            bound = parsed.bucket_bound()
            owner = parsed.family, parsed.labels_without_bound()
            entry = parsed.sample if bound is None else bound
            if entry in offsets or (first is not None and owner != first):
                break
            first = owner
            at = position + value_offset(len(key))
            offsets[entry] = at - start
            position = at + VALUE.size
        assert first is not None
        label_set = self._file_group.get_label_set(*first)
        family = _family_of(label_set)
        self._add_help(family.helps, read_key(data, lengths, start, end))
        if not self._extend_group(label_set, start, offsets):
            shape = family.get_shape(offsets)
            self._file_group.add_shape(family, shape)
            layout = layout_from_offsets(tuple(offsets.values()))
            self._add_group(data, EntryGroup(label_set, start, layout), shape)
        return position

    def _extend_group(self, label_set: LabelSet, start: int, offsets: dict[str | float, int]) -> bool:
        """Add entries to another group of the label set. Return False if all groups have such entries."""
        if all(label_set.values[column] is None for column in self._columns):
            return False
        family = _family_of(label_set)
        for column, group, owners, index in self._all_groups()[label_set]:
            shape = family.shape_in(label_set, column)
            if not offsets.keys() & set(shape.entries):
                if len(shape.entries) > _MAX_PIECES:
                    raise CorruptFileError(f"it has a histogram in more than {_MAX_PIECES} pieces")
                moved = [start - group.start + offset for offset in offsets.values()]
                # Not from the cache of layouts: the layout of the next piece is longer.
                group.layout = EntryLayout((*group.layout.offsets, *moved))
                owners[index] = group
                shape = family.get_shape((*shape.entries, *offsets))
                self._file_group.add_shape(family, shape)
                family.set_shape(label_set, column, shape)
                self._watch(column, group, [group.start + offset for offset in moved])
                return True
        return False

    def _add_group(self, data: bytes, group: EntryGroup, shape: HistogramShape) -> None:
        column, label_set = self._columns[0], group.label_set
        if label_set.values[column] is not None:
            column = self._free_column(label_set)
        if label_set.shape is not shape:
            _family_of(label_set).set_shape(label_set, column, shape)
        row = group.layout.unpack(data, group.start)
        index = shape.sum_index
        is_removed = index is not None and row[index] in self._file_group.removed_values
        label_set.store(column, row, is_removed=is_removed)
        if self._has_revisions and index == 0:
            offsets, owners = self._values_for(RevisionBlock, column)
            offsets.append(group.start + group.layout.first)
            owners.append(group)
        else:
            self._watch(column, group, [group.start + offset for offset in group.layout.offsets])
            _, owners = self._values_for(RowBlock, column)
        if self._groups is not None:
            indexed = _IndexedGroup(column, group, owners, len(owners) - 1)
            self._groups.setdefault(label_set, []).append(indexed)

    def _watch(self, column: int, group: EntryGroup, offsets: Sequence[int]) -> None:
        """Read a group again whenever one of the doubles at these offsets has changed."""
        all_offsets, owners = self._values_for(RowBlock, column)
        all_offsets.extend(offsets)
        owners.extend([group] * len(offsets))

    def _all_groups(self) -> dict[LabelSet, list[_IndexedGroup]]:
        if self._groups is None:
            self._groups = {}
            lists = [(block.column, block.offsets, block.owners) for block in self._blocks]
            lists += [(column, *values) for (_, column), values in self._new_values.items()]
            for column, offsets, owners in lists:
                for index, (at, entries) in enumerate(zip(offsets, owners, strict=True)):
                    known = self._groups.setdefault(entries.label_set, [])
                    if isinstance(entries, EntryGroup):
                        group = entries
                    else:
                        group = EntryGroup(entries.label_set, at - entries.layout.first, entries.layout)
                    if all(group is not other.group for other in known):
                        known.append(_IndexedGroup(column, group, owners, index))
        return self._groups

    def _drop_block(self, block: ValueBlock) -> None:
        super()._drop_block(block)
        for label_set in block.label_sets():
            family = _family_of(label_set)
            if label_set in family.shapes:
                family.set_shape(label_set, block.column, None)


def _family_of(label_set: LabelSet) -> HistogramFamily:
    family = label_set.family
    assert isinstance(family, HistogramFamily)
    return family
