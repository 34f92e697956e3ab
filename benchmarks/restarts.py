"""The files, the totals and the time of a scrape after a thousand restarts of workers."""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from prometheus_client import Counter, Gauge, Histogram

from benchmarks.children import Child, IsOver, SendLine
from benchmarks.effort import Effort
from benchmarks.machine import describe
from web_prom.exposition.http import Exposition
from web_prom.multiprocess.directory.environment import DIR_VARIABLE
from web_prom.multiprocess.file_format import FileName
from web_prom.multiprocess.writing.activation import share_values

TITLE = "restarts"
WORKERS = {"quick": 24, "full": 1000}
AT_ONCE = 4
WRITES = 50
SITES = [f"site {number}" for number in range(20)]

COUNTERS = (b"bench_orders_total", b"bench_seconds_bucket", b"bench_seconds_count", b"bench_seconds_sum")

# The goal for the time of a scrape. The goal for files of each kind is the number of concurrent workers.
MOST_TIMES_FRESH = 1.2

EXPLANATION = """\
{workers} workers, {at_once} at a time, every second one ended by SIGKILL. Each counts and observes
{writes} times under {sites} labels and holds a live gauge. Meanwhile another process scrapes without
a pause and compares each scrape with the one before. Then a scrape of that directory with
{at_once} live workers beside one of a fresh directory with as many: the median of the ratios in
{rounds} rounds; warm: by a process that has scraped it before, cold: by one that has not.
"""


class Row(NamedTuple):
    """One line of the table."""

    subject: str
    result: str
    goal: str
    reached: bool

    def __str__(self) -> str:
        verdict = "" if self.reached else "missed"
        return f"  {self.subject:32}{self.result:>14}   {self.goal:20}{verdict}".rstrip()


def run(effort: Effort) -> None:
    """Restart workers, and print the results.

    Raises:
        NoCaseError: The title does not contain the requested text.
    """
    effort.choose([TITLE])
    workers = WORKERS["quick" if effort.quick else "full"]
    sizes = {"workers": workers, "at_once": AT_ONCE, "writes": WRITES, "sites": len(SITES)}
    print(
        describe("web-prom", "prometheus-client"),
        EXPLANATION.format(**sizes, rounds=effort.rounds),
        sep="\n\n",
    )
    with tempfile.TemporaryDirectory(prefix="bench-") as old, tempfile.TemporaryDirectory() as fresh:
        scraper = Child(lambda send, is_over: _scrape_continuously(old, send, is_over))
        written = _restart(old, workers)
        scrapes, decreases = json.loads(scraper.end())
        with _living(old), _living(fresh):
            rows = [
                *_files(old),
                _count(old, written + AT_ONCE * WRITES),
                Row(f"decreases in {scrapes:,} scrapes", f"{decreases}", "none", not decreases),
                *_times(old, fresh, effort.rounds),
            ]
    print(*rows, "", sep="\n", flush=True)


def _restart(directory: str, count: int) -> int:
    """Run workers one after the other, and return the number of their increments."""
    randomly = random.Random(7)
    written = 0
    alive: list[Child] = []
    for number in range(count + AT_ONCE):
        if len(alive) == AT_ONCE or number >= count:
            worker = alive.pop(randomly.randrange(len(alive)))
            written += int(worker.read_line())
            if number % 2:
                worker.kill()
            else:
                worker.end()
        if number < count:
            alive.append(_worker(directory, number))
        _progress(number, count)
    return written


def _worker(directory: str, number: int) -> Child:
    def work(send: SendLine, is_over: IsOver) -> None:
        os.environ[DIR_VARIABLE] = directory
        share_values()
        orders = Counter("bench_orders", "Orders.", ["site"])
        seconds = Histogram("bench_seconds", "Seconds.", ["site"])
        busy = Gauge("bench_busy", "Workers.", multiprocess_mode="livesum")
        busy.inc()
        for step in range(WRITES):
            site = SITES[(number + step) % len(SITES)]
            orders.labels(site).inc()
            seconds.labels(site).observe(0.1 * (step % 100))
        send(str(WRITES))
        # A worker is killed while it writes.
        while not is_over(0.001):
            busy.inc()
            busy.dec()

    return Child(work)


@contextmanager
def _living(directory: str) -> Iterator[None]:
    """Run as many workers as ran at once before."""
    workers = [_worker(directory, number) for number in range(AT_ONCE)]
    for worker in workers:
        worker.read_line()
    yield
    for worker in workers:
        worker.end()


def _scrape_continuously(directory: str, send: SendLine, is_over: IsOver) -> None:
    """Scrape until the end, and send the numbers of scrapes and of decreased values."""
    exposition = Exposition(directory=directory)
    scrapes = decreases = 0
    before: dict[bytes, float] = {}
    while not is_over(0):
        now = _counters(exposition)
        decreases += sum(now.get(series, -1.0) < value for series, value in before.items())
        before = now
        scrapes += 1
    send(json.dumps([scrapes, decreases]))


def _counters(exposition: Exposition) -> dict[bytes, float]:
    """Return the counters, which must not decrease, by series. Those of one process are excluded."""
    lines = exposition.respond({}).body.splitlines()
    pairs = (line.rsplit(b" ", 1) for line in lines if line.startswith(COUNTERS))
    return {series: float(value) for series, value in pairs}


def _files(directory: str) -> Iterator[Row]:
    found = [name for path in Path(directory).iterdir() if (name := FileName.parse(path.name))]
    most = AT_ONCE * len({(name.metric_type, name.mode) for name in found})
    yield Row("value files", f"{len(found)}", f"at most {most}", len(found) <= most)


def _count(directory: str, written: int) -> Row:
    def count(send: SendLine, is_over: IsOver) -> None:
        found = _counters(Exposition(directory=directory))
        send(repr(sum(value for series, value in found.items() if series.startswith(b"bench_orders_total"))))

    counted = float(Child(count).end())
    return Row("counted in the end", f"{counted:,.0f}", f"{written:,}", counted == written)


def _times(old: str, fresh: str, rounds: int) -> Iterator[Row]:
    """Measure scrapes of both directories in turn: by one process (warm), or by new processes (cold)."""

    def warm(send: SendLine, is_over: IsOver) -> None:
        both = Exposition(directory=old), Exposition(directory=fresh)
        pairs = [[_seconds(exposition) for exposition in both] for _ in range(rounds + 1)]
        send(json.dumps(pairs[1:]))

    def cold(directory: str) -> float:
        return float(Child(lambda send, _: send(repr(_seconds(Exposition(directory=directory))))).end())

    measured = {
        "warm": json.loads(Child(warm).end()),
        "cold": [[cold(old), cold(fresh)] for _ in range(rounds)],
    }
    for how, pairs in measured.items():
        ratio = statistics.median(one / other for one, other in pairs)
        seconds = statistics.median(one for one, _ in pairs)
        what = f"{how} scrape of {seconds * 1e3:.1f} ms, x fresh"
        yield Row(what, f"{ratio:.2f}", f"at most {MOST_TIMES_FRESH}", ratio <= MOST_TIMES_FRESH)


def _seconds(exposition: Exposition) -> float:
    begun = perf_counter()
    exposition.respond({})
    return perf_counter() - begun


def _progress(done: int, count: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{TITLE}: {min(done, count)} of {count} ", end="", file=sys.stderr, flush=True)
