"""Features that only POSIX systems have: file locks, flags of open(2), and hooks around forks.

On other systems (Windows) every module can be imported and one process can be measured. Nothing in this
module is used there, except :func:`require_posix`, which raises for shared values.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from web_prom.errors import DirectoryError

if sys.platform != "win32":
    import fcntl
else:
    fcntl: Any = None

__all__ = ["at_fork", "fcntl", "open_flags", "require_posix"]


def open_flags(*names: str) -> int:
    """Return the combined flags of ``os.open`` with these names. Flags that the system lacks are left out."""
    flags = 0
    for name in names:
        flags |= getattr(os, name, 0)
    return flags


def at_fork(
    *,
    before: Callable[[], object] | None = None,
    after_in_parent: Callable[[], object] | None = None,
    after_in_child: Callable[[], object] | None = None,
) -> None:
    """Register functions, as ``os.register_at_fork`` does, if processes can fork on this system."""
    hooks = {"before": before, "after_in_parent": after_in_parent, "after_in_child": after_in_child}
    given: Any = {name: hook for name, hook in hooks.items() if hook is not None}
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(**given)


def require_posix(what: str) -> None:
    """Check that processes can share values on this system.

    Args:
        what: The setting that requires it: the beginning of the error message.

    Raises:
        DirectoryError: They cannot.
    """
    if fcntl is None:
        raise DirectoryError(
            f"{what}, but processes can share metrics on Linux and other POSIX systems only; unset the "
            "variable to measure one process"
        )
