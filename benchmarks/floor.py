"""The instruments of the floor: the same work by hand, with unmodified prometheus_client."""

from __future__ import annotations

from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from web_prom.config import DEFAULT_DURATION_BUCKETS


class Children(NamedTuple):
    """The children that a request of one route writes."""

    in_progress: Gauge
    requests: Counter
    duration: Histogram


def bound_children(paths: int) -> list[Children]:
    """Return the children of each path."""
    registry = CollectorRegistry()
    in_progress = Gauge("floor_in_progress", "Floor.", registry=registry, multiprocess_mode="livesum")
    requests = Counter("floor_requests", "Floor.", ["method", "route", "status"], registry=registry)
    duration = Histogram(
        "floor_duration_seconds",
        "Floor.",
        ["method", "route"],
        registry=registry,
        buckets=DEFAULT_DURATION_BUCKETS,
    )
    routes = [f"/{number}" for number in range(paths)]
    return [
        Children(in_progress, requests.labels("GET", route, "200"), duration.labels("GET", route))
        for route in routes
    ]
