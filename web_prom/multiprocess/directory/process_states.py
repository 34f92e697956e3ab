"""The state of a process in ``Slots``. A fork starts with a new state."""

from __future__ import annotations

import os
import threading


class ProcessState:
    """The state of one process.

    Attributes:
        lock: Held by the thread that acquires or releases slots.
        slot: The slot that the process holds, or None.
        may_wait: Whether the process may wait for a free slot. It does so once.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.slot: int | None = None
        self.may_wait = True


class ProcessStates:
    """Holds the state of this process only. Safe to use from any thread and after any fork.

    Forks are recognised by ``os.getpid()``, because uWSGI runs no at-fork hooks.
    """

    def __init__(self) -> None:
        self._states: dict[int, ProcessState] = {}

    def current(self) -> ProcessState:
        """Return the state of this process: a new one in a fork."""
        pid = os.getpid()
        state = self._states.get(pid)
        if state is None:
            # setdefault() is atomic: all threads get the same object.
            state = self._states.setdefault(pid, ProcessState())
            for ancestor in set(self._states) - {pid}:
                self._states.pop(ancestor, None)
        return state

    def clear(self) -> None:
        """Forget all states, in a fork. The system may give it the process id of a dead ancestor."""
        self._states.clear()
