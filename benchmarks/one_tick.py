"""One process of the tick benchmark: one handler and one kind of values. It prints JSON."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.multiprocess import MultiProcessCollector

from benchmarks.scrape_files import Workers
from web_prom import make_asgi_app

PERIOD = 0.001
"""The time between two wake-ups of the coroutine, in seconds."""

CHANGED = 0.1
"""The share of the label sets in files that workers write to before each scrape."""


def main() -> None:
    """Measure what the arguments select."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("handler", choices=["no scrape", "web-prom", "prometheus-client"])
    parser.add_argument("--series", type=int, required=True)
    parser.add_argument("--scrapes", type=int, required=True)
    parser.add_argument("--workers", type=int, default=0)
    arguments = parser.parse_args()
    registry = CollectorRegistry()
    change: Callable[[], object] = int
    if arguments.workers:
        directory = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
        workers = Workers(directory, arguments.workers, arguments.series)
        change = partial(workers.change, CHANGED)
    else:
        _fill(registry, arguments.series)
    app = _app(arguments.handler, registry, shared=bool(arguments.workers))
    gc.collect()
    gc.freeze()  # otherwise the garbage collector would traverse the benchmark's own objects
    json.dump(asyncio.run(_measure(app, arguments.scrapes, change)), sys.stdout)


def _fill(registry: CollectorRegistry, series: int) -> None:
    os.environ.setdefault("PROMETHEUS_DISABLE_CREATED_SERIES", "True")
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    counter = Counter("shop_orders_total", "Orders.", ["customer", "payment"], registry=registry)
    for number in range(series):
        counter.labels(f"customer-{number}", "card").inc(number)


def _app(handler: str, registry: CollectorRegistry, *, shared: bool) -> Any:
    if handler == "no scrape":
        return None
    if handler == "web-prom":
        return make_asgi_app(registry)
    if shared:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return prometheus_client.make_asgi_app(registry)


async def _measure(app: Any, scrapes: int, change: Callable[[], object]) -> dict[str, dict[str, float]]:
    """Return the delays and the duration of the first scrape and of later ones, in seconds."""
    delays: list[float] = []
    going, counts = True, False

    async def tick() -> None:
        while going:
            begun = perf_counter()
            await asyncio.sleep(PERIOD)
            if counts:
                delays.append(perf_counter() - begun - PERIOD)

    ticking = asyncio.ensure_future(tick())
    results: dict[str, dict[str, float]] = {}
    for name, count in (("first", 1), ("later", scrapes - 1)):
        delays.clear()
        took = []
        for _ in range(count):
            change()
            await asyncio.sleep(0.1)
            counts = True
            begun = perf_counter()
            await (asyncio.sleep(1) if app is None else _scrape(app))
            took.append(perf_counter() - begun)
            await asyncio.sleep(0.05)
            counts = False
        results[name] = {
            "worst": max(delays),
            "usual": statistics.quantiles(delays, n=100, method="inclusive")[-1],
            "scrape": statistics.median(took),
        }
    going = False
    await ticking
    return results


async def _scrape(app: Any) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/metrics",
        "query_string": b"",
        "headers": [(b"accept-encoding", b"gzip")],
    }
    await app(scope, receive, send)
    if sent[0]["status"] != 200:
        raise SystemExit(f"it answered {sent}")


if __name__ == "__main__":
    main()
