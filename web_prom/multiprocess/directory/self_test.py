"""The self-test of a file system: locks that exclude, and mappings that other processes see."""

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
from web_prom.multiprocess.directory.lockfile import LockFile, Span
from web_prom.multiprocess.directory.slots import VARIABLE
from web_prom.posix import fcntl

SELFTEST_PREFIX = ".web_prom-selftest-"
"""How the names of the files begin that the self-test makes and removes."""

_SPAN = Span(0, 1)
_KEY = b'["web_prom_selftest","web_prom_selftest",{},""]'

# Then there is no room or no descriptor: values wait in memory, and nothing is said about the file system.
_INCONCLUSIVE = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def prove(directory: Path) -> None:
    """Prove that a directory's file system can hold shared values, on two files that are removed again.

    One process plays two: it locks a file through one descriptor, and asks for the same lock through
    another one, as an owner of its own (Linux: a lock of the open file description). It writes through one
    mapping, and reads through another one and through the file. So no process and no thread is started; it
    takes less than a millisecond. A server does it once, before it forks.

    Raises:
        DirectoryError: The file system does not do what it says.
    """
    path = directory / f"{SELFTEST_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
    try:
        fault = _fault_of_locks(path) or _fault_of_mappings(Path(f"{path}.values"))
    except OSError as error:
        fault = None if error.errno in _INCONCLUSIVE else str(error)
    except (WebPromError, ValueError, struct.error) as error:
        fault = str(error)
    finally:
        for name in (path, f"{path}.values", f"{path}.values.new"):
            with contextlib.suppress(OSError):
                os.unlink(name)
    if fault is not None:
        raise DirectoryError(
            f"{VARIABLE} is {str(directory)!r}, which is on a file system that cannot hold shared values: "
            f"{fault}; name a directory on a local disk or in memory, such as one in /dev/shm"
        )


def _fault_of_locks(path: Path) -> str | None:
    file = LockFile(path)
    file.open(writing=True, making=True)
    other = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not file.is_current:
            return "it gives one file two identities"
        if not file.try_lock(_SPAN):
            return "a lock that nobody holds is refused"
        if _lock_as_another(other):
            return "two holders get the same lock"
        file.unlock(_SPAN)
        if _lock_as_another(other) is False:
            return "a lock that was given back is still held"
        return _fault_of_whole_locks(path, other)
    finally:
        os.close(other)
        file.close()


def _lock_as_another(descriptor: int) -> bool | None:
    """Try to lock the record as another owner; None where the system has no such locks."""
    if sys.platform != "linux":
        return None
    asked = struct.pack("hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, 0, 8, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, asked)
    except OSError as error:
        return False if error.errno in (errno.EAGAIN, errno.EACCES) else None
    return True


def _fault_of_whole_locks(path: Path, other: int) -> str | None:
    """Test flock, by which a server tells that a directory is in use."""
    own = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # refused, as it should be; or there is no flock, and who needs it is told so
        return None
    finally:
        os.close(own)
    return "two holders get the same flock"


def _fault_of_mappings(path: Path) -> str | None:
    from web_prom.multiprocess.writing.value_file import ValueFile

    file = ValueFile(path)
    try:
        at = file.locate(_KEY)
        file.view[at] = 1.5
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if struct.unpack("d", os.pread(descriptor, 8, at * 8)) != (1.5,):
                return "a reader does not see what is written to a mapping"
            with mmap.mmap(descriptor, 0) as mapping:
                if struct.unpack_from("d", mapping, at * 8) != (1.5,):
                    return "one mapping does not show what is written to another one"
                struct.pack_into("d", mapping, at * 8, 2.5)
        finally:
            os.close(descriptor)
        return None if file.view[at] == 2.5 else "one mapping does not show what is written to another one"
    finally:
        file.close()
