"""The numbers of a shop that does not exist: what the live page shows in the tests and in the pictures.

They are the same each time: they come from formulas, and the clock begins at a fixed time.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

BEGIN = 1_760_000_400.0
"""The time of the first point, in seconds since the epoch."""

STEP_SECONDS = 5.0
KEPT_POINTS = 180
BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, None]

Document = dict[str, Any]


class Route(NamedTuple):
    """What a route of the shop does: requests per second, their typical seconds, and queries of each."""

    method: str
    path: str
    rate: float
    seconds: float
    queries: float = 0.0
    repeated: float = 0.0


ROUTES = (
    Route("GET", "/", 24, 0.008),
    Route("GET", "/products/<int:number>", 30, 0.012, queries=0.2),
    Route("GET", "/reviews", 6, 0.09, queries=11, repeated=8),
    Route("POST", "/orders", 4.5, 0.03, queries=1),
    Route("GET", "/search", 3, 0.24),
    Route("GET", "/report", 1, 0.4),
    Route("GET", "/broken", 0.4, 0.004),
    Route("GET", "_unmatched", 1.6, 0.003),
    Route("GET", "/catalogue.csv", 2.4, 0.006),
)
# The share of requests that take a multiple of the typical time.
_SPREAD = ((0.5, 0.7), (0.35, 1.3), (0.12, 2.6), (0.03, 8.0))


def snapshot(steps: int, *, started: int = 0, interval_seconds: float = 5.0) -> Document:
    """Return the snapshot after a number of steps of five seconds.

    Args:
        steps: The number of steps since `BEGIN`.
        started: The step at which the service started: its counters began at zero there.
        interval_seconds: The interval that the snapshot states.
    """
    served = steps - started
    requests = _requests(started, steps)
    total = sum(sum(row["counts"]) for row in requests["routes"])
    return {
        "version": 1,
        "time": BEGIN + STEP_SECONDS * steps,
        "title": "shop:app",
        "interval_seconds": interval_seconds,
        "web_prom": "0.1.0",
        "cost": {"snapshot_seconds": 0.0041, "series": 1312},
        "verdicts": _VERDICTS,
        "requests": requests,
        "websockets": None,
        "queue_time": _queue_time(total),
        "workers": [
            {
                "worker": str(at),
                "cpu_seconds": served * 0.7 + at,
                "resident_bytes": 6.1e7 + at * 2e6 + 4e4 * steps,
                "start_time": BEGIN + STEP_SECONDS * started - (7200 - 1900 * at if not started else 0),
                "open_fds": 14 + at,
                "capacity": 2,
                "requests": None,
            }
            for at in range(4)
        ],
        "server": {
            "listeners": [{"listener": "127.0.0.1:8000", "waiting": 2, "limit": 2048}],
            "listen_overflows": 0,
        },
        "event_loop": None,
        "databases": [
            _operation("SELECT", served * 300, 0.0027),
            _operation("INSERT", served * 22, 0.004),
            _operation("INSERT", 3, 0.003, error="IntegrityError"),
        ],
        "pools": [
            {"pool": "orders", "used": 3, "idle": 2, "max": 5, "pending": 0, "timeouts": 0},
        ],
        "caches": [_cache("get", served, hit=46, miss=2), _cache("set", served, ok=2)],
        "calls": [
            {
                "method": "POST",
                "address": "payments.example",
                "status": "200",
                "error": "",
                "count": served * 21,
                "seconds": served * 21 * 0.12,
            },
            {
                "method": "POST",
                "address": "payments.example",
                "status": "",
                "error": "ConnectTimeout",
                "count": served,
                "seconds": served * 2.0,
            },
        ],
        "own": _own(served, steps),
        "checks": [
            {"name": "sharing", "ok": True, "summary": "4 workers share their metrics.", "remedy": ""},
            {
                "name": "access",
                "ok": False,
                "summary": "Anybody who reaches the port can read /metrics.",
                "remedy": "Set PROM_BEARER_TOKEN or PROM_ALLOWED_NETWORKS.",
            },
        ],
    }


def history(steps: int) -> Document:
    """Return the history that ends with the snapshot after a number of steps."""
    times = range(max(steps - KEPT_POINTS + 1, 1), steps + 1)
    snapshots = [snapshot(each) for each in times]
    trends = [[sum(row["counts"]) for row in each["requests"]["routes"]] for each in snapshots]
    return {
        "version": 1,
        "interval_seconds": STEP_SECONDS,
        "points": [_point(each) for each in snapshots],
        "routes": [
            {"method": route.method, "route": route.path, "counts": [trend[at] for trend in trends]}
            for at, route in enumerate(ROUTES)
        ],
        "tables": [
            {"time": each["time"], "requests": each["requests"]}
            for at, each in enumerate(snapshots)
            if at % 12 == 0
        ],
    }


_VERDICTS = [
    {
        "name": "workers_full",
        "severity": "critical",
        "summary": "The workers are 91 % busy: requests wait for a free one.",
        "remedy": "Add workers or threads, or make the routes with the most time faster.",
        "numbers": {"utilisation": 0.91, "workers": 4},
    },
    {
        "name": "queue_time",
        "severity": "warning",
        "summary": "95 % of requests wait for a worker for up to 45 ms.",
        "remedy": "Look at the share of time in the table of routes.",
        "numbers": {"p95_seconds": 0.045},
    },
]


def _requests(started: int, steps: int) -> Document:
    return {
        "buckets": BUCKETS,
        "in_progress": 3,
        "routes": [_row(route, started, steps) for route in ROUTES],
        "left_out": 0,
    }


def _row(route: Route, started: int, steps: int) -> Document:
    first, last = _served(route, started), _served(route, steps)
    counts = [after - before for before, after in zip(first.counts, last.counts, strict=True)]
    seconds, failed, all_of = last.seconds - first.seconds, last.failed - first.failed, sum(counts)
    status = {"_unmatched": "404", "/orders": "201"}.get(route.path, "200")
    error = "RuntimeError" if route.path == "/broken" else "PaymentError"
    return {
        "method": route.method,
        "route": route.path,
        "statuses": {name: value for name, value in ((status, all_of - failed), ("500", failed)) if value},
        "exceptions": {error: failed} if failed else {},
        "seconds": seconds,
        "counts": counts,
        "queries": all_of * route.queries,
        "query_seconds": all_of * route.queries * 0.003,
        "repeated_queries": all_of * route.repeated,
    }


class _Served(NamedTuple):
    counts: tuple[int, ...]
    seconds: float
    failed: int


@cache
def _served(route: Route, steps: int) -> _Served:
    """Return what a route did from the first step on."""
    if steps <= 0:
        return _Served((0,) * len(BUCKETS), 0.0, 0)
    before, step = _served(route, steps - 1), steps - 1
    counts, seconds = list(before.counts), before.seconds
    requests = max(round(route.rate * STEP_SECONDS * (1 + 0.3 * math.sin(step / 18))), 0)
    typical = route.seconds * (2.5 if route.path == "/search" and step > 140 else 1.0)
    left = requests
    for share, factor in (*_SPREAD[1:], (1.0, _SPREAD[0][1])):
        some = left if share == 1.0 else round(requests * share * (0.7 + 0.6 * ((step * 7919) % 101) / 101))
        some = min(some, left)
        counts[_bucket(typical * factor)] += some
        seconds += some * typical * factor
        left -= some
    failed = {"/broken": requests, "/orders": round(requests * 0.06) if step > 150 else 0}
    return _Served(tuple(counts), seconds, before.failed + failed.get(route.path, 0))


def _bucket(seconds: float) -> int:
    return next(at for at, bound in enumerate(BUCKETS) if bound is None or seconds <= bound)


def _queue_time(observed: float) -> Document:
    typical, counts = 0.011, [0.0] * len(BUCKETS)
    for share, factor in _SPREAD:
        counts[_bucket(typical * factor)] += round(observed * share)
    return {"buckets": BUCKETS, "counts": counts, "seconds": observed * typical}


def _operation(operation: str, count: float, seconds: float, error: str = "") -> Document:
    return {
        "system": "postgresql",
        "namespace": "shop",
        "operation": operation,
        "error": error,
        "count": count,
        "seconds": count * seconds,
    }


def _cache(operation: str, served: int, **results: int) -> Document:
    count = served * sum(results.values())
    found = {name: served * value for name, value in results.items()}
    return {
        "cache": "default",
        "operation": operation,
        "results": found,
        "count": count,
        "seconds": count * 2e-4,
    }


def _own(served: int, steps: int) -> list[Document]:
    def family(name: str, kind: str, text: str, series: list[Document], **members: Any) -> Document:
        described: Document = {
            "name": name,
            "type": kind,
            "help": text,
            "unit": "",
            "labels": [],
            "buckets": None,
        }
        total = sum(each["value"] for each in series) if kind == "counter" else None
        return {**described, "total": total, "left_out": 0, **members, "series": series}

    values = [
        {"labels": ["card"], "value": served * 30},
        {"labels": ["invoice"], "value": served * 12 + round(40 * (1 + math.sin(steps / 9)))},
    ]
    counts = [served * each for each in (1, 4, 9, 3, 1)]
    basket = [{"labels": [], "count": sum(counts), "sum": served * 620.0, "counts": counts}]
    return [
        family("shop_basket_euros", "histogram", "Value of baskets.", basket, buckets=[5, 20, 50, 100, None]),
        family(
            "shop_checkouts_in_progress",
            "gauge",
            "Checkouts in progress.",
            [{"labels": [], "value": round(6 + 4 * math.sin(steps / 5), 2)}],
        ),
        family("shop_orders_total", "counter", "Orders placed.", values, labels=["payment"]),
    ]


def _point(document: Document) -> Document:
    rows, queue, workers = document["requests"]["routes"], document["queue_time"], document["workers"]
    statuses: dict[str, float] = {}
    for row in rows:
        for status, value in row["statuses"].items():
            statuses[f"{status[0]}xx"] = statuses.get(f"{status[0]}xx", 0) + value
    return {
        "time": document["time"],
        "statuses": statuses,
        "seconds": sum(row["seconds"] for row in rows),
        "counts": [sum(column) for column in zip(*(row["counts"] for row in rows), strict=True)],
        "in_progress": document["requests"]["in_progress"],
        "queue_seconds": queue["seconds"],
        "queue_count": sum(queue["counts"]),
        "queue_counts": queue["counts"],
        "loop_counts": None,
        **{
            member: sum(worker[member] for worker in workers)
            for member in ("capacity", "cpu_seconds", "resident_bytes")
        },
    }
