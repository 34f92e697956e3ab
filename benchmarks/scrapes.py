"""The cost of a scrape of many workers: web-prom compared with prometheus_client's multi-process mode."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.effort import Effort
from benchmarks.machine import describe
from benchmarks.progress import erase_progress, show_progress

MILLISECONDS = 1e3
MEGABYTE = 1e6

# Goals for the memory between scrapes: bytes for each series of each process, and for each distinct series.
MOST_BYTES_OF_A_PROCESS, MOST_BYTES_OF_A_SERIES = 64, 600

WAYS = {
    "tenth": "warm, a tenth of the label sets changed",
    "none": "warm, nothing changed",
    "all": "warm, every label set changed",
    "cold": "cold, the first scrape of a process",
}

EXPLANATION = """\
Milliseconds of CPU time of one scrape, from files to text, not compressed: the median of {rounds} rounds, in
each of which every variant runs once. The files are those of processes that serve the same routes, each in
another order: three counters and a histogram of eleven buckets for each route, and one gauge. Changed
are the same label sets in every process. x: how many times as long prometheus_client takes, the median of
the rounds' quotients. Memory as tracemalloc counts it.
"""


@dataclass(frozen=True)
class Case:
    """The subject of one process, and its goals.

    Attributes:
        processes: The number of processes that wrote files.
        series: The number of series of each.
        warm: The factor by which a scrape must be faster when a tenth of the label sets has changed.
        cold: The factor by which the first scrape must be faster, or None without a goal.
    """

    processes: int
    series: int
    warm: float
    cold: float | None

    def __str__(self) -> str:
        return f"{self.processes} processes x {self.series:,} series"


CASES = (Case(8, 95_000, 50, 5), Case(4, 2_000, 30, 2), Case(64, 9_500, 50, None))


def run(effort: Effort) -> None:
    """Measure every case, and print a table for each.

    Raises:
        NoCaseError: No title contains the requested text.
    """
    cases = effort.choose(CASES)
    rounds = max(1, effort.rounds // 15)
    print(describe("web-prom", "prometheus-client"))
    print()
    print(EXPLANATION.format(rounds=rounds))
    for number, case in enumerate(cases, 1):
        result = measure(case.processes, case.series, rounds, f"[{number}/{len(cases)}] {case}")
        for line in _table(case, result):
            print(line)
        print(flush=True)


def measure(processes: int, series: int, rounds: int, title: str, *, memory: bool = True) -> Any:
    """Measure in a process of its own, and show the progress."""
    command = [sys.executable, "-m", "benchmarks.one_scrape"]
    command += [f"--processes={processes}", f"--series={series}", f"--rounds={rounds}"]
    command += ["--memory"] if memory else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        errors = [line for line in process.stderr if not show_progress(title, line.strip(), rounds)]
        output = process.stdout.read()
    erase_progress()
    if process.returncode:
        raise SystemExit(f"{title} failed:\n{''.join(errors)}")
    return json.loads(output)


def _table(case: Case, result: Any) -> Iterator[str]:
    seconds = result["seconds"]
    upstream = seconds["upstream"]
    yield f"{case!s:44}{'ms':>10}{'x':>8}"
    yield f"  {'prometheus_client':42}{statistics.median(upstream) * MILLISECONDS:10.2f}"
    bars = {"tenth": case.warm, "cold": case.cold}
    for way, title in WAYS.items():
        factor = statistics.median(theirs / ours for theirs, ours in zip(upstream, seconds[way], strict=True))
        line = f"  {title:42}{statistics.median(seconds[way]) * MILLISECONDS:10.2f}{factor:8.1f}"
        bar = bars.get(way)
        yield line + (f"   at least {bar} x: {_met(factor >= bar)}" if bar else "")
    memory = result["memory"]
    yield (
        f"  {'most memory in a scrape':42}{memory['ours'] / MEGABYTE:10.1f} MB"
        f"   less than prometheus_client's {memory['upstream'] / MEGABYTE:.1f} MB: "
        f"{_met(memory['ours'] < memory['upstream'])}"
    )
    most = case.series * (case.processes * MOST_BYTES_OF_A_PROCESS + MOST_BYTES_OF_A_SERIES)
    yield (
        f"  {'kept for the next scrape':42}{memory['kept'] / MEGABYTE:10.1f} MB"
        f"   at most {most / MEGABYTE:.1f} MB: {_met(memory['kept'] <= most)}"
        f" ({memory['kept'] / case.series / case.processes:.0f} bytes for each series of each process)"
    )


def _met(reached: bool) -> str:
    return "met" if reached else "MISSED"
