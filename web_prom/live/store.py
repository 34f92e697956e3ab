"""Where history and latest snapshot are kept: in this process, or in the directory that workers share."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from web_prom.live.history import INTERVAL_SECONDS, KEPT_SECONDS, Entry, History
from web_prom.log_limit import LogLimit
from web_prom.multiprocess.directory.live_files import LiveFiles
from web_prom.multiprocess.directory.shared_interval import SharedInterval

logger = logging.getLogger("web_prom")

FindDirectory = Callable[[], str | None]
"""Returns the directory that the workers share, or None if this is the only process."""

# Checks happen once a second, a little later each time.
_DUE_SECONDS = INTERVAL_SECONDS * 0.95
# The worker that took the latest snapshot takes the next one: it has parsed the labels. Another worker does
# so if that one ended.
_TAKEN_OVER_SECONDS = INTERVAL_SECONDS * 1.6
_STALE_SECONDS = INTERVAL_SECONDS * 2
_MAX_LINES = 2 * int(KEPT_SECONDS / INTERVAL_SECONDS)


class Store(Protocol):
    """Keeps the history and the latest snapshot. One thread at a time may use it."""

    history: History

    def is_due(self) -> bool:
        """Return whether this process has to take a snapshot now, and begin the next interval."""

    def put(self, snapshot: dict[str, Any], body: bytes) -> None:
        """Keep a snapshot, and add it to the history."""

    def latest(self) -> bytes | None:
        """Return the latest snapshot as JSON, or None if there is none or it is too old."""

    def refresh(self) -> None:
        """Add what other workers kept to the history."""


class MemoryStore:
    """Keeps everything in this process.

    Args:
        interval_seconds: The time between two snapshots.
    """

    def __init__(self, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self.history = History()
        self._fresh_seconds = interval_seconds * 0.8
        self._at = 0.0
        self._body: bytes | None = None

    def is_due(self) -> bool:
        """Return whether the latest snapshot is older than an interval."""
        return not 0 <= time.time() - self._at < _DUE_SECONDS

    def put(self, snapshot: dict[str, Any], body: bytes) -> None:
        """Keep a snapshot, and add it to the history."""
        self._at, self._body = snapshot["time"], body
        self.history.add(self.history.entry(snapshot))

    def latest(self) -> bytes | None:
        """Return the latest snapshot, or None if it is as old as an interval."""
        return self._body if 0 <= time.time() - self._at < self._fresh_seconds else None

    def refresh(self) -> None:
        """Do nothing: there are no other workers."""


class SharedStore:
    """Keeps everything in the shared directory, so that each worker can answer for all of them.

    Args:
        directory: The shared directory.
    """

    def __init__(self, directory: str) -> None:
        self.history = History()
        self.directory = directory
        self._files = LiveFiles(Path(directory))
        self._own_turn = SharedInterval("live", _DUE_SECONDS)
        self._turn_of_others = SharedInterval("live", _TAKEN_OVER_SECONDS)
        self._taken = 0.0
        self._lines = 0
        self._failures = LogLimit()

    def is_due(self) -> bool:
        """Return whether it is the turn of this process, and begin the next interval."""
        leads = 0 <= time.time() - self._taken < _TAKEN_OVER_SECONDS
        turn = self._own_turn if leads else self._turn_of_others
        if not turn.take(self._files.directory):
            return False
        self._taken = time.time()
        return True

    def put(self, snapshot: dict[str, Any], body: bytes) -> None:
        """Write a snapshot and its entry of the history. An error is logged."""
        try:
            self._files.write_snapshot(body)
            self.refresh()
            if snapshot["time"] - self.history.latest < INTERVAL_SECONDS * 0.8:
                return
            self._files.add_line(self.history.entry(snapshot).to_line())
            self.refresh()
            if self._lines > _MAX_LINES:
                self._files.replace_lines([entry.to_line() for entry in self.history.entries()])
        except OSError as error:
            remark = self._failures.admit(type(error).__qualname__)
            if remark is not None:
                logger.warning("the history of the live page cannot be written: %s%s", error, remark)

    def latest(self) -> bytes | None:
        """Return the latest snapshot of all workers, or None if there is none or it is too old."""
        found = self._files.snapshot()
        return found[1] if found and 0 <= time.time() - found[0] < _STALE_SECONDS else None

    def refresh(self) -> None:
        """Add the entries of other workers to the history."""
        lines, replaced = self._files.new_lines()
        if replaced:
            self.history.clear()
            self._lines = 0
        self._lines += len(lines)
        for line in lines:
            try:
                self.history.add(Entry.from_line(line))
            except ValueError:  # a disk was full in the middle of a line
                logger.debug("a line of the live page's history cannot be read", exc_info=True)
