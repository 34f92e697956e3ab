"""Private directories: where they are made, how they are known, and those that dead servers left."""

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
"""How the names of private directories begin."""

# Where the directory for temporary files cannot be used: in memory, and there with a read-only root too.
_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory in it is made with a random name, for this user alone
# It takes milliseconds to finish a private directory; whoever did not in an hour was killed.
_UNFINISHED_SECONDS = 3600.0


def is_private(path: str | Path) -> bool:
    """Tell whether a path is one that ``SharedDirectory.make_private`` gives."""
    path = Path(path)
    return path.name.startswith(PREFIX) and path.parent in places()


def places() -> list[Path]:
    """Return where a private directory may be: the best place first."""
    found = []
    with contextlib.suppress(OSError):  # no temporary directory can be written: a read-only root
        found.append(Path(tempfile.gettempdir()))
    return [*dict.fromkeys([*found, _MEMORY])]


def try_lock(lock: int) -> bool:
    """Lock an open directory for this process alone; tell whether that was possible. Never waits."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remove_abandoned(parent: Path) -> None:
    """Remove the private directories of servers that are dead. Never raises."""
    for path in [*parent.glob(f"{PREFIX}*"), *parent.glob(f".{PREFIX}*")]:
        with contextlib.suppress(OSError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if _is_abandoned(path, lock):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)


def _is_abandoned(path: Path, lock: int) -> bool:
    found = os.fstat(lock)
    # Root gives its directories to the user that the workers run as.
    if os.geteuid() not in (0, found.st_uid) or not try_lock(lock):
        return False
    if path.name.startswith("."):  # not yet locked, perhaps
        return time.time() - found.st_mtime > _UNFINISHED_SECONDS
    slots = slots_of(path)
    try:
        return not slots.held()
    finally:
        slots.close()
