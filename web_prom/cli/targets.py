"""The services that ``web-prom top`` shows: their snapshots of the last minutes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from web_prom.cli.fetch import reason
from web_prom.errors import SnapshotError
from web_prom.live.model import (
    RouteRow,
    Snapshot,
    Step,
    accumulate,
    between,
    growth,
    point_of,
    route_table,
)
from web_prom.live.source import SnapshotSource
from web_prom.live.text_samples import TextFormatError

MAX_POINTS = 180


@dataclass(frozen=True, kw_only=True)
class WorkerRow:
    """A worker, as the terminal shows it. What is not known is None.

    Attributes:
        worker: Its name.
        cpu: CPU seconds in each second.
        memory: Resident bytes.
        age: Seconds since it started.
        files: Open file descriptors.
    """

    worker: str
    cpu: float | None
    memory: float | None
    age: float | None
    files: float | None


@dataclass(frozen=True, kw_only=True)
class View:
    """What is known of a service now. Immutable.

    Attributes:
        title: Its URL.
        error: Why the latest scrape failed, or "".
        snapshot: The latest snapshot, if there is one.
        steps: What happened between each two snapshots, the oldest first.
        window: What happened in the window, or None after one snapshot.
        routes: The routes in the window, or since the service started after one snapshot.
        trends: Requests per second of each route over time.
        workers: The workers.
    """

    title: str
    error: str = ""
    snapshot: Snapshot | None = None
    steps: list[Step] = field(default_factory=list)
    window: Step | None = None
    routes: list[RouteRow] = field(default_factory=list)
    trends: Mapping[str, list[float]] = field(default_factory=dict)
    workers: list[WorkerRow] = field(default_factory=list)


class Target:
    """A service. One thread may poll it while others look.

    Args:
        url: Of ``/metrics``.
        source: Takes the snapshots.
        window_seconds: How far back rates look.
    """

    def __init__(self, url: str, source: SnapshotSource, window_seconds: float) -> None:
        self.url = url
        self._source = source
        self._window_seconds = window_seconds
        self._snapshots: deque[Snapshot] = deque(maxlen=MAX_POINTS)
        self._error = ""
        self._lock = threading.Lock()

    def poll(self) -> None:
        """Take a snapshot. What fails is the error of the next view."""
        try:
            snapshot = self._source.snapshot()
        except (SnapshotError, TextFormatError) as error:
            self._keep(None, reason(self.url, error))
        except Exception as error:
            self._keep(None, f"{self.url} cannot be shown: {error!r}")
        else:
            self._keep(snapshot, "")

    def poll_until(self, stop: threading.Event, interval_seconds: float) -> None:
        """Take a snapshot in each interval, until the event is set."""
        while not stop.is_set():
            self.poll()
            stop.wait(interval_seconds)

    def view(self) -> View:
        """Return what is known now."""
        with self._lock:
            snapshots, error = list(self._snapshots), self._error
        if not snapshots:
            return View(title=self.url, error=error)
        points = [point_of(snapshot) for snapshot in snapshots]
        steps = [between(former, latter) for former, latter in pairwise(points)]
        latest = snapshots[-1]
        start = latest["time"] - self._window_seconds
        begun = max((at for at, each in enumerate(snapshots[:-1]) if each["time"] <= start), default=0)
        before = snapshots[begun] if len(snapshots) > 1 else None
        elapsed = latest["time"] - before["time"] if before else 0.0
        return View(
            title=self.url,
            error=error,
            snapshot=latest,
            steps=steps,
            window=accumulate(steps[begun:]),
            routes=route_table(latest["requests"], before["requests"] if before else None, elapsed),
            trends=_trends(snapshots),
            workers=_workers(latest, before),
        )

    def _keep(self, snapshot: Snapshot | None, error: str) -> None:
        with self._lock:
            self._error = error
            if snapshot is None:
                return
            latest = self._snapshots[-1]["time"] if self._snapshots else 0.0
            # A clock can be set back. Then the snapshots begin again.
            if snapshot["time"] < latest:
                self._snapshots.clear()
            if snapshot["time"] != latest:
                self._snapshots.append(snapshot)


def _trends(snapshots: list[Snapshot]) -> dict[str, list[float]]:
    """Return the requests per second of each route of the latest snapshot, with 0 where it had none."""
    tables = [
        {
            row.key: row.rate or 0.0
            for row in route_table(latter["requests"], former["requests"], latter["time"] - former["time"])
        }
        for former, latter in pairwise(snapshots)
    ]
    keys = dict.fromkeys(key for table in tables for key in table)
    return {key: [table.get(key, 0.0) for table in tables] for key in keys}


def _workers(latest: Snapshot, before: Snapshot | None) -> list[WorkerRow]:
    former: dict[str, Any] = {row["worker"]: row for row in before["workers"]} if before else {}
    elapsed = latest["time"] - before["time"] if before else 0.0

    def cpu(row: Mapping[str, Any]) -> float | None:
        used, earlier = row["cpu_seconds"], former.get(row["worker"], {}).get("cpu_seconds")
        if used is None or earlier is None or not elapsed:
            return None
        return growth(used, earlier) / elapsed

    return [
        WorkerRow(
            worker=row["worker"] or "all",
            cpu=cpu(row),
            memory=row["resident_bytes"],
            age=latest["time"] - row["start_time"] if row["start_time"] else None,
            files=row["open_fds"],
        )
        for row in latest["workers"]
    ]
