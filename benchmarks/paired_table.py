"""Measures a case of a paired benchmark in a process of its own, and prints its table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.effort import Effort
from benchmarks.pairing import BARE, FLOOR, OURS, Cost
from benchmarks.progress import erase_progress, show_progress

MICROSECONDS = 1e6


def measure(arguments: Sequence[str], effort: Effort, title: str, *, multi_process: bool) -> Any:
    """Run a case in a process of its own, show the progress, and return what the process prints.

    Args:
        arguments: The arguments of :mod:`benchmarks.one_process`, without rounds and requests.
        effort: The extent.
        title: The title of the case.
        multi_process: Whether the values are shared.
    """
    command = [sys.executable, "-m", "benchmarks.one_process", *arguments]
    command += [f"--rounds={effort.rounds}", f"--requests={effort.requests}"]
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PROM", "OTEL_"))}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as directory:
        if multi_process:
            environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        with subprocess.Popen(
            command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            errors = [
                line for line in process.stderr if not show_progress(title, line.strip(), effort.rounds)
            ]
            output = process.stdout.read()
    erase_progress()
    if process.returncode:
        raise SystemExit(f"{title} failed:\n{''.join(errors)}")
    return json.loads(output)


def table(
    title: str, result: Any, most_times_floor: float | None, least_times_ours: Mapping[str, float]
) -> Iterator[str]:
    """Yield the lines of the table of a case.

    Args:
        title: The title of the case.
        result: What its process printed.
        most_times_floor: The goal for web-prom, if there is one.
        least_times_ours: The goals for the ratios of other exporters to web-prom.
    """
    costs, threads = result["costs"], result["threads"]
    yield f"{title:44}{'median':>8}{'quartiles':>18}{'x floor':>9}{'x ours':>8}"
    floor, ours = Cost(*costs[FLOOR]), Cost(*costs[OURS])
    for name, numbers in costs.items():
        cost = Cost(*numbers)
        median, low, high = (number * MICROSECONDS for number in cost)
        line = f"  {name:42}{median:8.1f}{f'{low:.1f} - {high:.1f}':>18}"
        if name != BARE:
            line += f"{cost.median / floor.median:9.2f}{cost.median / ours.median:8.2f}"
        if threads[name]:
            line += f"   {threads[name]} more changes of thread, not timed"
        if name == OURS and most_times_floor:
            reached = _met(cost.median <= most_times_floor * floor.median)
            line += f"   at most {most_times_floor} x floor: {reached}"
        elif name in least_times_ours:
            least = least_times_ours[name]
            line += f"   at least {least} x ours: {_met(cost.median >= least * ours.median)}"
        yield line
    for name, reason in result["failed"].items():
        yield f"  {name:42} not measured: {reason}"


def _met(reached: bool) -> str:
    return "met" if reached else "MISSED"
