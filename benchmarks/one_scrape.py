"""One process of the scrape benchmark: one number of processes and series, read by both libraries.

The state that one case leaves in a process must not slow down the next one. So each runs in its own
interpreter, and prints JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from time import thread_time
from typing import Any

from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from benchmarks.scrape_files import Workers
from web_prom.multiprocess.reading.collector import WorkersCollector

SHARES = {"tenth": 0.1, "none": 0.0, "all": 1.0}
ENCODE, CONTENT_TYPE = choose_encoder("")


class Scrapes:
    """Scrapes of a directory by web-prom and by prometheus_client."""

    def __init__(self, directory: Path, workers: Workers) -> None:
        self._directory = directory
        self._workers = workers
        self._upstream = MultiProcessCollector(None, str(directory))  # type: ignore[no-untyped-call]
        self.reset()

    def reset(self) -> None:
        """Start again as a process without an earlier scrape."""
        self._ours = WorkersCollector(self._directory, lambda: self._workers.holders)

    def ours(self) -> bytes:
        """Scrape with web-prom."""
        families = self._ours.render_families(ENCODE, CONTENT_TYPE)
        return b"".join([part for family in families for part in (family.heading, *family.samples)])

    def upstream(self) -> bytes:
        """Scrape with prometheus_client."""
        return ENCODE(self._upstream)


def main() -> None:
    """Measure what the arguments select."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, required=True)
    parser.add_argument("--series", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--memory", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as directory:
        workers = Workers(Path(directory), arguments.processes, arguments.series)
        scrapes = Scrapes(Path(directory), workers)
        seconds = measure(scrapes, workers, arguments.rounds)
        memory = measure_memory(scrapes) if arguments.memory else {}
        workers.close()
    json.dump({"seconds": seconds, "memory": memory}, sys.stdout)


def measure(scrapes: Scrapes, workers: Workers, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of CPU time of each variant in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in ("upstream", "cold", *SHARES)}
    if sorted(scrapes.ours().splitlines()) != sorted(scrapes.upstream().splitlines()):
        raise SystemExit("the two outputs differ")
    gc.collect()
    gc.freeze()  # objects that exist before are not traversed by the garbage collector
    for done in range(rounds):
        seconds["upstream"].append(_time(scrapes.upstream))
        scrapes.reset()
        seconds["cold"].append(_time(scrapes.ours))
        for name, share in SHARES.items():
            workers.change(share)
            seconds[name].append(_time(scrapes.ours))
        print(done + 1, file=sys.stderr, flush=True)
    if sorted(scrapes.ours().splitlines()) != sorted(scrapes.upstream().splitlines()):
        raise SystemExit("the two outputs differ")
    return seconds


def measure_memory(scrapes: Scrapes) -> dict[str, int]:
    """Return the peak memory of a scrape, and the memory kept for the next one, in bytes."""
    memory: dict[str, int] = {}
    scrapes.reset()
    gc.collect()
    for name, scrape in (("upstream", scrapes.upstream), ("ours", scrapes.ours)):
        tracemalloc.start()
        scrape()
        memory[name] = tracemalloc.get_traced_memory()[1]
        gc.collect()
        memory["kept"] = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    return memory


def _time(scrape: Callable[[], Any]) -> float:
    gc.collect()
    started = thread_time()
    scrape()
    return thread_time() - started


if __name__ == "__main__":
    main()
