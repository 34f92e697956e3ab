"""The format of value files: file names, header, entries, and the values of removed entries.

prometheus_client defines the format (``MmapedDict``). A file begins with a header of eight bytes: a 32-bit
count of the bytes in use, which includes the header, and four bytes that prometheus_client sets to zero.
Entries follow. They are never moved and never deleted. An entry is the length of the key (32 bits), the key
(JSON, UTF-8), spaces up to a multiple of eight bytes, the value and its timestamp (two doubles). All numbers
are in the byte order of the machine.

Files of web-prom contain two more things, in bytes that prometheus_client does not read:

- The four bytes after the count hold the *identity* of the file, a random number other than zero. A reader
  that caches the contents of a file compares the identity to find out that another file has replaced it.
- The timestamp of the ``_sum`` entry of a histogram counts the writes to the buckets of that label set. It is
  the *revision* of the label set. If the sum and the revision have not changed, no bucket has changed.

An entry is removed by writing a special value (:func:`removed_value`) with one store. No application sets
this value, and it does not change the result when prometheus_client merges the entry with the entries of
other files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

HEADER = Struct("=iI")
"""The bytes in use and the identity."""

LENGTH = Struct("=i")
"""The length of the key, which precedes the key."""

VALUE = Struct("=dd")
"""The value and its timestamp, which follow the key."""

REMOVED: float = Struct("=d").unpack(Struct("=Q").pack(0x0000_5D1A_C3E7_942B))[0]
"""The value of an entry whose label set was removed: about 5e-310. It changes only sums of zeros."""

REMOVING: float = Struct("=d").unpack(Struct("=Q").pack(0x0000_5D1A_C3E7_942C))[0]
"""The value of the sum of a histogram, or the count of a summary, while its other entries are removed."""

# Close to the largest finite double. A gauge of the mode min or max with this value never is the minimum or
# maximum.
_EXTREME = float.fromhex("0x1.fffffe3a7c5d1p+1023")

REMOVED_VALUES: frozenset[float] = frozenset({REMOVED, _EXTREME, -_EXTREME})
"""All results of :func:`removed_value`."""

TEMP_SUFFIX = ".new"
"""The end of the name of a file that is not complete yet."""

CORRUPT_SUFFIX = ".damaged"
"""The end of the name of a corrupt file, which is kept for inspection and not counted."""

_NAME = re.compile(r"(counter|histogram|summary|gauge_(?P<mode>[a-z]+))_(?P<owner>.+)\.db")
_SLOT = re.compile(r"s(\d+)")
_DEAD = re.compile(r"dead(\d+)(?:-(\d+)(?:-\d+)?)?")


class FileName(NamedTuple):
    """The parts of the name of a value file.

    Attributes:
        metric_type: ``counter``, ``gauge``, ``histogram`` or ``summary``.
        mode: The ``multiprocess_mode`` of a gauge. Empty for the other types.
        owner: The writer of the file: ``s`` and the number of a slot, or a process id if prometheus_client
            alone writes the file. Files of dead processes have the owner ``dead`` and a generation, see
            ``directory/dead_files.py``.
    """

    metric_type: str
    mode: str
    owner: str

    @classmethod
    def parse(cls, name: str) -> FileName | None:
        """Parse the name of a file. Return None if it is not the name of a value file."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        return cls(match[1].partition("_")[0], match["mode"] or "", match["owner"])

    @property
    def slot(self) -> int | None:
        """The number of the slot whose holder writes the file. None for files of prometheus_client alone."""
        match = _SLOT.fullmatch(self.owner)
        return int(match[1]) if match else None

    @property
    def pid(self) -> int | None:
        """The process id in the name of a file of prometheus_client alone. None for any other file."""
        return int(self.owner) if self.owner.isdecimal() else None

    @property
    def generation(self) -> int | None:
        """The number of the merge that a file of dead processes belongs to. None for any other file."""
        match = _DEAD.fullmatch(self.owner)
        return int(match[1]) if match else None

    @property
    def is_source(self) -> bool:
        """Whether this is the file of a single dead process that is not merged yet."""
        match = _DEAD.fullmatch(self.owner)
        return match is not None and match[2] is not None

    @property
    def pid_label(self) -> str:
        """The value of the label ``pid`` of a gauge: the owner, without a generation."""
        match = _DEAD.fullmatch(self.owner)
        return (match[2] or "dead") if match else self.owner

    @property
    def is_live(self) -> bool:
        """Whether the values count only while their process is alive."""
        return self.mode.startswith("live")

    def __str__(self) -> str:
        return "_".join(filter(None, (self.metric_type, self.mode, self.owner))) + ".db"


def removed_value(mode: str) -> float:
    """Return the value that marks an entry as removed.

    Args:
        mode: The ``multiprocess_mode`` of a gauge. Empty for the other types.
    """
    return {"min": _EXTREME, "max": -_EXTREME}.get(mode.removeprefix("live"), REMOVED)


def entry_key(
    metric_name: str, name: str, label_names: Sequence[str], label_values: Sequence[str], help_text: str
) -> bytes:
    """Return the key of an entry: JSON with sorted labels, as ``mmap_key`` of prometheus_client gives it."""
    labels = dict(zip(label_names, label_values, strict=False))
    return json.dumps([metric_name, name, labels, help_text], sort_keys=True).encode()


def value_offset(key_length: int) -> int:
    """Return the offset of the value from the beginning of the entry, in bytes, for the length of a key."""
    # prometheus_client writes at least one space, even if the key ends at a multiple of eight bytes.
    return (key_length + LENGTH.size) // 8 * 8 + 8


def pack_entry(key: bytes, value: float = 0.0, timestamp: float = 0.0) -> bytes:
    """Return the bytes of an entry."""
    padding = b" " * (value_offset(len(key)) - LENGTH.size - len(key))
    return LENGTH.pack(len(key)) + key + padding + VALUE.pack(value, timestamp)
