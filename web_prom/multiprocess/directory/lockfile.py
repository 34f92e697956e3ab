"""One file of small records and the kernel's locks on them, through one descriptor for each process.

POSIX byte-range locks: given back at any death, not inherited by a fork, and dropped when the process closes
*any* descriptor of the file. So there is one descriptor, which a fork goes on with, and nothing else in the
process may open the file.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from web_prom.multiprocess.regular_file import open_regular
from web_prom.posix import fcntl

RECORD = Struct("=q")
"""A record: one whole number."""

# Another user may have made the file, and given it any size.
_MOST_RECORDS = 1 << 16

# C's struct flock, which differs from system to system: its layout with padding, and the order of its fields.
_FLOCK = {
    "linux": (Struct("hhqqi0q"), ("type", "whence", "start", "length", "pid")),
    "darwin": (Struct("qqihh"), ("start", "length", "pid", "type", "whence")),
}


class Span(NamedTuple):
    """Records from the first up to, and without, the last; with None all that ever come."""

    first: int
    last: int | None

    @property
    def position(self) -> tuple[int, int]:
        """Length and offset in bytes, as the kernel wants them; the length zero is up to the end."""
        length = 0 if self.last is None else (self.last - self.first) * RECORD.size
        return length, self.first * RECORD.size


class Lock(NamedTuple):
    """A lock of another process.

    Attributes:
        span: The records that it covers.
        shared: Whether it is a read lock, which lets others have read locks on the same.
        pid: Whose it is; 0 if it is a process that this one cannot see.
    """

    span: Span
    shared: bool
    pid: int


class OtherInterpreterError(OSError):
    """Another interpreter of this process uses the file, and no lock keeps the two apart."""


@dataclass(frozen=True)
class _Opened:
    """A descriptor, and by which to know whether it still leads to the file."""

    number: int
    identity: tuple[int, int]
    writable: bool

    @property
    def is_open(self) -> bool:
        """Whether nobody closed it: a daemon closes all, and the number may be another file's by now."""
        try:
            return _identity(os.fstat(self.number)) == self.identity
        except OSError:
            return False


