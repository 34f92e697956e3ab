"""Whether the shared directory can be used, found out without making or changing anything."""

from __future__ import annotations

import os
from pathlib import Path

from web_prom.errors import DirectoryError
from web_prom.multiprocess.directory.network_filesystem import refuse_network
from web_prom.multiprocess.directory.slots import VARIABLE
from web_prom.posix import require_posix


def check_usable(path: str | Path) -> None:
    """Check that this process could make and write the directory. Makes nothing.

    For a directory that does not exist, the nearest parent that exists is checked. The process that checks
    is often not the one that serves: it can run as another user, and before a volume is mounted. What only
    a write can show, for example a full disk, is not found here.

    Raises:
        DirectoryError: It cannot be made or written, is on a network file system, or this is not POSIX.
    """
    path = Path(path)
    require_posix(f"{VARIABLE} is {str(path)!r}")
    nearest = path.absolute()
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise DirectoryError(
            f"{VARIABLE} is {str(path)!r}, which cannot be a directory: {str(nearest)!r} exists and is none; "
            "name a directory that all workers can write"
        )
    if not os.access(nearest, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise DirectoryError(
            f"{VARIABLE} is {str(path)!r}, and user {os.geteuid()} cannot write {str(nearest)!r}; name a "
            "directory that all workers can write"
        )
    refuse_network(nearest)
