"""One value file as its only writer has it: opened or made, its space reserved, mapped, grown."""

from __future__ import annotations

import errno
import mmap
import os
from array import array
from collections import defaultdict
from collections.abc import Iterable
from contextlib import nullcontext
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
from web_prom.multiprocess.writing import removal
from web_prom.multiprocess.writing.fork_guard import ABSENT, Presence, presence

INITIAL_BYTES = 1 << 16
_MOST_BYTES = (1 << 31) - BLOCK_BYTES  # the count of bytes in use has 32 bits, and a sign
# prometheus_client makes its files this large, mostly empty.
_MOST_UNUSED_BYTES = 1 << 21


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
        CorruptFileError: It is no value file any more.
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
            used = used_bytes(descriptor, self._status.st_size)
            data = os.pread(descriptor, used, 0)
            self._positions = value_positions(data)
            # What is beyond is not reserved: anybody could have made the file larger than the disk.
            size = _fitting(min(self._status.st_size, 2 * used + _MOST_UNUSED_BYTES))
            if self._status.st_blocks * 512 < size:
                reserve(descriptor, 0, size)
            mark_in_use(descriptor)
            mapping = mmap.mmap(descriptor, size)
        except (ValueError, RecursionError):
            raise CorruptFileError(f"{path} is damaged, and begun anew") from None
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
        made = pack_entry(key)
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
            reserve(descriptor, size, wanted - size)
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


def _make(path: Path, contents: bytes, size: int) -> None:
    # Under another name at first: prometheus_client cannot read a file that is empty.
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


def _fitting(size: int) -> int:
    return max(INITIAL_BYTES, -(-size // BLOCK_BYTES) * BLOCK_BYTES)