class LockFile:
    """The file, and the descriptor of it that this process has. Not safe between threads.

    Every method may raise OSError. :meth:`open` comes before all others.

    Args:
        path: The file; made when a process that is to write opens it and it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: _Opened | None = None

    @property
    def is_current(self) -> bool:
        """Whether the descriptor is open, and the path leads to the same file, as far as that is known."""
        opened = self._opened
        if opened is None or not opened.is_open:
            return False
        try:
            return _identity(os.lstat(self.path)) == opened.identity
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # the path cannot be asked now: the locks are kept
            return True

    @property
    def has_descriptor(self) -> bool:
        """Whether the descriptor is open, whatever the path leads to."""
        return self._opened is not None and self._opened.is_open

    @property
    def is_nameless(self) -> bool:
        """Whether the descriptor is open, and the path leads to nothing: the file was removed."""
        return self.has_descriptor and not os.path.lexists(self.path)

    def is_open(self, *, writing: bool, making: bool = False) -> bool:
        """Tell whether there is a descriptor that will do, of a removed file too if none is to be made."""
        if self._opened is None or self._opened.writable < writing:
            return False
        return self.is_current or (not making and self.is_nameless)

    def open(self, *, writing: bool, making: bool = False) -> bool:
        """Open the file anew: nothing is locked by this process afterwards. Tell whether there is one.

        Args:
            writing: To lock and record, not only to ask.
            making: Make the file if it is missing.

        Raises:
            OtherInterpreterError: A second descriptor would take away the locks of the first.
        """
        self.close()
        if sys.platform not in _FLOCK:
            raise OSError(f"on {sys.platform} nobody knows how to ask for the holder of a lock")
        self.refuse_another()
        number = self._open(writing=writing, making=making)
        if number is None:
            return False
        self._opened = _Opened(number, _identity(os.fstat(number)), writing)
        return True

    def refuse_another(self) -> None:
        """See that no other interpreter of this process uses the file.

        Raises:
            OtherInterpreterError: This process has a descriptor, and a record, that are not this object's.
        """
        own = None if self._opened is None else self._opened.number
        try:
            identity = _identity(os.lstat(self.path))
            numbers = {int(name) for name in os.listdir("/dev/fd")} - {own}
        except OSError:  # no such file, so nobody uses it; or no such list, so nobody knows
            return
        # A fork may inherit one that its parent was just opening, but no record under its own id.
        if any(_has_record(number, identity, os.getpid()) for number in numbers):
            raise OtherInterpreterError(f"another interpreter of process {os.getpid()} uses {self.path.name}")

    def set_aside(self) -> LockFile | None:
        """Let go a file that the path no longer leads to; return what has its descriptor from now on."""
        if self.is_current or not self.has_descriptor:
            return None
        former = LockFile(self.path)
        former._opened, self._opened = self._opened, None
        return former

    def close(self) -> None:
        """Close the file, and give back what this process has locked."""
        opened, self._opened = self._opened, None
        if opened is not None and opened.is_open:
            os.close(opened.number)

    def try_lock(self, span: Span, *, shared: bool = False) -> bool:
        """Lock records unless another process has a lock in the way; never wait."""
        try:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.lockf(self._number, kind | fcntl.LOCK_NB, *span.position)
        except (BlockingIOError, PermissionError):  # systems differ in what they say
            return False
        return True

    def unlock(self, span: Span) -> None:
        """Give records back."""
        fcntl.lockf(self._number, fcntl.LOCK_UN, *span.position)

    def lock_in(self, span: Span, *, shared: bool = True) -> Lock | None:
        """Return a lock that other processes have on any of these records, whichever the kernel tells.

        Args:
            span: The records.
            shared: Whether read locks are wanted too. Other users may have many.
        """
        layout, fields = _FLOCK[sys.platform]
        length, start = span.position
        kind = fcntl.F_WRLCK if shared else fcntl.F_RDLCK
        asked = {"type": kind, "whence": os.SEEK_SET, "start": start, "length": length, "pid": 0}
        answer = fcntl.fcntl(self._number, fcntl.F_GETLK, layout.pack(*(asked[field] for field in fields)))
        told = dict(zip(fields, layout.unpack(answer), strict=True))
        if told["type"] == fcntl.F_UNLCK:
            return None
        first, records = told["start"] // RECORD.size, told["length"] // RECORD.size
        covered = Span(first, first + records if records else None)
        return Lock(covered, told["type"] == fcntl.F_RDLCK, told["pid"])

    def locks(self) -> Iterator[Lock]:
        """Give all write locks that other processes have, in no order."""
        pending = [Span(0, None)]
        while pending:
            span = pending.pop()
            lock = self.lock_in(span, shared=False)
            if lock is None:
                continue
            yield lock
            if span.first < lock.span.first:
                pending.append(Span(span.first, lock.span.first))
            if lock.span.last is not None and (span.last is None or lock.span.last < span.last):
                pending.append(Span(lock.span.last, span.last))

    def records(self) -> list[int]:
        """Return all records."""
        return _records(self._number)

    def record_of(self, index: int) -> int:
        """Return one record; 0 where nothing was ever recorded."""
        found = os.pread(self._number, RECORD.size, index * RECORD.size)
        return int(RECORD.unpack(found)[0]) if len(found) == RECORD.size else 0

    def touch(self) -> None:
        """Give the file the present time: what cleans directories by age leaves it."""
        os.utime(self._number)

    def record(self, index: int, value: int) -> None:
        """Write one record."""
        os.pwrite(self._number, RECORD.pack(value), index * RECORD.size)

    @property
    def _number(self) -> int:
        assert self._opened is not None
        return self._opened.number

    def _open(self, *, writing: bool, making: bool) -> int | None:
        flags = os.O_RDWR if writing else os.O_RDONLY
        while True:
            try:
                number = open_regular(self.path, flags)
                if writing:
                    self._restrict(number)
                return number
            except FileNotFoundError:
                if not making:
                    return None
            with contextlib.suppress(FileExistsError):
                return self._make(flags)

    def _make(self, flags: int) -> int:
        # Whoever may write to the directory may lock, whatever the mask of whoever was first.
        directory = self.path.parent.stat()
        number = open_regular(self.path, flags | os.O_CREAT | os.O_EXCL, mode=0o600)
        with contextlib.suppress(OSError):
            # Root gives it to the directory's owner, who could not open it otherwise.
            os.fchown(number, -1 if os.geteuid() else directory.st_uid, directory.st_gid)
            os.fchmod(number, _mode(directory))
        return number

    def _restrict(self, number: int) -> None:
        """Take away permissions that a former release gave."""
        with contextlib.suppress(OSError):
            found, mode = os.fstat(number).st_mode & 0o777, _mode(self.path.parent.stat())
            if found & ~mode:
                os.fchmod(number, found & mode)


def _mode(directory: os.stat_result) -> int:
    """Return the permissions of the file: a read lock, for which reading is enough, keeps writers away."""
    return sum(bits for bits in (0o600, 0o060, 0o006) if directory.st_mode & bits & 0o222)


def _has_record(number: int, identity: tuple[int, int], value: int) -> bool:
    try:
        return _identity(os.fstat(number)) == identity and value in _records(number)
    except OSError:  # nothing is open under that number, or not any more
        return False


def _records(number: int) -> list[int]:
    found = os.pread(number, min(os.fstat(number).st_size, _MOST_RECORDS * RECORD.size), 0)
    return [record for (record,) in RECORD.iter_unpack(found[: len(found) // RECORD.size * RECORD.size])]


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
