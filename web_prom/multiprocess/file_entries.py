"""The entries of a whole value file: located, checked and read, for writers and for merges."""

from __future__ import annotations

import json
import os
import secrets
import struct
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from web_prom.errors import WebPromError
from web_prom.multiprocess.file_format import HEADER, LENGTH, VALUE
from web_prom.multiprocess.regular_file import has_data, open_regular


class CorruptFileError(WebPromError, ValueError):
    """A value file has contents that no writer produces."""


def read_entries(path: Path) -> dict[bytes, tuple[float, float]]:
    """Return the value and the timestamp of each key of a file.

    Raises:
        OSError: The file cannot be read, or is no regular file.
        CorruptFileError: The file has contents that no writer produces.
    """
    descriptor = open_regular(path, os.O_RDONLY)
    try:
        data = os.pread(descriptor, used_bytes(descriptor, os.fstat(descriptor).st_size), 0)
        positions = value_positions(data)
    except (ValueError, RecursionError, struct.error):
        raise CorruptFileError(f"{path} is corrupt") from None
    finally:
        os.close(descriptor)
    return {key: VALUE.unpack_from(data, at * 8) for key, at in positions.items()}


def used_bytes(descriptor: int, size: int) -> int:
    """Return how many bytes of a file are in use.

    Args:
        descriptor: The open file.
        size: The size of the file in bytes.

    Raises:
        ValueError: The count in the header cannot be right.
    """
    head = os.pread(descriptor, HEADER.size, 0)
    used: int = LENGTH.unpack_from(head)[0] if len(head) == HEADER.size else 0
    if used == 0:  # a writer of prometheus_client was killed before it wrote the header
        return HEADER.size
    if not HEADER.size <= used <= size or used % 8 or not has_data(descriptor, used):
        raise ValueError("the file is shorter than its header says")
    return used


def value_positions(data: bytes) -> dict[bytes, int]:
    """Return the position of each key's value, counted in doubles from the beginning of the file.

    Args:
        data: All bytes of the file that are in use.

    Raises:
        ValueError: The bytes are not a sequence of entries.
        RecursionError: A key is nested too deeply to be parsed.
    """
    found: dict[bytes, int] = {}
    offset, end = HEADER.size, len(data)
    if end % 8:
        raise ValueError("the file was truncated while it was read")
    with memoryview(data) as view, view.cast("i") as lengths:
        while offset < end:
            length = lengths[offset >> 2]
            key_end = offset + LENGTH.size + length
            at = key_end // 8 * 8 + 8  # value_offset(); the call would cost a third of this loop
            if length <= 0 or at + VALUE.size > end:
                raise ValueError("an entry is not complete")
            found[data[offset + LENGTH.size : key_end]] = at >> 3
            offset = at + VALUE.size
    _check_keys(found)
    return found


def new_identity() -> int:
    """Return a random number for the header of a new file, by which readers recognise the file."""
    return 1 + secrets.randbelow((1 << 31) - 1)


def _check_keys(keys: Iterable[bytes]) -> None:
    """Check that readers can parse the keys.

    Raises:
        ValueError: A key is not a list of four items.
        RecursionError: A key is nested too deeply to be parsed.
    """
    # Batches take half the time of single keys. One batch of all keys would keep the garbage collector busy.
    rest = iter(keys)
    while some := list(islice(rest, 256)):
        parsed: Sequence[Any] = json.loads((b"[" + b",".join(some) + b"]").decode())
        if len(parsed) != len(some) or not all(map(_is_key, parsed)):
            raise ValueError("a key is not a list of four items")


def _is_key(key: Any) -> bool:
    return isinstance(key, list) and len(key) == 4 and isinstance(key[2], dict)
