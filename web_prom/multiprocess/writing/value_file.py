"""One value file as its only writer has it: opened or made, its space reserved, mapped, grown."""

from __future__ import annotations

import errno
import json
import mmap
import os
import secrets
import struct
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from threading import RLock
from typing import Any

from web_prom.errors import WebPromError
from web_prom.multiprocess.directory.regular_file import NotRegularError, has_data, mark_in_use, open_regular
from web_prom.multiprocess.file_format import (
    HEADER,
    LENGTH,
    REMOVING,
    VALUE,
    FileName,
    entry,
    removed_value,
)
from web_prom.multiprocess.writing import removal
from web_prom.multiprocess.writing.fork_guard import ABSENT, Presence, presence

UNFINISHED = ".new"
"""Ends the name of a file that is being made."""

INITIAL_BYTES = 1 << 16
_BLOCK = 4096
_MOST_BYTES = (1 << 31) - _BLOCK  # the count of bytes in use has 32 bits, and a sign
# prometheus_client makes its files this large, mostly empty.
_MOST_UNUSED_BYTES = 1 << 21


class DamagedError(WebPromError, ValueError):
    """A value file has contents that no writer leaves."""


class Held:
    """A value that is in no file: it waits in memory until there is room.

    Attributes:
        owner: The storage where it waits; None before the value was ever written.
        lock: The lock of this storage.
        view: As that of a file: the value, its timestamp, and for a bucket the mark.
        replaced: Whether the value was set, and is not to be added to what a file has.
    """

    __slots__ = ("lock", "owner", "replaced", "view")

    here: Presence = ABSENT
    """Nobody may write here without asking the storage first."""

    def __init__(self, owner: object, lock: Any) -> None:
        self.owner = owner
        self.lock = lock
        self.view: Any = array("d", (0.0, 0.0, 0.0))
        self.replaced = False


_NO_LOCK = nullcontext()


class Removed(Held):
    """Where a cell's value is after its label set was removed: in memory that only the cell reads.

    The cell keeps its place in the file as an index here. That holds in forks as well.
    """

    __slots__ = ()

    here = b"\1"  # it is written without asking the storage, in this process and in forks

    def __init__(self, at: int, value: float) -> None:
        self.owner = None
        self.lock = _NO_LOCK
        self.view = defaultdict(float, {at: value})
        self.replaced = False


