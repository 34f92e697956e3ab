"""Where snapshots come from: each is taken once, and shared by all who look."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from threading import Lock
from time import perf_counter
from typing import Any

from web_prom.advice.advise import verdicts
from web_prom.advice.scrapes import Window
from web_prom.errors import SnapshotError
from web_prom.live.advised_scrape import AdvisedScrape
from web_prom.live.history import INTERVAL_SECONDS, KEPT_SECONDS
from web_prom.live.json_text import to_json
from web_prom.live.snapshot import SnapshotReader
from web_prom.live.store import FindDirectory, MemoryStore, SharedStore, Store
from web_prom.live.text_samples import TextFormatError

ADVICE_SECONDS = 30.0
"""The verdicts compare the latest scrape with one that is about as old as this."""

# Scrapes that are kept for the verdicts. They share the labels, and each has its own values.
_MAX_ADVISED = 7

Checks = Callable[[dict[str, Any]], list[dict[str, Any]]]
"""Returns the section ``checks`` for a snapshot without it."""


class SnapshotSource:
    """Takes snapshots of one service, at most one in an interval, and keeps their history.

    Safe to share between threads, and after a fork. A thread that asks while another one takes a snapshot
    waits for it, and gets the same, or the same error.

    Args:
        scrape: Returns a scrape in Prometheus' text format. What it raises is raised to those who ask.
        title: What the page calls the service.
        checks: Checks the set-up of the service.
        interval_seconds: The time between two snapshots.
        find_directory: Returns the directory that the workers share. One of them takes each snapshot, and
            all of them return it.
    """

    def __init__(
        self,
        scrape: Callable[[], bytes],
        title: str,
        checks: Checks,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        find_directory: FindDirectory = lambda: None,
    ) -> None:
        self._scrape = scrape
        self._checks = checks
        self._fresh_seconds = interval_seconds * 0.8
        self._reader = SnapshotReader(title, interval_seconds)
        self._find_directory = find_directory
        self._store: Store = MemoryStore(interval_seconds)
        self._advised: list[AdvisedScrape] = []
        self._failed: tuple[float, str] | None = None
        self._lock, self._pid = Lock(), os.getpid()

    def snapshot(self) -> dict[str, Any]:
        """Return the latest snapshot. Take one if the latest is older than an interval.

        Raises:
            SnapshotError, TextFormatError: The scrape gave no metrics.
            Exception: What the scrape raised.
        """
        found: dict[str, Any] = json.loads(self.snapshot_json())
        return found

    def snapshot_json(self) -> bytes:
        """Return the same as JSON.

        Raises:
            Exception: As :meth:`snapshot`.
        """
        with self._own_lock():
            store = self._current_store()
            body = store.latest()
            if body is None:
                self._raise_recent_error()
                store.is_due()
                body = self._take(store)
            return body

    def history_json(self) -> bytes:
        """Return the history as JSON."""
        with self._own_lock():
            store = self._current_store()
            store.refresh()
            return store.history.to_json(time.time())

    def keep_history(self) -> None:
        """Take a snapshot if it is the turn of this process. Call it about once a second.

        Raises:
            Exception: As :meth:`snapshot`.
        """
        with self._own_lock():
            store = self._current_store()
            if store.is_due():
                self._take(store)

    def _own_lock(self) -> Lock:
        # In a forked child, the thread that holds the lock of its parent does not exist.
        if self._pid != os.getpid():
            self._lock, self._pid = Lock(), os.getpid()
        return self._lock

    def _current_store(self) -> Store:
        directory = self._find_directory()
        store = self._store
        if directory and not (isinstance(store, SharedStore) and store.directory == directory):
            store = self._store = SharedStore(directory)
        return store

    def _raise_recent_error(self) -> None:
        """Raise the error of the latest attempt, if it is recent: a target that hangs is asked once."""
        if self._failed is not None and 0 <= time.time() - self._failed[0] < self._fresh_seconds:
            raise SnapshotError(self._failed[1])

    def _take(self, store: Store) -> bytes:
        started = perf_counter()
        self._failed = None
        try:
            text = self._scrape()
            now = time.time()
            snapshot = self._reader.read(text, now, started=started)
        except (SnapshotError, TextFormatError) as error:
            # Not the error itself: its traceback keeps the objects of the scrape alive.
            self._failed = time.time(), str(error)
            raise
        snapshot["checks"] = self._checks(snapshot)
        snapshot["verdicts"] = self._verdicts(now)
        snapshot["cost"]["snapshot_seconds"] = perf_counter() - started
        body = to_json(snapshot)
        store.put(snapshot, body)
        return body

    def _verdicts(self, now: float) -> Sequence[dict[str, Any]]:
        latest = AdvisedScrape(self._reader.scrape, now)
        self._advised = [each for each in self._advised if now - KEPT_SECONDS < each.at < now]
        before = next((each for each in reversed(self._advised) if now - each.at >= ADVICE_SECONDS), None)
        before = before or (self._advised[0] if self._advised else None)
        self._advised.append(latest)
        del self._advised[:-_MAX_ADVISED]
        return [verdict.as_json() for verdict in verdicts(Window(latest, before))]
