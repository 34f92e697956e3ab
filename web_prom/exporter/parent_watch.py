"""A process that ends when the one that started it does, however that dies."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

# From <sys/prctl.h>; the standard library has no name for it.
_PR_SET_PDEATHSIG = 1

POLL_SECONDS = 1.0
"""How often a process looks whether it is on its own, where the kernel does not tell."""


class Lifeline:
    """Ties this process to its parent.

    Linux sends SIGTERM at the parent's death, ``kill -9`` included. Elsewhere, and where that signal was
    lost, :attr:`cut` tells when asked. Nothing else is reliable: a pipe that only the parent should hold is
    inherited by whatever the parent forks, and stays open for as long as one of those lives.

    Make it after a change of user, which would undo it.

    Args:
        parent: The parent's process id; None for a process that depends on nobody.
    """

    def __init__(self, parent: int | None) -> None:
        self._parent = parent
        if parent is not None and sys.platform == "linux":
            with contextlib.suppress(OSError, AttributeError):  # a C library that has no prctl
                ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    @property
    def cut(self) -> bool:
        """Whether the parent is gone."""
        return self._parent is not None and os.getppid() != self._parent
