"""One file of small records and the kernel's locks on them, through one descriptor for each process.

POSIX byte-range locks: given back at any death, not inherited by a fork, and dropped when the process closes
*any* descriptor of the file. So there is one descriptor, which a fork goes on with, and nothing else in the
process may open the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import NamedTuple

RECORD = Struct("=q")
"""A record: one whole number."""

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
        """Whether the descriptor is open, and the path leads to the same file."""
        try:
            opened = self._opened
            return opened is not None and opened.is_open and _identity(self.path.stat()) == opened.identity
        except OSError:
            return False

    def is_open(self, *, writing: bool) -> bool:
        """Tell whether there is a descriptor that will do."""
        return self.is_current and self._opened is not None and self._opened.writable >= writing

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
        found = os.fstat(number)
        if not stat.S_ISREG(found.st_mode):
            os.close(number)
            raise OSError(f"{self.path.name} is not a file")
        self._opened = _Opened(number, _identity(found), writing)
        return True

    def refuse_another(self) -> None:
        """See that no other interpreter of this process uses the file.

        Raises:
            OtherInterpreterError: This process has a descriptor, and a record, that are not this object's.
        """
        own = None if self._opened is None else self._opened.number
        try:
            identity = _identity(self.path.stat())
            numbers = {int(name) for name in os.listdir("/dev/fd")} - {own}
        except OSError:  # no such file, so nobody uses it; or no such list, so nobody knows
            return
        # A fork may inherit one that its parent was just opening, but no record under its own id.
        if any(_has_record(number, identity, os.getpid()) for number in numbers):
            raise OtherInterpreterError(f"another interpreter of process {os.getpid()} uses {self.path.name}")

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

    def lock_in(self, span: Span) -> Lock | None:
        """Return a lock that other processes have on any of these records, whichever the kernel tells."""
        layout, fields = _FLOCK[sys.platform]
        length, start = span.position
        asked = {"type": fcntl.F_WRLCK, "whence": os.SEEK_SET, "start": start, "length": length, "pid": 0}
        answer = fcntl.fcntl(self._number, fcntl.F_GETLK, layout.pack(*(asked[field] for field in fields)))
        told = dict(zip(fields, layout.unpack(answer), strict=True))
        if told["type"] == fcntl.F_UNLCK:
            return None
        first, records = told["start"] // RECORD.size, told["length"] // RECORD.size
        covered = Span(first, first + records if records else None)
        return Lock(covered, told["type"] == fcntl.F_RDLCK, told["pid"])

    def locks(self) -> Iterator[Lock]:
        """Give all locks that other processes have, in no order."""
        pending = [Span(0, None)]
        while pending:
            span = pending.pop()
            lock = self.lock_in(span)
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

    def record(self, index: int, value: int) -> None:
        """Write one record."""
        os.pwrite(self._number, RECORD.pack(value), index * RECORD.size)

    @property
    def _number(self) -> int:
        assert self._opened is not None
        return self._opened.number

    def _open(self, *, writing: bool, making: bool) -> int | None:
        # Another user's link must not be followed, nor another user's pipe waited for.
        flags = (os.O_RDWR if writing else os.O_RDONLY) | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        while True:
            try:
                return os.open(self.path, flags)
            except FileNotFoundError:
                if not making:
                    return None
            with contextlib.suppress(FileExistsError):
                return self._make(flags)

    def _make(self, flags: int) -> int:
        # Whoever may write to the directory may lock, whatever the mask of whoever was first.
        directory = self.path.parent.stat()
        mode = directory.st_mode & 0o666
        number = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, mode)
        with contextlib.suppress(OSError):
            os.fchown(number, -1, directory.st_gid)
            os.fchmod(number, mode)
        return number


def _has_record(number: int, identity: tuple[int, int], value: int) -> bool:
    try:
        return _identity(os.fstat(number)) == identity and value in _records(number)
    except OSError:  # nothing is open under that number, or not any more
        return False


def _records(number: int) -> list[int]:
    found = os.pread(number, os.fstat(number).st_size, 0)
    return [record for (record,) in RECORD.iter_unpack(found[: len(found) // RECORD.size * RECORD.size])]


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
