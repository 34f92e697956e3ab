"""A file of small records with POSIX locks on them, through one descriptor for each process.

The kernel releases POSIX byte-range locks when the process dies, and a fork does not inherit them. They are
also released when the process closes *any* descriptor of the file. So there is one descriptor for each
process, which a fork continues to use, and no other code in the process may open the file.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from web_prom.multiprocess.regular_file import open_regular
from web_prom.posix import fcntl

RECORD = Struct("=q")
"""A record: one integer."""

# Another user may have made the file, with any size.
_MAX_RECORDS = 1 << 16

# C's struct flock for each system: its layout with padding, and the order of its fields.
_FLOCK = {
    "linux": (Struct("hhqqi0q"), ("type", "whence", "start", "length", "pid")),
    "darwin": (Struct("qqihh"), ("start", "length", "pid", "type", "whence")),
}


class Span(NamedTuple):
    """A range of records: from ``first`` up to ``last``, without it. None as ``last`` means no end."""

    first: int
    last: int | None

    @property
    def position(self) -> tuple[int, int]:
        """Length and offset in bytes, as the kernel expects them. A length of zero means no end."""
        length = 0 if self.last is None else (self.last - self.first) * RECORD.size
        return length, self.first * RECORD.size


class Lock(NamedTuple):
    """A lock of another process.

    Attributes:
        span: The locked records.
        shared: Whether it is a read lock. Several processes can have read locks on the same records.
        pid: The process that has the lock; 0 if that process is not visible here (another container's).
    """

    span: Span
    shared: bool
    pid: int


class OtherInterpreterError(OSError):
    """Another interpreter of this process uses the file. Locks do not exclude each other in one process."""


class _OpenFile(NamedTuple):
    """An open descriptor, with the identity of the file that it was opened for."""

    descriptor: int
    identity: tuple[int, int]
    writable: bool

    @property
    def is_open(self) -> bool:
        """Whether the descriptor is still this file's: a daemon closes all, and numbers are used again."""
        try:
            return _identity(os.fstat(self.descriptor)) == self.identity
        except OSError:
            return False


class LockFile:
    """A lock file, and this process's descriptor of it. Not safe between threads.

    Every method may raise OSError. :meth:`open` has to be called before the other methods.

    Args:
        path: The file. It is created when a process opens it with ``create``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: _OpenFile | None = None

    @property
    def is_current(self) -> bool:
        """Whether the descriptor is open and the path leads to the same file, as far as that is known."""
        file = self._file
        if file is None or not file.is_open:
            return False
        try:
            return _identity(os.lstat(self.path)) == file.identity
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # the path is not accessible at the moment: keep the locks
            return True

    @property
    def has_descriptor(self) -> bool:
        """Whether the descriptor is open, whatever the path leads to."""
        return self._file is not None and self._file.is_open

    @property
    def is_removed(self) -> bool:
        """Whether the descriptor is open and the path leads to nothing."""
        return self.has_descriptor and not os.path.lexists(self.path)

    def is_usable(self, *, writing: bool, create: bool = False) -> bool:
        """Return whether the open descriptor will do. That of a removed file does, except with ``create``."""
        if self._file is None or self._file.writable < writing:
            return False
        return self.is_current or (not create and self.is_removed)

    def open(self, *, writing: bool, create: bool = False) -> bool:
        """Open the file again; return whether it exists. Afterwards this process has no locks.

        Args:
            writing: Open the file for locks and records, not only for queries.
            create: Create the file if it is missing.

        Raises:
            OtherInterpreterError: A second descriptor would release the locks of the other interpreter.
        """
        self.close()
        if sys.platform not in _FLOCK:
            raise OSError(f"the layout of locks is not known on {sys.platform}")
        self.check_single_interpreter()
        descriptor = self._open(writing=writing, create=create)
        if descriptor is None:
            return False
        self._file = _OpenFile(descriptor, _identity(os.fstat(descriptor)), writing)
        return True

    def check_single_interpreter(self) -> None:
        """Check that no other interpreter of this process uses the file.

        Raises:
            OtherInterpreterError: This process has a descriptor and a record that are not this object's.
        """
        own = None if self._file is None else self._file.descriptor
        try:
            identity = _identity(os.lstat(self.path))
            others = {int(name) for name in os.listdir("/dev/fd")} - {own}
        except OSError:  # the file does not exist, or the system has no list of descriptors
            return
        # A fork may inherit a descriptor that its parent was just opening, but no record with its own id.
        if any(_has_record(descriptor, identity, os.getpid()) for descriptor in others):
            raise OtherInterpreterError(f"another interpreter of process {os.getpid()} uses {self.path.name}")

    def detach_replaced(self) -> LockFile | None:
        """Return an object with the descriptor of a file that is no longer at the path, and give it up here.

        Returns:
            The object; None if the file is at the path, or is not open.
        """
        if self.is_current or not self.has_descriptor:
            return None
        replaced = LockFile(self.path)
        replaced._file, self._file = self._file, None
        return replaced

    def close(self) -> None:
        """Close the file, which releases all locks of this process."""
        file, self._file = self._file, None
        if file is not None and file.is_open:
            os.close(file.descriptor)

    def try_lock(self, span: Span, *, shared: bool = False) -> bool:
        """Lock records if no other process has a conflicting lock; return whether it did. Never waits."""
        try:
            operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.lockf(self._descriptor, operation | fcntl.LOCK_NB, *span.position)
        except (BlockingIOError, PermissionError):  # systems report this differently
            return False
        return True

    def unlock(self, span: Span) -> None:
        """Release the locks on records."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, *span.position)

    def find_lock(self, span: Span, *, shared: bool = True) -> Lock | None:
        """Return one lock that another process has on any of these records; the kernel chooses which.

        Args:
            span: The records.
            shared: Whether to find read locks too. Other users may have many.
        """
        layout, fields = _FLOCK[sys.platform]
        length, start = span.position
        kind = fcntl.F_WRLCK if shared else fcntl.F_RDLCK
        query = {"type": kind, "whence": os.SEEK_SET, "start": start, "length": length, "pid": 0}
        packed = layout.pack(*(query[field] for field in fields))
        answer = layout.unpack(fcntl.fcntl(self._descriptor, fcntl.F_GETLK, packed))
        found = dict(zip(fields, answer, strict=True))
        if found["type"] == fcntl.F_UNLCK:
            return None
        first, records = found["start"] // RECORD.size, found["length"] // RECORD.size
        locked = Span(first, first + records if records else None)
        return Lock(locked, found["type"] == fcntl.F_RDLCK, found["pid"])

    def write_locks(self) -> Iterator[Lock]:
        """Yield all write locks of other processes, in no order."""
        pending = [Span(0, None)]
        while pending:
            span = pending.pop()
            lock = self.find_lock(span, shared=False)
            if lock is None:
                continue
            yield lock
            if span.first < lock.span.first:
                pending.append(Span(span.first, lock.span.first))
            if lock.span.last is not None and (span.last is None or lock.span.last < span.last):
                pending.append(Span(lock.span.last, span.last))

    def read_records(self) -> list[int]:
        """Return all records."""
        return _read_records(self._descriptor)

    def read_record(self, index: int) -> int:
        """Return one record; 0 if it was never written."""
        data = os.pread(self._descriptor, RECORD.size, index * RECORD.size)
        return int(RECORD.unpack(data)[0]) if len(data) == RECORD.size else 0

    def write_record(self, index: int, value: int) -> None:
        """Write one record."""
        os.pwrite(self._descriptor, RECORD.pack(value), index * RECORD.size)

    def touch(self) -> None:
        """Set the file's time to the present, so that programs that remove old files keep it."""
        os.utime(self._descriptor)

    @property
    def _descriptor(self) -> int:
        assert self._file is not None
        return self._file.descriptor

    def _open(self, *, writing: bool, create: bool) -> int | None:
        flags = os.O_RDWR if writing else os.O_RDONLY
        while True:
            try:
                descriptor = open_regular(self.path, flags)
                if writing:
                    self._restrict(descriptor)
                return descriptor
            except FileNotFoundError:
                if not create:
                    return None
            with contextlib.suppress(FileExistsError):
                return self._create(flags)

    def _create(self, flags: int) -> int:
        # Whoever may write to the directory may lock, whatever the umask of the creating process is.
        directory = self.path.parent.stat()
        descriptor = open_regular(self.path, flags | os.O_CREAT | os.O_EXCL, mode=0o600)
        with contextlib.suppress(OSError):
            # Root gives the file to the owner of the directory, who could not open it otherwise.
            os.fchown(descriptor, -1 if os.geteuid() else directory.st_uid, directory.st_gid)
            os.fchmod(descriptor, _mode(directory))
        return descriptor

    def _restrict(self, descriptor: int) -> None:
        """Remove permissions that an older release of web-prom gave."""
        with contextlib.suppress(OSError):
            current, mode = os.fstat(descriptor).st_mode & 0o777, _mode(self.path.parent.stat())
            if current & ~mode:
                os.fchmod(descriptor, current & mode)


def _mode(directory: os.stat_result) -> int:
    """Return the permissions of the file: who may not write may not read, as a read lock excludes writers."""
    return sum(bits for bits in (0o600, 0o060, 0o006) if directory.st_mode & bits & 0o222)


def _has_record(descriptor: int, identity: tuple[int, int], value: int) -> bool:
    try:
        return _identity(os.fstat(descriptor)) == identity and value in _read_records(descriptor)
    except OSError:  # the descriptor is not open, or no longer
        return False


def _read_records(descriptor: int) -> list[int]:
    data = os.pread(descriptor, min(os.fstat(descriptor).st_size, _MAX_RECORDS * RECORD.size), 0)
    return [record for (record,) in RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size])]


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
