"""Fork guards: objects that show whether this is the process that created them, or a fork of it."""

from __future__ import annotations

import mmap
from os import getpid
from typing import Protocol

_MADV_WIPEONFORK = 18  # Linux 4.14; Python has no name for it


class ForkGuard(Protocol):
    """An object whose first item is true in the process that created it, and false in each fork of it.

    The item is read before every write to a shared file.
    """

    def __getitem__(self, index: int, /) -> int: ...


NO_PROCESS: ForkGuard = b"\0"
"""A guard that is false in every process."""

EVERY_PROCESS: ForkGuard = b"\1"
"""A guard that is true in every process."""


def make_fork_guard() -> ForkGuard:
    """Return a guard that is true in this process, and false in each fork of it.

    It is a page of memory that the kernel wipes in a fork. Hooks of Python around forks do not suffice,
    because uWSGI does not run them. ``getpid()`` is a system call, and takes two to ten times as long as
    reading the page. It is used only where the kernel cannot wipe pages: on other systems than Linux, and
    with old kernels.
    """
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_MADV_WIPEONFORK)
    except (AttributeError, OSError):
        return _ProcessIdGuard()
    page[0] = 1
    return page


class _ProcessIdGuard:
    def __init__(self) -> None:
        self._pid = getpid()

    def __getitem__(self, index: int, /) -> int:
        return getpid() == self._pid
