"""The history of a service: what it did in the last 15 minutes, in a bounded amount of memory."""

from __future__ import annotations

import json
from collections import deque
from threading import Lock
from typing import Any, NamedTuple

from web_prom.live.json_text import encode, to_json
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


class Entry(NamedTuple):
    """A point of the history, as JSON. The garbage collector does not visit text, however long it is.

    Attributes:
        at: When it was taken, in seconds since the epoch.
        point: The point.
        trends: A list of method, route and requests for some routes.
        table: The section ``requests`` of the snapshot, or None.
    """

    at: float
    point: bytes
    trends: bytes
    table: bytes | None

    def to_line(self) -> bytes:
        """Return the entry as a line of a file, without its end."""
        return b"\t".join((self.point, self.trends, self.table or b"null"))

    @classmethod
    def from_line(cls, line: bytes) -> Entry:
        """Return the entry of a line.

        Raises:
            ValueError: The line is not complete.
        """
        point, trends, table = line.split(b"\t")
        found, rows, requests = map(json.loads, (point, trends, table))
        if not (isinstance(found, dict) and isinstance(rows, list) and isinstance(found.get("time"), float)):
            raise ValueError("this line is no entry of a history")
        return cls(found["time"], point, trends, None if requests is None else table)


class History:
    """The points and the tables of routes of the last 15 minutes. Safe to share between threads.

    At most 180 points with the requests of 50 routes, and 15 tables of at most 200 routes: below 5 MB.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._entries: deque[Entry] = deque(maxlen=_MAX_POINTS)
        self._tables: deque[tuple[float, bytes]] = deque(maxlen=_MAX_TABLES)

    @property
    def latest(self) -> float:
        """When the latest point was taken, in seconds since the epoch; 0 if there is none."""
        with self._lock:
            return self._entries[-1].at if self._entries else 0.0

    def entry(self, snapshot: dict[str, Any]) -> Entry:
        """Return the entry that a snapshot makes, to be added to this history or to that of other workers."""
        requests = snapshot["requests"]
        with self._lock:
            table_at = self._tables[-1][0] if self._tables else 0.0
        has_table = not 0 <= snapshot["time"] - table_at < TABLE_SECONDS
        trends = [
            [row["method"], row["route"], sum(row["counts"])] for row in requests["routes"][:MAX_TREND_ROUTES]
        ]
        return Entry(
            snapshot["time"],
            to_json(reduced(snapshot)),
            encode(trends).encode(),
            to_json(requests) if has_table else None,
        )

    def add(self, entry: Entry) -> None:
        """Add an entry, unless the latest point is less than an interval older."""
        with self._lock:
            latest = self._entries[-1].at if self._entries else 0.0
            if entry.at < latest - INTERVAL_SECONDS:  # the clock was set back
                self._entries.clear()
                self._tables.clear()
            elif entry.at - latest < INTERVAL_SECONDS * _JITTER:
                return
            self._entries.append(entry._replace(table=None))
            if entry.table is not None:
                self._tables.append((entry.at, entry.table))

    def clear(self) -> None:
        """Remove all entries."""
        with self._lock:
            self._entries.clear()
            self._tables.clear()

    def entries(self) -> list[Entry]:
        """Return all entries, the oldest first."""
        with self._lock:
            tables = dict(self._tables)
            return [entry._replace(table=tables.get(entry.at)) for entry in self._entries]

    def to_json(self, now: float) -> bytes:
        """Return the history as a JSON document, the oldest point first.

        Args:
            now: The time in seconds since the epoch. Points that are too old for it are left out.
        """
        with self._lock:
            entries = [entry for entry in self._entries if entry.at >= now - KEPT_SECONDS]
            tables = [table for table in self._tables if table[0] >= now - KEPT_SECONDS]
        trends = [
            {(method, route): value for method, route, value in json.loads(entry.trends)} for entry in entries
        ]
        routes = [
            encode({"method": key[0], "route": key[1], "counts": [trend.get(key) for trend in trends]})
            for key in dict.fromkeys(key for trend in trends for key in trend)
        ]
        return b'{"version":%d,"interval_seconds":%b,"points":[%b],"routes":[%b],"tables":[%b]}' % (
            VERSION,
            encode(INTERVAL_SECONDS).encode(),
            b",".join([entry.point for entry in entries]),
            ",".join(routes).encode(),
            b",".join([b'{"time":%b,"requests":%b}' % (encode(at).encode(), table) for at, table in tables]),
        )
