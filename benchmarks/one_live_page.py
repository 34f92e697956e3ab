"""The process of the benchmark of the live page. It prints JSON."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, thread_time

from prometheus_client import CollectorRegistry

from benchmarks.scrape_files import Workers
from web_prom.config import Config
from web_prom.live.mount import standalone_mount

PERIOD = 0.001
"""The time between two wake-ups of the coroutine, in seconds."""

CHANGED = 0.1
"""The share of the label sets that workers write to before each snapshot."""


def main() -> None:
    """Measure, and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, required=True)
    parser.add_argument("--snapshots", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    arguments = parser.parse_args()
    mount = standalone_mount(CollectorRegistry(), Config(), public=True, title="benchmark")
    workers = Workers(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]), arguments.workers, arguments.series)
    source = mount.app.source
    environ = {"REQUEST_METHOD": "GET", "HTTP_ACCEPT_ENCODING": "gzip"}

    def take() -> float:
        begun = thread_time()
        source._take(source._current_store())
        return thread_time() - begun

    def answer() -> float:
        begun = thread_time()
        mount.app.respond(environ, "/snapshot.json")
        return thread_time() - begun

    gc.collect()
    gc.freeze()  # otherwise the garbage collector would traverse the benchmark's own objects
    before = _memory()
    result = asyncio.run(_measure(take, answer, arguments.snapshots, lambda: workers.change(CHANGED)))
    json.dump({**result, "memory": _memory() - before}, sys.stdout)


async def _measure(
    take: Callable[[], float], answer: Callable[[], float], snapshots: int, change: Callable[[], object]
) -> dict[str, dict[str, float]]:
    """Return CPU time and delays, in seconds."""
    delays: list[float] = []
    going, counts = True, False

    async def tick() -> None:
        while going:
            begun = perf_counter()
            await asyncio.sleep(PERIOD)
            if counts:
                delays.append(perf_counter() - begun - PERIOD)

    async def idle() -> float:
        await asyncio.sleep(0.2)
        return 0.0

    loop = asyncio.get_running_loop()
    ticking = asyncio.ensure_future(tick())
    results: dict[str, dict[str, float]] = {}
    work: tuple[tuple[str, Callable[[], float] | None, int], ...] = (
        ("no snapshot", None, 3),
        ("first", take, 1),
        ("later", take, snapshots),
        ("answer", answer, snapshots),
    )
    for name, function, count in work:
        delays.clear()
        took = []
        for _ in range(count):
            change()
            await asyncio.sleep(0.05)
            counts = True
            took.append(await (idle() if function is None else loop.run_in_executor(None, function)))
            await asyncio.sleep(0.02)
            counts = False
        results[name] = {
            "cpu": statistics.median(took),
            "worst": max(delays),
            "usual": statistics.quantiles(delays, n=100, method="inclusive")[-1],
        }
    going = False
    await ticking
    return results


def _memory() -> int:
    """Return the most memory that this process had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
