"""A limit on how often one kind of event is logged, for events that clients can cause at any rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

SECONDS = 60.0
"""The default interval between two log messages of one kind."""

_MAX_KINDS = 100


class LogLimit:
    """Allows one log message of each kind in an interval, and counts the events in between.

    Safe to share between threads: at worst, two threads log the same event. A fork continues with the state
    of its parent.

    Args:
        seconds: The interval between two messages of one kind.
        clock: Returns monotonic seconds.
    """

    def __init__(self, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._next: dict[Hashable, float] = {}
        self._suppressed: dict[Hashable, int] = {}

    def admit(self, kind: Hashable) -> str | None:
        """Return the suffix of the log message for an event of this kind; None if it is not to be logged.

        The suffix says how many events of this kind were not logged. It is empty if there were none.
        """
        now = self._clock()
        if now < self._next.get(kind, now):
            self._suppressed[kind] = self._suppressed.get(kind, 0) + 1
            return None
        if len(self._next) >= _MAX_KINDS:
            self._next.clear()
            self._suppressed.clear()
        self._next[kind] = now + self._seconds
        suppressed = self._suppressed.pop(kind, 0)
        return f" ({suppressed} more were not logged)" if suppressed else ""
