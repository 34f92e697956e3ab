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
"""Routes whose requests are kept at each point: those with the most requests at the first one."""

TABLE_SECONDS = 60.0
"""The time between two tables of routes."""

_MAX_POINTS = int(KEPT_SECONDS / INTERVAL_SECONDS)
_MAX_TABLES = int(KEPT_SECONDS / TABLE_SECONDS)


class History:
    """The points and the tables of routes of the last 15 minutes. Safe to share between threads.

    At most 180 points with the requests of 50 routes, and 15 tables of at most 200 routes: below 5 MB.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._points: deque[dict[str, Any]] = deque(maxlen=_MAX_POINTS)
        self._tables: deque[dict[str, Any]] = deque(maxlen=_MAX_TABLES)

    @property
    def latest(self) -> float:
        """When the latest point was taken, in seconds since the epoch; 0 if there is none."""
        with self._lock:
            return float(self._points[-1]["time"]) if self._points else 0.0

    def renew_lock(self) -> None:
        """Replace the lock. In a forked child, the thread that holds it may not exist."""
        self._lock = Lock()

    def add(self, snapshot: dict[str, Any]) -> None:
        """Add a snapshot, unless the latest point is less than an interval older."""
        at = snapshot["time"]
        with self._lock:
            # A clock can be set back. Then the points begin again.
            if self._points and at < self._points[-1]["time"]:
                self._points.clear()
                self._tables.clear()
            if self._points and at - self._points[-1]["time"] < INTERVAL_SECONDS * 0.9:
                return
            routes = snapshot["requests"]["routes"][:MAX_TREND_ROUTES]
            trends = {(row["method"], row["route"]): sum(row["counts"]) for row in routes}
            self._points.append({**reduced(snapshot), "trends": trends})
            if not self._tables or at - self._tables[-1]["time"] >= TABLE_SECONDS:
                self._tables.append({"time": at, "requests": snapshot["requests"]})

    def document(self, now: float) -> dict[str, Any]:
        """Return the history as a JSON document, the oldest point first.

        Args:
            now: The time in seconds since the epoch. Older points are left out.
        """
        with self._lock:
            points = [point for point in self._points if point["time"] >= now - KEPT_SECONDS]
            tables = [table for table in self._tables if table["time"] >= now - KEPT_SECONDS]
        keys = dict.fromkeys(key for point in points for key in point["trends"])
        return {
            "version": VERSION,
            "interval_seconds": INTERVAL_SECONDS,
            "points": [
                {name: value for name, value in point.items() if name != "trends"} for point in points
            ],
            "routes": [
                {
                    "method": method,
                    "route": route,
                    "counts": [point["trends"].get((method, route)) for point in points],
                }
                for method, route in keys
            ],
            "tables": tables,
        }
