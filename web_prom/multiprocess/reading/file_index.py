"""The index of one value file: where the values of its entries are, and which label sets they belong to."""

from __future__ import annotations

from array import array
from typing import Any

from web_prom.multiprocess.file_entries import CorruptFileError
from web_prom.multiprocess.file_format import HEADER, LENGTH, VALUE, FileName, value_offset
from web_prom.multiprocess.reading.file_group import FileGroup
from web_prom.multiprocess.reading.model import LabelSet
from web_prom.multiprocess.reading.value_blocks import RevisionBlock, ValueBlock

# Each column takes memory in every label set. One sample has an entry for each help text that it ever had.
_MAX_COLUMNS = 64


class FileIndex:
    """The entries of one file. Each entry is located once; after that only values are read.

    A file has one column in its group. It has more if several of its entries are the same sample: the
    documentation is part of a key, and another release of an application may have changed it.

    Args:
        file_group: The data that the files of one type and mode share.
        name: The name of the file.
        has_revisions: Whether web-prom wrote the file. Then the ``_sum`` of a histogram has a revision.

    Attributes:
        end: The offset up to which the entries are located.
    """

    def __init__(self, file_group: FileGroup, name: FileName, *, has_revisions: bool) -> None:
        self.end = HEADER.size
        self._file_group = file_group
        self._name = name
        self._has_revisions = has_revisions
        self._columns = [file_group.add_column(name)]
        self._blocks: list[ValueBlock] = []
        # The offsets and owners of values that are in no block yet.
        self._new_values: dict[tuple[type[ValueBlock], int], tuple[array[int], list[Any]]] = {}
        self._last_key = b""
        self._last_start = 0

    def parse(self, data: bytes, end: int) -> None:
        """Locate the entries that were added, up to the offset ``end``.

        Raises:
            CorruptFileError: The file has other contents. The caller has to drop the index.
        """
        try:
            with memoryview(data) as view, view[:end] as used, used.cast("i") as lengths:
                self._locate(data, lengths, end)
            self.end = end
        finally:  # also after an error: drop() has to find the label sets
            self._make_blocks(data)

    def read(self, data: bytes) -> None:
        """Store the values that have changed in their label sets."""
        for block in self._blocks:
            block.read(data)

    def is_index_of(self, data: bytes) -> bool:
        """Return whether the last entry that is located is still at its offset."""
        return data.startswith(self._last_key, self._last_start)

    def drop(self) -> None:
        """Remove the values of the file from all label sets."""
        for block in self._blocks:
            self._drop_block(block)
        for column in self._columns:
            self._file_group.remove_column(column)
        self._blocks = []
        self._columns = []

    def _locate(self, data: bytes, lengths: memoryview, end: int) -> None:
        """Locate the entries from ``self.end`` to ``end``.

        Args:
            data: The bytes of the file.
            lengths: The same bytes as 32-bit numbers.
            end: The offset up to which the bytes are in use.
        """
        raise NotImplementedError

    def _drop_block(self, block: ValueBlock) -> None:
        column = block.column
        for label_set in block.label_sets():
            label_set.values[column] = None
            label_set.template = None
            self._file_group.changed.add(label_set)

    def _free_column(self, label_set: LabelSet) -> int:
        """Return a column of the file in which a label set has no value."""
        for column in self._columns:
            if label_set.values[column] is None:
                return column
        if len(self._columns) >= _MAX_COLUMNS:
            raise CorruptFileError(f"it has more than {_MAX_COLUMNS} entries of one sample")
        self._columns.append(self._file_group.add_column(self._name))
        return self._columns[-1]

    def _add_help(self, helps: dict[int, str], key: bytes) -> None:
        """Note the documentation of a family, if this is its first entry in the file."""
        column = self._columns[0]
        if column not in helps:
            helps[column] = self._file_group.parse_key(key).help

    def _values_for(self, block_class: type[ValueBlock], column: int) -> tuple[array[int], list[Any]]:
        """Return the offsets and owners that the next block of this class will have, to be extended."""
        if (block_class, column) not in self._new_values:
            self._new_values[block_class, column] = array("I"), []
        return self._new_values[block_class, column]

    def _remember_last(self, data: bytes, start: int) -> None:
        (length,) = LENGTH.unpack_from(data, start)
        self._last_start = start
        self._last_key = data[start : start + LENGTH.size + length]

    def _make_blocks(self, data: bytes) -> None:
        """Make blocks of the new values."""
        for (block_class, column), (offsets, owners) in self._new_values.items():
            if not owners:
                continue
            file_group = self._file_group
            block = block_class(column, offsets, owners, file_group.removed_values, file_group.changed)
            if block_class is RevisionBlock:  # the label sets have their rows already
                block.mark_as_read(data)
                file_group.changed.update(block.label_sets())
            # Every call of struct has a cost, so that blocks of similar size are joined.
            for earlier in reversed(self._blocks):
                if earlier.column == column and isinstance(earlier, block_class):
                    if len(earlier) <= 2 * len(block):
                        self._blocks.remove(earlier)
                        block = earlier.joined(block)
                    else:
                        break
            self._blocks.append(block)
        self._new_values = {}


def read_key(data: bytes, lengths: memoryview, start: int, end: int) -> bytes:
    """Return the key of the entry at an offset.

    Raises:
        CorruptFileError: The entry is longer than the bytes in use.
    """
    length = lengths[start >> 2]
    if length < 0 or start + value_offset(length) + VALUE.size > end:
        raise entry_too_long(start)
    return data[start + LENGTH.size : start + LENGTH.size + length]


def entry_too_long(start: int) -> CorruptFileError:
    """Return the error for an entry that is longer than the bytes in use."""
    return CorruptFileError(f"its entry at byte {start} is longer than the file")
