"""The index of a file of counters, gauges or summaries: each entry is one value of a label set."""

from __future__ import annotations

from array import array
from operator import attrgetter
from typing import Any

from web_prom.multiprocess.file_format import VALUE
from web_prom.multiprocess.reading.entry_layout import DOUBLE_BYTES, layout_from_offsets
from web_prom.multiprocess.reading.file_index import FileIndex, entry_too_long, read_key
from web_prom.multiprocess.reading.model import LabelSet
from web_prom.multiprocess.reading.value_blocks import EntryGroup, RowBlock, SingleValueBlock

# The value of a label set whose entry is located and not read yet. It is not None, which would mean no entry.
_UNREAD: Any = ()
_VALUE_AND_TIMESTAMP = layout_from_offsets((0, DOUBLE_BYTES))


class ValueIndex(FileIndex):
    """The index of a file of counters, gauges or summaries."""

    def _locate(self, data: bytes, lengths: memoryview, end: int) -> None:
        file_group, column = self._file_group, self._columns[0]
        label_sets, offsets = self._scan(data, lengths, end)
        # There are no gaps: an entry begins where the one before it ends.
        starts = [self.end, *(at + VALUE.size for at in offsets)]
        families = map(attrgetter("family"), reversed(label_sets))
        first_starts = dict(zip(families, reversed(starts[:-1]), strict=True))
        for family, start in first_starts.items():
            if column not in family.helps:
                self._add_help(family.helps, read_key(data, lengths, start, end))
            if not family.is_single:  # this file adds a sample to each label set
                for label_set in label_sets:
                    label_set.template = None
        has_no_duplicates = len(set(label_sets)) == len(label_sets)
        if not (self._blocks or file_group.has_timestamps) and has_no_duplicates:
            self._new_values[SingleValueBlock, column] = offsets, label_sets
        else:
            for label_set, at in zip(label_sets, offsets, strict=True):
                self._add_value(label_set, at)
        self._remember_last(data, starts[-2])

    def _scan(self, data: bytes, lengths: memoryview, end: int) -> tuple[list[LabelSet], array[int]]:
        """Return the label set of each entry up to ``end``, and the offset of its value."""
        known, new = self._file_group.label_sets, []
        find = known.get
        found, offsets = [], array("I")
        position = self.end
        while position < end:
            length = lengths[position >> 2]
            key_end = position + 4 + length
            at = key_end // 8 * 8 + 8  # value_offset(); the call would cost a third of this loop
            if length < 0 or at + 16 > end:
                raise entry_too_long(position)
            key = data[position + 4 : key_end]
            label_set = find(key)
            if label_set is None:
                new.append(key)
            found.append(label_set)
            offsets.append(at)
            position = at + 16
        self._file_group.add_keys(new)
        added = map(known.__getitem__, new)
        return [label_set or next(added) for label_set in found], offsets

    def _add_value(self, label_set: LabelSet, at: int) -> None:
        column = self._free_column(label_set)
        label_set.values[column] = _UNREAD
        if self._file_group.has_timestamps:
            offsets, owners = self._values_for(RowBlock, column)
            offsets.extend((at, at + DOUBLE_BYTES))
            owners.extend([EntryGroup(label_set, at, _VALUE_AND_TIMESTAMP)] * 2)
        else:
            offsets, owners = self._values_for(SingleValueBlock, column)
            offsets.append(at)
            owners.append(label_set)
