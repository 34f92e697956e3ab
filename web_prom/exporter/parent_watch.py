"""Ends a process when the process that started it dies."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

# From <sys/prctl.h>; the standard library has no name for it.
_PR_SET_PDEATHSIG = 1

POLL_SECONDS = 1.0
"""How often a process checks :attr:`ParentWatch.has_exited`."""


class ParentWatch:
    """Watches the parent of this process.

    Linux sends SIGTERM when the parent dies, also by ``kill -9``. Where there is no such signal, or it was
    lost, :attr:`has_exited` shows the death. A pipe whose other end the parent holds would not be reliable:
    every process that the parent forks inherits that end, and keeps it open.

    Create the object after a change of user, because that change cancels the signal.

    Args:
        parent: The parent's process id; None for a process that does not depend on its parent.
    """

    def __init__(self, parent: int | None) -> None:
        self._parent = parent
        if parent is not None and sys.platform == "linux":
            with contextlib.suppress(OSError, AttributeError):  # a C library without prctl
                ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    @property
    def has_exited(self) -> bool:
        """Whether the parent is dead."""
        return self._parent is not None and os.getppid() != self._parent
