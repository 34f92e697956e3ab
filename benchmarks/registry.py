"""The cost of a scrape of one process: web-prom compared with prometheus_client's encoder."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys

from benchmarks.effort import Effort
from benchmarks.machine import describe

SERIES, QUICK_SERIES = 95_000, 5_000

# Goals: the factor by which web-prom is faster, and the bytes that it keeps for each series.
WARM, COLD, MOST_BYTES = 10, 3, 200

EXPLANATION = """\
Milliseconds of CPU time of one scrape, from the values to text as Prometheus asks for it (OpenMetrics), not
compressed: the median of {rounds} rounds, in each of which every way had its turn. For each route there are
three counters and a histogram of eleven buckets, all with _created. x: how many times as long
prometheus_client takes, the median of the rounds' quotients. Memory as tracemalloc counts it.
"""


def run(effort: Effort) -> None:
    """Measure, and print a table.

    Raises:
        NoCaseError: The title does not contain the requested text.
    """
    series = QUICK_SERIES if effort.quick else SERIES
    (title,) = effort.choose([f"1 process x {series:,} series"])
    rounds = max(1, effort.rounds // 15)
    print(describe("web-prom", "prometheus-client"))
    print()
    print(EXPLANATION.format(rounds=rounds))
    command = [sys.executable, "-m", "benchmarks.one_registry", f"--series={series}", f"--rounds={rounds}"]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PROM")}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{title} failed:\n{done.stderr}")
    result = json.loads(done.stdout)
    seconds, memory = result["seconds"], result["memory"]
    print(f"{title:44}{'ms':>10}{'x':>8}")
    print(f"  {'prometheus_client':42}{statistics.median(seconds['upstream']) * 1e3:10.2f}")
    for way, name, bar in (("warm", "warm", WARM), ("cold", "cold, the first scrape of a process", COLD)):
        pairs = zip(seconds["upstream"], seconds[way], strict=True)
        factor = statistics.median([theirs / ours for theirs, ours in pairs])
        row = f"  {name:42}{statistics.median(seconds[way]) * 1e3:10.2f}{factor:8.1f}"
        print(f"{row}   at least {bar} x: {_met(factor >= bar)}")
    kept = memory["kept"] / result["series"]
    print(
        f"  {'most memory in a scrape':42}{memory['ours'] / 1e6:10.1f} MB"
        f"   less than prometheus_client's {memory['upstream'] / 1e6:.1f} MB: "
        f"{_met(memory['ours'] < memory['upstream'])}"
    )
    print(
        f"  {'kept for the next scrape':42}{memory['kept'] / 1e6:10.1f} MB"
        f"   at most {MOST_BYTES} bytes for each series: {_met(kept <= MOST_BYTES)} ({kept:.0f})\n"
    )


def _met(reached: bool) -> str:
    return "met" if reached else "MISSED"