class ValueFile:
    """A value file, opened to be gone on with, or made.

    Whoever uses it holds its lock. A kill at any point leaves a file that another writer goes on with and
    prometheus_client can read: what has no whole entry is not counted as used, and a file has its name
    only once it can be read. All its space is reserved: no write into the mapping finds the disk full.

    Args:
        path: Where it is; no other process may write to it.
        lock: Shared with other files, if given.
        here: Likewise.

    Attributes:
        lock: Held by whoever reads or writes the view.
        view: The file as doubles. Another object after the file has grown: never kept.
        here: Its first item is true where one may write without asking the storage first.
        owner: The storage that it belongs to, if any.
        path: Where it is, or was before somebody removed it.

    Raises:
        OSError: It cannot be opened or made, or there is no room for it.
        NotRegularError: The path leads to something else than a file.
        DamagedError: It is no value file any more.
    """

    # mypy knows the kind of a view's items from where it was cast alone.
    view: memoryview[float]

    def __init__(self, path: Path, lock: Any = None, here: Presence | None = None) -> None:
        self.lock = RLock() if lock is None else lock
        self.here = presence() if here is None else here
        self.owner: object = None
        self.path = path
        self._name = FileName.parse(path.name) or FileName("", "", "")
        self._removed = (removed_value(self._name.mode), REMOVING)
        try:
            descriptor = open_regular(path, os.O_RDWR)
        except FileNotFoundError:
            _make(path, LENGTH.pack(HEADER.size) + _identity(), INITIAL_BYTES)
            descriptor = open_regular(path, os.O_RDWR)
        try:
            self._status = os.fstat(descriptor)
            used = _used(descriptor, self._status.st_size)
            data = os.pread(descriptor, used, 0)
            self._positions = _positions(data)
            # What is beyond is not reserved: anybody could have made the file larger than the disk.
            size = _fitting(min(self._status.st_size, 2 * used + _MOST_UNUSED_BYTES))
            if self._status.st_blocks * 512 < size:
                _reserve(descriptor, 0, size)
            mark_in_use(descriptor)
            mapping = mmap.mmap(descriptor, size)
        except (ValueError, RecursionError):
            raise DamagedError(f"{path} is damaged, and begun anew") from None
        finally:
            os.close(descriptor)
        self._use(mapping)
        if self._head[0] != used:
            self._head[0] = used
        removal.finish_all(self._name, data, self.view, self._positions)
        self._found = len(self._positions)
        self._left: dict[bytes, dict[bytes, list[bytes]]] = {}

    def locate(self, key: bytes) -> int:
        """Return where the value of a key is, counted in doubles; its timestamp is behind it.

        A removed entry counts again, from zero.

        Raises:
            OSError: It is new, and there is no room for it.
        """
        at = self._positions.get(key)
        if at is None:
            return self._append(key)
        if self.view[at] in self._removed:
            removal.restore(self._name, self.view, self._positions, key)
        return at

    def has(self, key: bytes) -> bool:
        """Tell whether there is an entry with this key that was not removed."""
        at = self._positions.get(key)
        return at is not None and self.view[at] not in self._removed

    def keys(self, start: bytes) -> list[bytes]:
        """Return the keys that begin so, also those of removed entries."""
        return [key for key in self._positions if key.startswith(start)]

    def left(self, start: bytes) -> dict[bytes, list[bytes]]:
        """Return the keys that begin so and were there when the file was opened, by their labels."""
        found = self._left.get(start)
        if found is None:
            found = self._left[start] = defaultdict(list)
            for key in islice(self._positions, self._found):
                if key.startswith(start):
                    found[removal.labels_of(key)].append(key)
        return found

    def remove(self, keys: Iterable[bytes]) -> None:
        """Remove whole label sets, given the keys of all their entries; keys without an entry are ignored."""
        positions = self._positions
        removal.remove(
            self._name, self.view, [(key, positions[key]) for key in dict.fromkeys(keys) if key in positions]
        )

    @property
    def is_in_place(self) -> bool:
        """Whether the path still leads to this file, as far as that is known."""
        try:
            return os.path.samestat(self._status, os.lstat(self.path))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True

    def move(self, path: Path) -> None:
        """Give the file another path; one that was removed goes on as a copy of what is still in memory.

        Places of values stay what they are. A file that is in place at ``path`` already stays there.

        Raises:
            OSError: It cannot be moved, or there is no room for a copy; nothing has changed then.
        """
        if self.is_in_place:
            if path != self.path:
                os.rename(self.path, path)
            self.path = path
            return
        size = len(self._mapping)
        _make(path, self._mapping[: self._head[0]], size)
        self._map(path, size)
        self.path = path

    def close(self) -> None:
        """Let the file go; the view can no longer be used."""
        self.view.release()
        self._head.release()
        self._mapping.close()

    def _append(self, key: bytes) -> int:
        made = entry(key)
        used = self._head[0]
        end = used + len(made)
        if end > len(self._mapping):
            self._grow(end)
        # Who reads or goes on sees either nothing of the entry or all of it.
        self._mapping[used:end] = made
        self._head[0] = end
        at = self._positions[key] = (end - VALUE.size) // 8
        return at

    def _grow(self, end: int) -> None:
        size = len(self._mapping)
        wanted = _fitting(max(end, size + size // 4, size + INITIAL_BYTES))
        if wanted > _MOST_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(self.path))
        descriptor = open_regular(self.path, os.O_RDWR)
        try:
            if not os.path.samestat(self._status, os.fstat(descriptor)):
                raise OSError(errno.ESTALE, "another file was put in its place", str(self.path))
            _reserve(descriptor, size, wanted - size)
            mark_in_use(descriptor)
            mapping = mmap.mmap(descriptor, wanted)
        finally:
            os.close(descriptor)
        self._replace(mapping)

    def _map(self, path: Path, size: int) -> None:
        descriptor = open_regular(path, os.O_RDWR)
        try:
            status = os.fstat(descriptor)
            mark_in_use(descriptor)
            mapping = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        self._status = status
        self._replace(mapping)

    def _replace(self, mapping: mmap.mmap) -> None:
        former = self.view, self._head, self._mapping
        self._use(mapping)
        for each in former[:2]:
            each.release()
        former[2].close()

    def _use(self, mapping: mmap.mmap) -> None:
        self._mapping = mapping
        # Item assignment to these is one aligned store: another process sees the old number or the new one.
        self._head = memoryview(mapping)[: HEADER.size].cast("i")
        self.view = memoryview(mapping).cast("d")
        if not self._head[1]:  # made by another writer
            mapping[LENGTH.size : HEADER.size] = _identity()


def entries_of(path: Path) -> dict[bytes, tuple[float, float]]:
    """Return the values of a file and their timestamps, by their keys.

    Raises:
        OSError: It cannot be read, or is no regular file.
        DamagedError: It is no value file any more.
    """
    descriptor = open_regular(path, os.O_RDONLY)
    try:
        data = os.pread(descriptor, _used(descriptor, os.fstat(descriptor).st_size), 0)
        positions = _positions(data)
    except (ValueError, RecursionError, struct.error):
        raise DamagedError(f"{path} is damaged") from None
    finally:
        os.close(descriptor)
    return {key: VALUE.unpack_from(data, at * 8) for key, at in positions.items()}


def _make(path: Path, contents: bytes, size: int) -> None:
    # Under another name at first: prometheus_client cannot read a file that is empty.
    unfinished = f"{path}{UNFINISHED}"
    descriptor = open_regular(unfinished, os.O_RDWR | os.O_CREAT)
    try:
        if os.fstat(descriptor).st_nlink != 1:
            raise NotRegularError(errno.EMLINK, "the file has another name too", unfinished)
        os.ftruncate(descriptor, 0)
        _reserve(descriptor, 0, size)
        os.pwrite(descriptor, contents, 0)
        os.rename(unfinished, path)
    except BaseException:
        os.unlink(unfinished)
        raise
    finally:
        os.close(descriptor)


def new_identity() -> int:
    """Return a number by which to know a file again."""
    return 1 + secrets.randbelow((1 << 31) - 1)


def _identity() -> bytes:
    return LENGTH.pack(new_identity())


def _fitting(size: int) -> int:
    return max(INITIAL_BYTES, -(-size // _BLOCK) * _BLOCK)


def _used(descriptor: int, size: int) -> int:
    """Return how many bytes are in use.

    Raises:
        ValueError: The count cannot be true.
    """
    head = os.pread(descriptor, HEADER.size, 0)
    used: int = LENGTH.unpack_from(head)[0] if len(head) == HEADER.size else 0
    if used == 0:  # prometheus_client's writer was killed as it began
        return HEADER.size
    if not HEADER.size <= used <= size or used % 8 or not has_data(descriptor, used):
        raise ValueError("it lost its end, or never had one")
    return used


def _positions(data: bytes) -> dict[bytes, int]:
    """Return where each key's value is, in doubles.

    Raises:
        ValueError: What is in use is not entries.
        RecursionError: Likewise.
    """
    found: dict[bytes, int] = {}
    offset, end = HEADER.size, len(data)
    if end % 8:
        raise ValueError("it lost its end a moment ago")
    with memoryview(data) as view, view.cast("i") as lengths:
        while offset < end:
            length = lengths[offset >> 2]
            key_end = offset + LENGTH.size + length
            at = key_end // 8 * 8 + 8  # value_offset(), whose call would cost a third of this loop
            if length <= 0 or at + VALUE.size > end:
                raise ValueError("an entry without its end")
            found[data[offset + LENGTH.size : key_end]] = at >> 3
            offset = at + VALUE.size
    _check_keys(found)
    return found


def _check_keys(keys: Iterable[bytes]) -> None:
    """Check that readers can read the keys.

    Raises:
        ValueError: A key is not what it should be.
        RecursionError: Likewise.
    """
    # Some together take half the time of one by one; all together keep the garbage collector busy.
    rest = iter(keys)
    while some := list(islice(rest, 256)):
        parsed: Sequence[Any] = json.loads((b"[" + b",".join(some) + b"]").decode())
        if len(parsed) != len(some) or not all(map(_is_key, parsed)):
            raise ValueError("a key is not what it should be")


def _is_key(key: Any) -> bool:
    return isinstance(key, list) and len(key) == 4 and isinstance(key[2], dict)


def _reserve(descriptor: int, offset: int, length: int) -> None:
    """Give a file all blocks of a range that it lacks, or raise OSError; its contents stay."""
    allocate: Callable[[int, int, int], None] | None = getattr(os, "posix_fallocate", None)
    try:
        if allocate is not None:  # macOS has none
            allocate(descriptor, offset, length)
            return
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
    # As glibc does where the file system cannot.
    for position in (*range(offset, offset + length, _BLOCK), offset + length - 1):
        os.pwrite(descriptor, os.pread(descriptor, 1, position) or b"\0", position)
