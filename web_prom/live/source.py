"""Where snapshots come from: each is taken once, and shared by all who look."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from threading import Lock
from time import perf_counter
from typing import Any

from web_prom.advice.advise import verdicts
from web_prom.advice.scrapes import Scrape, Window
from web_prom.live.history import INTERVAL_SECONDS, KEPT_SECONDS, History
from web_prom.live.snapshot import SnapshotReader

ADVICE_SECONDS = 30.0
"""The verdicts compare the latest scrape with one that is about as old as this."""

Checks = Callable[[dict[str, Any]], list[dict[str, Any]]]
"""Returns the section ``checks`` for a snapshot without it."""


class SnapshotSource:
    """Takes snapshots of one service, at most one in an interval, and keeps their history.

    Safe to share between threads. A thread that asks while another one takes a snapshot waits for it, and
    gets the same.

    Args:
        scrape: Returns a scrape in Prometheus' text format. What it raises is raised to those who ask.
        title: What the page calls the service.
        checks: Checks the set-up of the service.
        interval_seconds: The time between two snapshots.
    """

    def __init__(
        self,
        scrape: Callable[[], bytes],
        title: str,
        checks: Checks,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        self._scrape = scrape
        self._checks = checks
        self._interval_seconds = interval_seconds
        self._reader = SnapshotReader(title, interval_seconds)
        self._history = History()
        self._advised: list[Scrape] = []
        self._lock = Lock()
        self._latest: tuple[float, dict[str, Any], bytes] | None = None

    def snapshot(self) -> dict[str, Any]:
        """Return the latest snapshot. Take one if the latest is older than an interval.

        Raises:
            TextFormatError: The scrape is not in Prometheus' text format.
            Exception: What the scrape raised.
        """
        return self._current()[1]

    def snapshot_json(self) -> bytes:
        """Return the same as JSON."""
        return self._current()[2]

    def history_json(self) -> bytes:
        """Return the history as JSON."""
        return _to_json(self._history.document(time.time()))

    def keep_history(self) -> None:
        """Take a snapshot if the history has no point for this interval.

        Raises:
            Exception: As :meth:`snapshot`.
        """
        if time.time() - self._history.latest >= self._interval_seconds:
            self.snapshot()

    def renew_locks(self) -> None:
        """Replace the locks. In a forked child, the thread that holds one may not exist."""
        self._lock = Lock()
        self._history.renew_lock()

    def _current(self) -> tuple[float, dict[str, Any], bytes]:
        with self._lock:
            latest = self._latest
            # Two pages that look at the same time need one snapshot.
            if latest is None or not 0 <= time.time() - latest[0] < self._interval_seconds * 0.8:
                latest = self._latest = self._take()
            return latest

    def _take(self) -> tuple[float, dict[str, Any], bytes]:
        started = perf_counter()
        text = self._scrape()
        now = time.time()
        snapshot = self._reader.read(text, now, started=started)
        snapshot["checks"] = self._checks(snapshot)
        snapshot["verdicts"] = self._verdicts(now)
        snapshot["cost"]["snapshot_seconds"] = perf_counter() - started
        self._history.add(snapshot)
        return now, snapshot, _to_json(snapshot)

    def _verdicts(self, now: float) -> Sequence[dict[str, Any]]:
        latest = Scrape(self._reader.families_for_advice(), now)
        self._advised = [each for each in self._advised if now - KEPT_SECONDS < each.at < now]
        before = next((each for each in reversed(self._advised) if now - each.at >= ADVICE_SECONDS), None)
        before = before or (self._advised[0] if self._advised else None)
        self._advised.append(latest)
        del self._advised[: -int(2 * ADVICE_SECONDS / self._interval_seconds) - 1]
        return [verdict.as_json() for verdict in verdicts(Window(latest, before))]


def _to_json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
