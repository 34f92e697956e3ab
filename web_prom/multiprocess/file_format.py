"""The format of prometheus_client's value files: their names, and where what lies in them.

A file begins with eight bytes: a 32-bit count of the bytes in use, these eight among them, and four bytes
that prometheus_client leaves zero. Entries follow, never moved and never removed: the length of the key (32
bits), the key (JSON, UTF-8), spaces up to a multiple of eight, the value and its timestamp (two doubles). All
in the machine's own byte order (``MmapedDict`` in prometheus_client).

Files that web-prom writes add two things, in places that prometheus_client does not read:

- The four bytes after the count hold the file's *identity*, a random number that is not zero: whoever keeps
  what a file contains can tell that another one was put in its place.
- The timestamp of a histogram's ``_sum`` counts the writes to that label set's buckets, and so is its *mark*:
  where sum and mark are what they were, so are all the buckets.

An entry is removed by its value (:func:`removed_value`), which is written with one store: a number that no
application sets, and that adds nothing where prometheus_client merges it with the entries of other files.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import NamedTuple

HEADER = Struct("=iI")
"""Bytes in use and identity."""

LENGTH = Struct("=i")
"""The length of a key, before it."""

VALUE = Struct("=dd")
"""A value and its timestamp, behind the key."""

REMOVED: float = Struct("=d").unpack(Struct("=Q").pack(0x0000_5D1A_C3E7_942B))[0]
"""The value of an entry whose label set was removed: about 5e-310, which changes no sum but that of zeros."""

REMOVING: float = Struct("=d").unpack(Struct("=Q").pack(0x0000_5D1A_C3E7_942C))[0]
"""The value of a histogram's sum, or a summary's count, while the other entries of it are removed."""

_HIGHEST = float.fromhex("0x1.fffffe3a7c5d1p+1023")  # the least of all that are in use, and not infinite

TEMP_SUFFIX = ".new"
"""The end of the name of a file that is not complete yet."""

CORRUPT_SUFFIX = ".damaged"
"""The end of the name of a corrupt file, which is kept for inspection and not counted."""

_NAME = re.compile(r"(counter|histogram|summary|gauge_(?P<mode>[a-z]+))_(?P<owner>.+)\.db")
_SLOT = re.compile(r"s(\d+)")
_DEAD = re.compile(r"dead(\d+)(?:-(\d+)(?:-\d+)?)?")


class FileName(NamedTuple):
    """What the name of a value file tells.

    Attributes:
        kind: ``counter``, ``gauge``, ``histogram`` or ``summary``.
        mode: A gauge's ``multiprocess_mode``; empty for the others.
        owner: Who writes the file: ``s`` and a slot's number, or with prometheus_client alone a process id.
            Files of dead processes are named ``dead`` and a generation, see ``dead_files.py``.
    """

    kind: str
    mode: str
    owner: str

    @classmethod
    def parse(cls, name: str) -> FileName | None:
        """Return what a name tells, or None for a file that holds no values."""
        found = _NAME.fullmatch(name)
        if found is None:
            return None
        return cls(found[1].partition("_")[0], found["mode"] or "", found["owner"])

    @property
    def slot(self) -> int | None:
        """The number of the slot whose holder writes the file; None with prometheus_client alone."""
        found = _SLOT.fullmatch(self.owner)
        return int(found[1]) if found else None

    @property
    def pid(self) -> int | None:
        """The process id by which prometheus_client alone names the file; None for any other file."""
        return int(self.owner) if self.owner.isdecimal() else None

    @property
    def generation(self) -> int | None:
        """Of a file of dead processes, the merge that it belongs to; None for any other file."""
        found = _DEAD.fullmatch(self.owner)
        return int(found[1]) if found else None

    @property
    def is_source(self) -> bool:
        """Whether it is a dead process's own file that waits to be merged."""
        found = _DEAD.fullmatch(self.owner)
        return found is not None and found[2] is not None

    @property
    def label(self) -> str:
        """What the label ``pid`` of a gauge shows: the owner, without a generation."""
        found = _DEAD.fullmatch(self.owner)
        return (found[2] or "dead") if found else self.owner

    @property
    def is_live(self) -> bool:
        """Whether the values count only while their process lives."""
        return self.mode.startswith("live")

    def __str__(self) -> str:
        return "_".join(filter(None, (self.kind, self.mode, self.owner))) + ".db"


def removed_value(mode: str) -> float:
    """Return the value of a removed entry, for a gauge's mode; an empty mode for the other kinds."""
    limits = {"min": _HIGHEST, "max": -_HIGHEST}
    return limits.get(mode.removeprefix("live"), REMOVED)


def value_offset(length: int) -> int:
    """Return where the value is, in bytes from the entry's beginning, for a key of ``length`` bytes."""
    # At least one space, also where the key ends at a multiple of eight.
    return (length + LENGTH.size) // 8 * 8 + 8


def entry(key: bytes, value: float = 0.0, timestamp: float = 0.0) -> bytes:
    """Return the bytes of an entry."""
    padding = b" " * (value_offset(len(key)) - LENGTH.size - len(key))
    return LENGTH.pack(len(key)) + key + padding + VALUE.pack(value, timestamp)
