"""Regular files: opened safely, with reserved space, and marked as in use."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from web_prom.errors import WebPromError
from web_prom.posix import fcntl, open_flags

BLOCK_BYTES = 4096
"""The size of a block: files grow by whole blocks."""

_FLAGS = open_flags("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY")

# The errors of open(2) for a symbolic link (Linux, BSD), a directory, a pipe or socket, and a missing device.
_NOT_REGULAR = {errno.ELOOP, errno.EMLINK, errno.EISDIR, errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP}


class NotRegularError(WebPromError, OSError):
    """A path does not lead to a regular file that can be opened without waiting.

    It leads to a symbolic link, a directory, a pipe, a socket, a device, or a file with a lease. Unlike other
    OSErrors, this one is permanent: each attempt fails until the object is removed.
    """


def open_regular(path: str | Path, flags: int, dir_fd: int | None = None, *, mode: int = 0o666) -> int:
    """Open a regular file and return its descriptor, which children do not inherit.

    Never waits, and does not follow a symbolic link at the end of the path. Safe in any thread and after a
    fork.

    Args:
        path: The file. A relative path is relative to ``dir_fd``, if that is given.
        flags: As for ``os.open``.
        dir_fd: The descriptor of a directory.
        mode: The permissions of a file that is created; the umask of the process applies.

    Raises:
        NotRegularError: The path leads to something else than a regular file.
        OSError: The file cannot be opened, or does not exist (``FileNotFoundError``).
    """
    try:
        descriptor = os.open(path, flags | _FLAGS, mode, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in _NOT_REGULAR:
            reason = f"not a regular file: {os.strerror(error.errno)}"
            raise NotRegularError(error.errno, reason, str(path)) from None
        if error.errno == errno.EAGAIN:
            raise NotRegularError(error.errno, "its owner has a lease on it", str(path)) from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotRegularError(errno.EINVAL, "not a regular file", str(path))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def has_data(descriptor: int, length: int) -> bool:
    """Return whether a file has at least ``length`` bytes at its start without a hole.

    Writers leave no hole in the bytes that are in use. A corrupt file can have a size that it does not
    occupy on the disk.

    Raises:
        OSError: The file system reported an error.
    """
    if os.fstat(descriptor).st_size < length:
        return False
    try:
        return length == 0 or os.lseek(descriptor, 0, os.SEEK_HOLE) >= length
    except AttributeError:  # the system has no holes in files, or cannot find them
        return True
    except OSError as error:
        if error.errno in {errno.EINVAL, errno.EOPNOTSUPP}:  # the file system does not report holes
            return True
        raise


def reserve(descriptor: int, offset: int, length: int) -> None:
    """Allocate the missing blocks of a range of a file. The contents of the file do not change.

    Raises:
        OSError: There is not enough space.
    """
    allocate: Callable[[int, int, int], None] | None = getattr(os, "posix_fallocate", None)
    try:
        if allocate is not None:  # macOS has none
            allocate(descriptor, offset, length)
            return
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
    # glibc does the same where the file system has no such operation.
    for position in (*range(offset, offset + length, BLOCK_BYTES), offset + length - 1):
        os.pwrite(descriptor, os.pread(descriptor, 1, position) or b"\0", position)


def mark_in_use(descriptor: int) -> None:
    """Mark a file as in use (``flock``) while the descriptor, or a mapping that was made with it, is open.

    A fork inherits the mark. If the file system does not support ``flock``, nothing happens.
    """
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)


def is_in_use(path: str | Path) -> bool:
    """Return whether any process has marked a file as in use; false if the file cannot be opened."""
    try:
        descriptor = open_regular(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
