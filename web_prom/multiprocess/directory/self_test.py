"""The self-test of a file system: locks exclude other holders, other processes see mapped data."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import secrets
import struct
import sys
from pathlib import Path

from web_prom.errors import DirectoryError, WebPromError
from web_prom.multiprocess.directory.environment import DIR_VARIABLE
from web_prom.multiprocess.directory.lockfile import LockFile, Span
from web_prom.multiprocess.file_format import HEADER, TEMP_SUFFIX, VALUE, pack_entry
from web_prom.multiprocess.regular_file import BLOCK_BYTES, has_data, open_regular, reserve
from web_prom.posix import fcntl

SELFTEST_PREFIX = ".web_prom-selftest-"
"""The beginning of the names of the self-test's temporary files."""

_SPAN = Span(0, 1)
_ENTRY = pack_entry(b'["web_prom_selftest","web_prom_selftest",{},""]')
_DOUBLE = struct.Struct("=d")

# There is no space or no descriptor. That says nothing about the file system: the server starts, and values
# wait in memory.
_INCONCLUSIVE = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}

_SEPARATE_MAPPINGS = "one mapping does not show what is written to another one"


def check_filesystem(directory: Path) -> None:
    """Check that the file system of a directory can hold shared values. The check removes its two files.

    One process acts as two processes. It locks a file through one descriptor and tries the same lock through
    another descriptor, as another owner (Linux: a lock of the open file description). It writes through one
    mapping and reads through another mapping and through the file. So the check starts no process and no
    thread, and takes a few milliseconds. A server checks once, before it forks.

    Raises:
        DirectoryError: Locks or mappings do not work; the message says which, and what to do.
    """
    path = directory / f"{SELFTEST_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
    values = Path(f"{path}.values")
    try:
        fault = _fault_of_locks(path) or _fault_of_mappings(values)
    except OSError as error:
        fault = None if error.errno in _INCONCLUSIVE else str(error)
    except (WebPromError, ValueError, struct.error) as error:
        fault = str(error)
    finally:
        for name in (path, values, f"{values}{TEMP_SUFFIX}"):
            with contextlib.suppress(OSError):
                os.unlink(name)
    if fault is not None:
        raise DirectoryError(
            f"{DIR_VARIABLE} is {str(directory)!r}, which is on a file system that cannot hold shared "
            f"values: {fault}; name a directory on a local disk or in memory, for example in /dev/shm"
        )


def _fault_of_locks(path: Path) -> str | None:
    """Return what is wrong with locks on files, or None."""
    file = LockFile(path)
    file.open(writing=True, create=True)
    other = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not file.is_current:
            return "one file has two identities"
        if not file.try_lock(_SPAN):
            return "a free lock is refused"
        if _lock_as_another(other):
            return "two holders get the same lock"
        file.unlock(_SPAN)
        if _lock_as_another(other) is False:
            return "a released lock is still held"
        return _fault_of_flock(path, other)
    finally:
        os.close(other)
        file.close()


def _lock_as_another(descriptor: int) -> bool | None:
    """Try to lock the record as another owner; return None where the system has no such locks."""
    if sys.platform != "linux":
        return None
    wanted = struct.pack("hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, 0, 8, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted)
    except OSError as error:
        return False if error.errno in (errno.EAGAIN, errno.EACCES) else None
    return True


def _fault_of_flock(path: Path, other: int) -> str | None:
    """Return what is wrong with flock, or None. Servers use flock to mark a directory as in use."""
    own = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # refused, as expected; or there is no flock, and the server's own flock reports that
        return None
    finally:
        os.close(own)
    return "two holders get the same flock"


def _fault_of_mappings(path: Path) -> str | None:
    """Return what is wrong with mapped files, using the operations of a value file's writer."""
    contents = HEADER.pack(HEADER.size + len(_ENTRY), 1) + _ENTRY
    at = len(contents) - VALUE.size
    with contextlib.ExitStack() as stack:
        temporary = f"{path}{TEMP_SUFFIX}"
        writer = open_regular(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o600)
        stack.callback(os.close, writer)
        reserve(writer, 0, BLOCK_BYTES)
        os.pwrite(writer, contents, 0)
        os.rename(temporary, path)
        reader = open_regular(path, os.O_RDWR)
        stack.callback(os.close, reader)
        if os.pread(reader, len(contents), 0) != contents:
            return "a reader does not see what is written to a file"
        if not has_data(reader, len(contents)):
            return "it reports a hole where a file has data"
        one = stack.enter_context(mmap.mmap(writer, BLOCK_BYTES))
        _DOUBLE.pack_into(one, at, 1.5)
        if os.pread(reader, _DOUBLE.size, at) != _DOUBLE.pack(1.5):
            return "a reader does not see what is written to a mapping"
        other = stack.enter_context(mmap.mmap(reader, BLOCK_BYTES))
        if _DOUBLE.unpack_from(other, at) != (1.5,):
            return _SEPARATE_MAPPINGS
        _DOUBLE.pack_into(other, at, 2.5)
        return None if _DOUBLE.unpack_from(one, at) == (2.5,) else _SEPARATE_MAPPINGS
