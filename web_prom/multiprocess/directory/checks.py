"""Checks of a shared directory before it is used: writable, local, and owned by the right user."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import tempfile
from pathlib import Path

from web_prom.errors import DirectoryError
from web_prom.multiprocess.directory.environment import DIR_VARIABLE
from web_prom.multiprocess.directory.network_filesystem import refuse_network_filesystem
from web_prom.multiprocess.directory.slots import LOCK_NAME
from web_prom.posix import require_posix

logger = logging.getLogger("web_prom")

_warned: set[str] = set()


def ensure_writable(path: str | Path) -> Path:
    """Make the directory if it is missing, and check that this process can write to it.

    Raises:
        DirectoryError: The directory cannot be made or written, or is on a network file system; the message
            names the reason and the remedy.
    """
    path = Path(path)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        refuse_network_filesystem(path)
        with tempfile.TemporaryFile(dir=path):
            return path
    except DirectoryError:
        raise
    except OSError as error:
        raise DirectoryError(
            f"{DIR_VARIABLE} is {str(path)!r}, which cannot be written by user {os.geteuid()} ({error}); "
            "name a directory that all workers can write, or leave the variable unset under gunicorn "
            "with web_prom.gunicorn, which makes one"
        ) from error


def check_writable(path: str | Path) -> None:
    """Check that this process could make and write the directory. The check makes and changes nothing.

    For a directory that does not exist, the nearest existing parent is checked. The process that checks is
    often not the process that serves: it can run as another user, and before a volume is mounted. The check
    does not find what only a write can show, for example a full disk.

    Raises:
        DirectoryError: The directory cannot be made or written, or is on a network file system, or the
            system is not POSIX.
    """
    path = Path(path)
    require_posix(f"{DIR_VARIABLE} is {str(path)!r}")
    nearest = path.absolute()
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise DirectoryError(
            f"{DIR_VARIABLE} is {str(path)!r}, which cannot be a directory: {str(nearest)!r} exists and is "
            "not a directory; name a directory that all workers can write"
        )
    if not os.access(nearest, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise DirectoryError(
            f"{DIR_VARIABLE} is {str(path)!r}, and user {os.geteuid()} cannot write {str(nearest)!r}; name a "
            "directory that all workers can write"
        )
    refuse_network_filesystem(nearest)


def was_used(path: str | Path) -> bool:
    """Return whether any process holds a slot in the directory or has held one, as far as that is visible."""
    try:
        os.lstat(Path(path, LOCK_NAME))
        return True
    except PermissionError:
        # This user owns the directory and cannot search it: its permissions were changed after its first use.
        with contextlib.suppress(OSError):
            return os.stat(path).st_uid == os.geteuid()
    except OSError:
        pass
    return False


def warn_of_other_users(path: Path, *users: int) -> None:
    """Log a warning if another user owns the directory, or if every user may write to it.

    The warning is logged once for each directory. Never raises.

    Args:
        path: The directory.
        users: The users that may own the directory, in addition to root and the user of this process.
    """
    try:
        status = path.stat()
    except OSError:
        return
    reason = None
    if status.st_uid not in {0, os.geteuid(), *users}:
        expected = users[0] if users else os.geteuid()
        reason = f"which belongs to user {status.st_uid}, and not to user {expected}"
    elif status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        reason = "where every user may write, without the sticky bit"
    if reason is not None and str(path) not in _warned:
        _warned.add(str(path))
        logger.warning(
            "%s is '%s', %s: other users of this machine can remove or replace the metrics; "
            "name a directory of the server's own user, with mode 0700",
            DIR_VARIABLE,
            path,
            reason,
        )
