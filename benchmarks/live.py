"""The cost of the live page: of its snapshots, and the delay that they cause on an event loop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks.effort import Effort
from benchmarks.machine import describe

WORKERS, SERIES, QUICK_SERIES = 4, 10_000, 1_000

MOST_OF_A_CORE, MOST_DELAY = 0.01, 0.020
"""The goals: a share of a core for the whole service, and seconds."""

TITLE = "Live page, several workers"

EXPLANATION = """\
A worker takes a snapshot of the values of {workers} workers with {series} series each, every 5 seconds, in a
thread beside an event loop in which a coroutine wakes once in a millisecond. Between two snapshots a tenth of
the label sets changes. The other workers answer with the same snapshot, so this is the cost of the whole
service, whether the page is open or not; an answer is the cost of one request of an open page. CPU: the time
of the thread for each 5 seconds, in which scrape, parsing, verdicts and JSON are. Delay: how much later the
coroutine woke; without snapshots it is what the machine itself takes. The first snapshot of a process parses
all labels.
"""


def run(effort: Effort) -> None:
    """Measure, and print a table.

    Raises:
        NoCaseError: The title has not the text that was asked for.
    """
    effort.choose([TITLE])
    series, snapshots = (QUICK_SERIES, 3) if effort.quick else (SERIES, 20)
    print(describe("web-prom", "prometheus-client"))
    print()
    print(EXPLANATION.format(workers=WORKERS, series=series))
    result = _measure(series, snapshots)
    print(f"{TITLE:34}{'CPU':>10}{'of a core':>12}{'99 % delay':>12}{'worst':>10}")
    for name in ("no snapshot", "first", "later", "answer"):
        print(_row(name, result[name]))
    print(f"  memory of the worker that takes the snapshots: {result['memory'] / 1e6:.1f} MB more")
    print(flush=True)


def _row(name: str, result: Any) -> str:
    row = f"  {name:32}{result['cpu'] * 1e3:7.1f} ms{result['cpu'] / 5:11.2%}"
    row += f"{result['usual'] * 1e3:9.1f} ms{result['worst'] * 1e3:7.1f} ms"
    if name == "later":
        cheap, short = result["cpu"] / 5 <= MOST_OF_A_CORE, result["worst"] <= MOST_DELAY
        row += f"   at most {MOST_OF_A_CORE:.0%}: {_met(cheap)}"
        row += f", {MOST_DELAY * 1e3:.0f} ms: {_met(short)}"
    return row


def _met(reached: bool) -> str:
    return "met" if reached else "MISSED"


def _measure(series: int, snapshots: int) -> Any:
    """Measure in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.one_live_page", f"--series={series}"]
    command += [f"--snapshots={snapshots}", f"--workers={WORKERS}"]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PROM")}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as directory:
        environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the measurement failed:\n{done.stderr}")
    return json.loads(done.stdout)
