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

# What open(2) says of a symbolic link (Linux, BSD), a directory, a pipe or socket, and a missing device.
_NO_REGULAR_FILE = {errno.ELOOP, errno.EMLINK, errno.EISDIR, errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP}


class NotRegularError(WebPromError, OSError):
    """The name does not lead to a regular file that can be opened at once.

    It is a symbolic link, a directory, a pipe, a socket, a device, or a file that its owner leased. Another
    attempt fails in the same way until somebody removes it: unlike other OSErrors, this one does not pass.
    """


def open_regular(path: str | Path, flags: int, dir_fd: int | None = None, *, mode: int = 0o666) -> int:
    """Open a regular file and return its descriptor, which children do not inherit.

    It never waits, and follows no symbolic link at the end of the path. Safe in any thread and after a
    fork.

    Args:
        path: The file; a relative name is looked up in ``dir_fd`` if that is given.
        flags: As for ``os.open``.
        dir_fd: The descriptor of a directory.
        mode: The permissions of a file that is made, before the process's mask.

    Raises:
        NotRegularError: Something else than a regular file has this name.
        OSError: The file cannot be opened, or there is none (``FileNotFoundError``).
    """
    try:
        descriptor = os.open(path, flags | _FLAGS, mode, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in _NO_REGULAR_FILE:
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
    """Return whether a file has at least so many bytes, all of them written.

    A writer leaves no hole in what it uses. A file with a hole claims more bytes than it takes on the disk.

    Raises:
        OSError: The file system does not answer.
    """
    if os.fstat(descriptor).st_size < length:
        return False
    try:
        return length == 0 or os.lseek(descriptor, 0, os.SEEK_HOLE) >= length
    except AttributeError:  # a system without holes in files, or without a way to find them
        return True
    except OSError as error:
        if error.errno in {errno.EINVAL, errno.EOPNOTSUPP}:  # a file system that does not know its holes
            return True
        raise


def reserve(descriptor: int, offset: int, length: int) -> None:
    """Allocate the missing blocks of a range of a file. The contents of the file stay.

    Raises:
        OSError: There is no space for them.
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
    """Mark a file as in use for as long as the descriptor or a mapping made with it is open.

    A fork inherits the mark. Nothing happens where the file system has no such marks (``flock``).
    """
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)


def is_in_use(path: str | Path) -> bool:
    """Return whether any process marked a file as in use; false where it cannot be opened."""
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
