"""Whether other users of the machine can remove or replace what is in the shared directory."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from web_prom.multiprocess.directory.slots import VARIABLE

logger = logging.getLogger("web_prom")

_warned: set[str] = set()


def warn_of_others(path: Path, *users: int) -> None:
    """Log a warning, once for each directory, if it belongs to another user or if everybody may write to it.

    Never raises.

    Args:
        path: The directory.
        users: Who may own it, beside root and the user of this process.
    """
    try:
        found = path.stat()
    except OSError:
        return
    reason = None
    if found.st_uid not in {0, os.geteuid(), *users}:
        reason = (
            f"which belongs to user {found.st_uid}, and not to user {users[0] if users else os.geteuid()}"
        )
    elif found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        reason = "where every user may write, without the sticky bit"
    if reason is not None and str(path) not in _warned:
        _warned.add(str(path))
        logger.warning(
            "%s is '%s', %s: other users of this machine can remove or replace the metrics; "
            "name a directory of the server's own user, with mode 0700",
            VARIABLE,
            path,
            reason,
        )
