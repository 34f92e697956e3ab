"""What only POSIX has: locks on files, flags of open(2), and hooks around forks.

Elsewhere (Windows) every module can be imported, one process is measured, and nothing here is used:
:func:`require_posix` stops whoever asks for shared values.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from web_prom.errors import DirectoryError

if sys.platform != "win32":
    import fcntl
else:
    fcntl: Any = None

__all__ = ["at_fork", "fcntl", "open_flags", "require_posix"]


def open_flags(*names: str) -> int:
    """Return flags of ``os.open`` together, without those that this system does not have."""
    flags = 0
    for name in names:
        flags |= getattr(os, name, 0)
    return flags


def at_fork(**hooks: Any) -> None:
    """Register functions as ``os.register_at_fork`` does, where processes can fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(**hooks)


def require_posix(what: str) -> None:
    """Make sure that processes can share values here.

    Args:
        what: What asks for it, as the beginning of the message.

    Raises:
        DirectoryError: They cannot.
    """
    if fcntl is None:
        raise DirectoryError(
            f"{what}, but processes can share metrics on Linux and other POSIX systems only; unset the "
            "variable to measure one process"
        )
