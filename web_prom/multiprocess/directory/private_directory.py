"""Private directories: their names and places, and the removal of those whose servers are dead."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path

from web_prom.multiprocess.directory.slots import slots_of
from web_prom.posix import fcntl

PREFIX = "web_prom-private-"
"""The beginning of the names of private directories."""

# In memory. It is used if the directory for temporary files is not usable, for example with a read-only root.
_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory in it has a random name, and is for this user alone
# A private directory is complete after milliseconds. If it is not after an hour, its server was killed.
_INCOMPLETE_SECONDS = 3600.0


def is_private(path: str | Path) -> bool:
    """Return whether a path is one that ``SharedDirectory.create_private`` can make."""
    path = Path(path)
    return path.name.startswith(PREFIX) and path.parent in parent_directories()


def parent_directories() -> list[Path]:
    """Return the directories in which a private directory can be, in order of preference."""
    found = []
    with contextlib.suppress(OSError):  # no temporary directory is writable: a read-only root
        found.append(Path(tempfile.gettempdir()))
    return [*dict.fromkeys([*found, _MEMORY])]


def try_flock(descriptor: int) -> bool:
    """Lock an open directory for this process alone; return whether it is locked. Never waits."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remove_abandoned(parent: Path) -> None:
    """Remove the private directories of dead servers. Never raises."""
    for path in [*parent.glob(f"{PREFIX}*"), *parent.glob(f".{PREFIX}*")]:
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if _is_abandoned(path, descriptor):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(descriptor)


def _is_abandoned(path: Path, descriptor: int) -> bool:
    status = os.fstat(descriptor)
    # Root may remove any: it gives its directories to the user that the workers run as.
    if os.geteuid() not in (0, status.st_uid) or not try_flock(descriptor):
        return False
    if path.name.startswith("."):  # its server may be about to lock it
        return time.time() - status.st_mtime > _INCOMPLETE_SECONDS
    slots = slots_of(path)
    try:
        return not slots.holders()
    finally:
        slots.close()
