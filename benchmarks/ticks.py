"""The delay of an event loop during a large scrape: web-prom compared with prometheus_client's handler."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks.effort import Effort
from benchmarks.machine import describe

SERIES, QUICK_SERIES = 95_000, 5_000
WORKERS = 8

# The goal, in seconds.
MOST_AT_THE_WORST = 0.020

EXPLANATION = """\
A coroutine wakes once in a millisecond while the same loop answers {scrapes} scrapes of {series} series,
one after the other. Delay: how much later than that it woke, at the worst and at the 99th percentile;
without a scrape it is what the machine itself takes. Single-process: one counter. Multi-process: the files
of {workers} workers with counters and histograms, of whose label sets a tenth changes between scrapes; the
first scrape of a process reads everything.
"""


def run(effort: Effort) -> None:
    """Measure both handlers with both kinds of values, and print a table.

    Raises:
        NoCaseError: No title contains the requested text.
    """
    series, scrapes = (QUICK_SERIES, 2) if effort.quick else (SERIES, 5)
    chosen = effort.choose([f"Ticks, {values} values" for values in ("single-process", "multi-process")])
    print(describe("web-prom", "prometheus-client"))
    print()
    print(EXPLANATION.format(series=series, scrapes=scrapes, workers=WORKERS))
    for title in chosen:
        print(f"{title:34}{'scrape':>10}{'99 %':>10}{'worst delay':>14}")
        for name in ("no scrape", "web-prom", *(["prometheus-client"] if effort.peers else [])):
            result = _measure(name, series, scrapes, shared="multi" in title)
            for when in ("first", "later"):
                print(_row(name, when, result[when]))
        print(flush=True)


def _row(name: str, when: str, result: Any) -> str:
    scraping = name != "no scrape"
    title = f"{name}, {when}" if scraping else name
    seconds = f"{result['scrape'] * 1e3:.0f} ms" if scraping else ""
    row = f"  {title:32}{seconds:>10}{result['usual'] * 1e3:7.1f} ms{result['worst'] * 1e3:11.1f} ms"
    if name == "web-prom":
        met = "met" if result["worst"] <= MOST_AT_THE_WORST else "MISSED"
        row += f"   at most {MOST_AT_THE_WORST * 1e3:.0f} ms: {met}"
    return row


def _measure(name: str, series: int, scrapes: int, *, shared: bool) -> Any:
    """Run one handler in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.one_tick", name]
    command += [f"--series={series}", f"--scrapes={scrapes}"]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PROM")}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as directory:
        if shared:
            environ["PROMETHEUS_MULTIPROC_DIR"] = directory
            command.append(f"--workers={WORKERS}")
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    return json.loads(done.stdout)
