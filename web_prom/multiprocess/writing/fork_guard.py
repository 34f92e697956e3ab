"""Whether this is still the same process or a fork of it: asked before every write to a shared file."""

from __future__ import annotations

import mmap
from os import getpid
from typing import Protocol

_MADV_WIPEONFORK = 18  # Linux 4.14; Python has no name for it


class Presence(Protocol):
    """Something whose first item is true in the process that made it, and false in any fork of that."""

    def __getitem__(self, index: int, /) -> int: ...


ABSENT: Presence = b"\0"
"""What is true in no process."""


def presence() -> Presence:
    """Return what is true in this process and in no fork of it.

    It is a page of memory that the kernel wipes in a fork. At-fork hooks would not do, as uWSGI does not run
    them; and to ask for the process id is a system call, which takes two to ten times as long. Where the
    kernel cannot wipe pages (it is not Linux, or an old one), it is asked for the id all the same.
    """
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_MADV_WIPEONFORK)
    except (AttributeError, OSError):
        return _ProcessId()
    page[0] = 1
    return page


class _ProcessId:
    def __init__(self) -> None:
        self._pid = getpid()

    def __getitem__(self, index: int, /) -> int:
        return getpid() == self._pid
