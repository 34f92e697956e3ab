"""One value file for its only writer: opened or created with reserved space, mapped into memory, grown."""

from __future__ import annotations

import errno
import mmap
import os
from collections import defaultdict
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from threading import RLock
from typing import Any

from web_prom.multiprocess.file_entries import CorruptFileError, new_identity, used_bytes, value_positions
from web_prom.multiprocess.file_format import (
    HEADER,
    LENGTH,
    REMOVING,
    TEMP_SUFFIX,
    VALUE,
    FileName,
    pack_entry,
    removed_value,
)
from web_prom.multiprocess.regular_file import (
    BLOCK_BYTES,
    NotRegularError,
    mark_in_use,
    open_regular,
    reserve,
)
from web_prom.multiprocess.writing import entry_removal
from web_prom.multiprocess.writing.fork_guard import ForkGuard, make_fork_guard

INITIAL_BYTES = 1 << 16
_MAX_BYTES = (1 << 31) - BLOCK_BYTES  # the number of bytes in use is a signed integer of 32 bits
# prometheus_client creates files of this size, which are mostly empty.
_MAX_UNUSED_BYTES = 1 << 21


class ValueFile:
    """An open value file. An existing file is continued.

    The caller holds the lock. A kill at any point leaves a file that another writer can continue and that
    prometheus_client can read: bytes without a whole entry are not counted as used, and a file gets its
    name when it can be read. All space of the file is reserved, so that no write into the mapping finds
    the disk full.

    Args:
        path: The path. No other process may write to the file.
        lock: The lock that the file shares with other files; None for one of its own.
        guard: The guard that the file shares with other files; None for one of its own.

    Attributes:
        lock: Held by the thread that reads or writes the view.
        view: The file as doubles. It is another object after the file has grown, so do not keep it.
        guard: Its first item is true where values may be written without the storage.
        owner: The storage to which the file belongs, or None.
        path: The path, or the former path of a file that was removed.

    Raises:
        OSError: The file cannot be opened or created, or there is no room for it.
        NotRegularError: The path leads to something else than a regular file.
        CorruptFileError: The file has contents that no writer produces.
    """

    # mypy takes the type of the items only from the place of the cast.
    view: memoryview[float]

    def __init__(self, path: Path, lock: Any = None, guard: ForkGuard | None = None) -> None:
        self.lock = RLock() if lock is None else lock
        self.guard = make_fork_guard() if guard is None else guard
        self.owner: object = None
        self.path = path
        self._name = FileName.parse(path.name) or FileName("", "", "")
        self._removed_values = (removed_value(self._name.mode), REMOVING)
        try:
            descriptor = open_regular(path, os.O_RDWR)
        except FileNotFoundError:
            _create(path, LENGTH.pack(HEADER.size) + _identity(), INITIAL_BYTES)
            descriptor = open_regular(path, os.O_RDWR)
        try:
            self._status = os.fstat(descriptor)
            used = used_bytes(descriptor, self._status.st_size)
            data = os.pread(descriptor, used, 0)
            self._positions = value_positions(data)
            # Not more is reserved, because the file may have been made larger than the disk.
            size = _round_up(min(self._status.st_size, 2 * used + _MAX_UNUSED_BYTES))
            if self._status.st_blocks * 512 < size:
                reserve(descriptor, 0, size)
            mark_in_use(descriptor)
            mapping = mmap.mmap(descriptor, size)
        except (ValueError, RecursionError):
            raise CorruptFileError(f"{path} is corrupt, and is started again") from None
        finally:
            os.close(descriptor)
        self._use_mapping(mapping)
        if self._head[0] != used:
            self._head[0] = used
        entry_removal.finish_all(self._name, data, self.view, self._positions)
        self._former_count = len(self._positions)
        self._former_keys: dict[bytes, dict[bytes, list[bytes]]] = {}

    def locate(self, key: bytes) -> int:
        """Return the position of a value, counted in doubles. The timestamp is at the next position.

        A key without an entry gets one. A removed entry counts again, from zero.

        Raises:
            OSError: There is no room for a new entry.
        """
        position = self._positions.get(key)
        if position is None:
            return self._append(key)
        if self.view[position] in self._removed_values:
            entry_removal.restore(self._name, self.view, self._positions, key)
        return position

    def has(self, key: bytes) -> bool:
        """Return whether the file has an entry with this key that was not removed."""
        position = self._positions.get(key)
        return position is not None and self.view[position] not in self._removed_values

    def keys(self, start: bytes) -> list[bytes]:
        """Return the keys with this beginning, also those of removed entries."""
        return [key for key in self._positions if key.startswith(start)]

    def former_keys(self, start: bytes) -> dict[bytes, list[bytes]]:
        """Return the keys with this beginning that the file had when it was opened, by their labels."""
        found = self._former_keys.get(start)
        if found is None:
            found = self._former_keys[start] = defaultdict(list)
            for key in islice(self._positions, self._former_count):
                if key.startswith(start):
                    found[entry_removal.labels_of(key)].append(key)
        return found

    def remove(self, keys: Iterable[bytes]) -> None:
        """Remove label sets, given the keys of all their entries. Keys without an entry are ignored."""
        positions = self._positions
        entry_removal.remove(
            self._name, self.view, [(key, positions[key]) for key in dict.fromkeys(keys) if key in positions]
        )

    @property
    def is_in_place(self) -> bool:
        """Whether the path still leads to this file. It is true if that cannot be found out."""
        try:
            return os.path.samestat(self._status, os.lstat(self.path))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True

    def move(self, path: Path) -> None:
        """Move the file to another path. A file that was removed is written again from memory.

        The positions of values do not change. A file that is at ``path`` already stays there.

        Raises:
            OSError: The file cannot be moved, or there is no room for a copy. Nothing has changed then.
        """
        if self.is_in_place:
            if path != self.path:
                os.rename(self.path, path)
            self.path = path
            return
        size = len(self._mapping)
        _create(path, self._mapping[: self._head[0]], size)
        self._map(path, size)
        self.path = path

    def close(self) -> None:
        """Close the file. The view can no longer be used."""
        self.view.release()
        self._head.release()
        self._mapping.close()

    def _append(self, key: bytes) -> int:
        entry = pack_entry(key)
        used = self._head[0]
        end = used + len(entry)
        if end > len(self._mapping):
            self._grow(end)
        # In this order, a reader and the next writer see either nothing of the entry or all of it.
        self._mapping[used:end] = entry
        self._head[0] = end
        position = self._positions[key] = (end - VALUE.size) // 8
        return position

    def _grow(self, end: int) -> None:
        size = len(self._mapping)
        wanted = _round_up(max(end, size + size // 4, size + INITIAL_BYTES))
        if wanted > _MAX_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(self.path))
        descriptor = open_regular(self.path, os.O_RDWR)
        try:
            if not os.path.samestat(self._status, os.fstat(descriptor)):
                raise OSError(errno.ESTALE, "another file was put in its place", str(self.path))
            reserve(descriptor, size, wanted - size)
            mark_in_use(descriptor)
            mapping = mmap.mmap(descriptor, wanted)
        finally:
            os.close(descriptor)
        self._replace_mapping(mapping)

    def _map(self, path: Path, size: int) -> None:
        descriptor = open_regular(path, os.O_RDWR)
        try:
            status = os.fstat(descriptor)
            mark_in_use(descriptor)
            mapping = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        self._status = status
        self._replace_mapping(mapping)

    def _replace_mapping(self, mapping: mmap.mmap) -> None:
        former = self.view, self._head, self._mapping
        self._use_mapping(mapping)
        for each in former[:2]:
            each.release()
        former[2].close()

    def _use_mapping(self, mapping: mmap.mmap) -> None:
        self._mapping = mapping
        # Setting an item of these is one aligned store: another process sees the old number or the new one.
        self._head = memoryview(mapping)[: HEADER.size].cast("i")
        self.view = memoryview(mapping).cast("d")
        if not self._head[1]:  # a file of prometheus_client
            mapping[LENGTH.size : HEADER.size] = _identity()


def _create(path: Path, contents: bytes, size: int) -> None:
    # The file has another name at first, because prometheus_client cannot read an empty file.
    unfinished = f"{path}{TEMP_SUFFIX}"
    descriptor = open_regular(unfinished, os.O_RDWR | os.O_CREAT)
    try:
        if os.fstat(descriptor).st_nlink != 1:
            raise NotRegularError(errno.EMLINK, "the file has another name too", unfinished)
        os.ftruncate(descriptor, 0)
        reserve(descriptor, 0, size)
        os.pwrite(descriptor, contents, 0)
        os.rename(unfinished, path)
    except BaseException:
        os.unlink(unfinished)
        raise
    finally:
        os.close(descriptor)


def _identity() -> bytes:
    return LENGTH.pack(new_identity())


def _round_up(size: int) -> int:
    return max(INITIAL_BYTES, -(-size // BLOCK_BYTES) * BLOCK_BYTES)
