"""The offsets of values in a file, and compiled functions that unpack all of them in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import sub
from struct import Struct
from typing import Any

from web_prom.multiprocess.file_format import VALUE

Unpack = Callable[..., tuple[Any, ...]]
"""``Struct.unpack_from``."""

DOUBLE_BYTES = 8


class EntryLayout:
    """The offsets of the values of a label set, in bytes from the beginning of its first entry.

    Attributes:
        offsets: The offsets, ascending.
        first: The first offset.
        unpack: Returns all values in one call, given the bytes of the file and the start of the first entry.
    """

    __slots__ = ("first", "offsets", "unpack")

    def __init__(self, offsets: tuple[int, ...]) -> None:
        self.offsets = offsets
        self.first = offsets[0]
        self.unpack: Callable[..., tuple[float, ...]] = make_unpacker(offsets)


@lru_cache(maxsize=1024)
def layout_from_offsets(offsets: tuple[int, ...]) -> EntryLayout:
    """Return the layout of values at these offsets. Equal offsets have the same layout object."""
    return EntryLayout(offsets)


@lru_cache(maxsize=1024)
def layout_from_prefixes(lengths: tuple[int, ...]) -> EntryLayout:
    """Return the layout of adjacent entries, given the number of bytes before the value of each entry."""
    offsets = []
    position = 0
    for length in lengths:
        offsets.append(position + length)
        position += length + VALUE.size
    return layout_from_offsets(tuple(offsets))


@lru_cache(maxsize=1024)
def make_entry_unpacker(lengths: tuple[int, ...]) -> Unpack:
    """Return a function that unpacks adjacent entries: the bytes before each value, and the value, in turn.

    Args:
        lengths: The number of bytes before the value of each entry.
    """
    return Struct("=" + "".join(f"{length}sd{VALUE.size - DOUBLE_BYTES}x" for length in lengths)).unpack_from


def make_unpacker(offsets: Sequence[int]) -> Unpack:
    """Return a function that unpacks the doubles at ascending offsets in one call, at C speed."""
    return Struct(_struct_format(offsets, DOUBLE_BYTES)).unpack_from


def make_pair_unpacker(offsets: Sequence[int]) -> Unpack:
    """Return a function that unpacks two doubles at each of the ascending offsets."""
    # struct keeps 32 bytes for each code: one code "2d" takes half the memory of two codes "d".
    return Struct(_struct_format(offsets, 2 * DOUBLE_BYTES).replace("d", "2d")).unpack_from


class _DoubleCodes(dict[int, str]):
    """The :mod:`struct` codes for a double after a gap, by the length of the gap."""

    def __missing__(self, gap: int) -> str:
        self[gap] = code = f"{gap}xd" if gap else "d"
        return code


def _struct_format(offsets: Sequence[int], length: int) -> str:
    ends = [0, *(offset + length for offset in offsets[:-1])]
    return "".join(map(_DoubleCodes().__getitem__, map(sub, offsets, ends)))
