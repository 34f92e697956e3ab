"""The snapshot: one JSON document with what the metrics of a service say now."""

from __future__ import annotations

import math
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import web_prom
from web_prom.live.families import Families, add_columns
from web_prom.live.inside_section import inside_sections
from web_prom.live.own_section import own_section
from web_prom.live.request_section import request_section
from web_prom.live.server_section import server_sections
from web_prom.live.text_samples import Scrape, TextReader
from web_prom.live.websocket_section import websocket_section

VERSION = 1
"""The version of the document. It changes if a member changes its meaning or is removed."""

# Far below the largest float, so that sums, rates and percentages of such values are finite too.
_MAX_VALUE = 1e300


class SnapshotReader:
    """Makes snapshots of one service from its scrapes.

    It keeps what it has parsed, so that the next scrape takes less time. One thread at a time may use it.

    Args:
        title: What the snapshot calls the service.
        interval_seconds: The time between two snapshots, for those who ask again.

    Attributes:
        scrape: The latest scrape.
    """

    def __init__(self, title: str, interval_seconds: float) -> None:
        self._title = title
        self._interval_seconds = interval_seconds
        self._version = web_prom.__version__
        self._reader = TextReader()
        self.scrape = Scrape({}, [])

    def read(self, text: bytes, at: float, *, started: float | None = None) -> dict[str, Any]:
        """Return the snapshot of a scrape.

        All counters are those of the scrape: they grow until the service starts again. Whoever compares two
        snapshots takes a counter that went back as one that began at 0.

        Args:
            text: The scrape, in Prometheus' text format.
            at: When it was taken, in seconds since the epoch.
            started: ``perf_counter()`` before the scrape, for the cost that the document states.

        Raises:
            TextFormatError: The text has another format.
        """
        started = perf_counter() if started is None else started
        scrape = _with_sums(self._reader.read(text))
        families = Families(scrape)
        requests = request_section(families)
        document: dict[str, Any] = {
            "version": VERSION,
            "time": at,
            "title": self._title,
            "interval_seconds": self._interval_seconds,
            "web_prom": self._version,
            "requests": requests,
            "websockets": websocket_section(families),
            **server_sections(families, _finished(requests)),
            **inside_sections(families),
        }
        document["own"] = own_section(families)
        document["cost"] = {
            "snapshot_seconds": perf_counter() - started,
            "series": len(scrape.values),
        }
        self.scrape = scrape
        return document


def _with_sums(scrape: Scrape) -> Scrape:
    """Return a scrape of which each sum is finite: values beyond a limit are the limit."""
    values = scrape.values
    if not values or (max(values) <= _MAX_VALUE and min(values) >= -_MAX_VALUE):
        return scrape
    return scrape._replace(values=[max(-_MAX_VALUE, min(value, _MAX_VALUE)) for value in values])


def _finished(requests: dict[str, Any]) -> float | None:
    """Return the requests of all routes; None if no request was measured."""
    counts = [value for row in requests["routes"] for value in row["statuses"].values()]
    return math.fsum(counts) if counts else None


def reduced(snapshot: dict[str, Any]) -> dict[str, Any]:
    """Return the point of the history that a snapshot makes: totals over all routes and workers."""
    requests, queue, loop = snapshot["requests"], snapshot["queue_time"], snapshot["event_loop"]
    statuses: dict[str, float] = {}
    for row in requests["routes"]:
        for status, value in row["statuses"].items():
            name = f"{status[0]}xx" if status[:1].isdigit() else "other"
            statuses[name] = statuses.get(name, 0.0) + value
    return {
        "time": snapshot["time"],
        "statuses": statuses,
        "seconds": math.fsum(row["seconds"] for row in requests["routes"]),
        "counts": add_columns(row["counts"] for row in requests["routes"])
        or [0.0] * len(requests["buckets"]),
        "in_progress": requests["in_progress"],
        "queue_seconds": queue and queue["seconds"],
        "queue_count": queue and math.fsum(queue["counts"]),
        "queue_counts": queue and queue["counts"],
        "loop_counts": loop and loop["counts"],
        **{
            member: _sum_known([worker[member] for worker in snapshot["workers"]])
            for member in ("capacity", "cpu_seconds", "resident_bytes")
        },
    }


def _sum_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) if known else None
