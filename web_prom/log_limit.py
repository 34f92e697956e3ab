"""A limit on how often one kind of event is logged, for events that a client can cause without end."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

SECONDS = 60.0
"""How long a kind of event is silent after one was logged, unless another time is given."""

_MOST_KINDS = 100


class LogLimit:
    """Admits one event of each kind in a number of seconds, and counts those in between.

    Safe to share between threads: at worst two threads log the same event. A fork continues with what
    its parent logged.

    Args:
        seconds: How long a kind is silent after an event of it was admitted.
        clock: Returns the time in seconds; it never goes back.
    """

    def __init__(self, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._next: dict[Hashable, float] = {}
        self._unlogged: dict[Hashable, int] = {}

    def admit(self, kind: Hashable) -> str | None:
        """Return the end of the message if an event of this kind is to be logged now, else None.

        The end says how many events of this kind were not logged; mostly it is empty.
        """
        now = self._clock()
        if now < self._next.get(kind, now):
            self._unlogged[kind] = self._unlogged.get(kind, 0) + 1
            return None
        if len(self._next) >= _MOST_KINDS:
            self._next.clear()
            self._unlogged.clear()
        self._next[kind] = now + self._seconds
        unlogged = self._unlogged.pop(kind, 0)
        return f" ({unlogged} more were not logged)" if unlogged else ""
