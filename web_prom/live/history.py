"""The history of a service: what it did in the last 15 minutes, in a bounded amount of memory."""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import Any

from web_prom.live.snapshot import VERSION, reduced

INTERVAL_SECONDS = 5.0
"""The time between two points."""

KEPT_SECONDS = 900.0
"""How long a point is kept."""

MAX_TREND_ROUTES = 50
"""Routes whose requests are kept at each point: those with the most requests at that time."""

TABLE_SECONDS = 60.0
"""The time between two tables of routes."""

_MAX_POINTS = int(KEPT_SECONDS / INTERVAL_SECONDS)
_MAX_TABLES = int(KEPT_SECONDS / TABLE_SECONDS)
_JITTER = 0.8

Entry = dict[str, Any]
"""A point of the history: ``point``, ``trends`` (method, route, requests), and ``table`` or None."""


class History:
    """The points and the tables of routes of the last 15 minutes. Safe to share between threads.

    At most 180 points with the requests of 50 routes, and 15 tables of at most 200 routes: below 5 MB.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._entries: deque[Entry] = deque(maxlen=_MAX_POINTS)
        self._tables: deque[dict[str, Any]] = deque(maxlen=_MAX_TABLES)

    @property
    def latest(self) -> float:
        """When the latest point was taken, in seconds since the epoch; 0 if there is none."""
        with self._lock:
            return float(self._entries[-1]["point"]["time"]) if self._entries else 0.0

    def entry(self, snapshot: dict[str, Any]) -> Entry:
        """Return the entry that a snapshot makes, to be added to this history or to that of other workers."""
        requests = snapshot["requests"]
        with self._lock:
            table_at = self._tables[-1]["time"] if self._tables else 0.0
        has_table = not 0 <= snapshot["time"] - table_at < TABLE_SECONDS
        return {
            "point": reduced(snapshot),
            "trends": [
                [row["method"], row["route"], sum(row["counts"])]
                for row in requests["routes"][:MAX_TREND_ROUTES]
            ],
            "table": requests if has_table else None,
        }

    def add(self, entry: Entry) -> None:
        """Add an entry, unless the latest point is less than an interval older."""
        at = entry["point"]["time"]
        with self._lock:
            latest = self._entries[-1]["point"]["time"] if self._entries else 0.0
            if at < latest - INTERVAL_SECONDS:  # the clock was set back
                self._entries.clear()
                self._tables.clear()
            elif at - latest < INTERVAL_SECONDS * _JITTER:
                return
            self._entries.append({**entry, "table": None})
            if entry["table"] is not None:
                self._tables.append({"time": at, "requests": entry["table"]})

    def clear(self) -> None:
        """Remove all entries."""
        with self._lock:
            self._entries.clear()
            self._tables.clear()

    def entries(self) -> list[Entry]:
        """Return all entries, the oldest first."""
        with self._lock:
            tables = {table["time"]: table["requests"] for table in self._tables}
            return [{**entry, "table": tables.get(entry["point"]["time"])} for entry in self._entries]

    def document(self, now: float) -> dict[str, Any]:
        """Return the history as a JSON document, the oldest point first.

        Args:
            now: The time in seconds since the epoch. Points that are too old for it are left out.
        """
        with self._lock:
            entries = [each for each in self._entries if each["point"]["time"] >= now - KEPT_SECONDS]
            tables = [table for table in self._tables if table["time"] >= now - KEPT_SECONDS]
        trends = [{(method, route): value for method, route, value in each["trends"]} for each in entries]
        return {
            "version": VERSION,
            "interval_seconds": INTERVAL_SECONDS,
            "points": [each["point"] for each in entries],
            "routes": [
                {"method": method, "route": route, "counts": [trend.get((method, route)) for trend in trends]}
                for method, route in dict.fromkeys(key for trend in trends for key in trend)
            ],
            "tables": tables,
        }
