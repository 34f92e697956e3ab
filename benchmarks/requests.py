"""The cost of measuring a request: web-prom compared with the floor and other exporters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.effort import Effort
from benchmarks.machine import describe
from benchmarks.pairing import BARE, FLOOR, OURS, Cost
from benchmarks.progress import erase_progress, show_progress

MICROSECONDS = 1e6

# Goals: the largest ratio of web-prom to the floor, and the smallest ratio of other exporters to web-prom.
MOST_TIMES_FLOOR = {"single-process": 2.0, "multi-process": 1.2}
LEAST_TIMES_OURS = {
    "prometheus-flask-exporter": 3.0,
    "django-prometheus": 6.0,
    "starlette_exporter": 3.0,
    "prometheus-fastapi-instrumentator": 3.0,
}

DISTRIBUTIONS = (
    "web-prom",
    "prometheus-client",
    "flask",
    "werkzeug",
    "django",
    "prometheus-flask-exporter",
    "django-prometheus",
    "opentelemetry-sdk",
    "opentelemetry-instrumentation-flask",
    "opentelemetry-instrumentation-django",
    "starlette",
    "starlette-exporter",
    "prometheus-fastapi-instrumentator",
)

EXPLANATION = """\
Microseconds of CPU time that each variant adds to a request: the median and the quartiles of the
differences in {rounds} rounds. In each round every variant serves the same {requests} requests in one
process. With 1000 routes the requests use them in turn.
bare: the request without measurement. floor: the same work written by hand in a wrapper or a middleware:
a gauge up and down, a counter, a histogram and perf_counter(), with children of prometheus_client that are
bound before. Other exporters are set up as their documentation says. OpenTelemetry has the SDK's metrics,
a reader in memory and no tracer provider.
"""


@dataclass(frozen=True)
class Case:
    """The subject of one process."""

    framework: str
    values: str
    paths: int

    def __str__(self) -> str:
        routes = "1 route" if self.paths == 1 else f"{self.paths} routes"
        framework = self.framework.capitalize().replace("_", " ")
        return f"{framework}, {self.values} values, {routes}"


def run(effort: Effort) -> None:
    """Measure every case, and print a table for each.

    Raises:
        NoCaseError: No title contains the requested text.
    """
    every = [
        Case(framework, values, paths)
        for framework in ("flask", "django", "django_async", "starlette")
        for values in MOST_TIMES_FLOOR
        for paths in (1, 1000)
    ]
    cases = effort.choose(every)
    print(describe(*DISTRIBUTIONS))
    print()
    print(EXPLANATION.format(rounds=effort.rounds, requests=effort.requests))
    for number, case in enumerate(cases, 1):
        result = _measure(case, effort, f"[{number}/{len(cases)}] {case}")
        for line in _table(case, result["costs"], result["failed"], result["threads"]):
            print(line)
        print(flush=True)


def _measure(case: Case, effort: Effort, title: str) -> Any:
    """Run a case in a process of its own, and show the progress."""
    command = [sys.executable, "-m", "benchmarks.one_process", case.framework, f"--paths={case.paths}"]
    command += [f"--rounds={effort.rounds}", f"--requests={effort.requests}"]
    command += ["--peers"] if effort.peers else []
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PROM", "OTEL_"))}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as directory:
        if case.values == "multi-process":
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


def _table(
    case: Case, costs: dict[str, list[float]], failed: dict[str, str], threads: dict[str, int]
) -> Iterator[str]:
    yield f"{case!s:44}{'median':>8}{'quartiles':>18}{'x floor':>9}{'x ours':>8}"
    floor, ours = Cost(*costs[FLOOR]), Cost(*costs[OURS])
    for name, numbers in costs.items():
        cost = Cost(*numbers)
        median, low, high = (number * MICROSECONDS for number in cost)
        line = f"  {name:42}{median:8.1f}{f'{low:.1f} - {high:.1f}':>18}"
        if name != BARE:
            line += f"{cost.median / floor.median:9.2f}{cost.median / ours.median:8.2f}"
        if threads[name]:
            line += f"   {threads[name]} more changes of thread, not timed"
        yield line + _verdict(case, name, cost, floor, ours)
    for name, reason in failed.items():
        yield f"  {name:42} not measured: {reason}"


def _verdict(case: Case, name: str, cost: Cost, floor: Cost, ours: Cost) -> str:
    if name == OURS:
        most = MOST_TIMES_FLOOR[case.values]
        return f"   at most {most} x floor: {_met(cost.median <= most * floor.median)}"
    if name in LEAST_TIMES_OURS:
        least = LEAST_TIMES_OURS[name]
        return f"   at least {least} x ours: {_met(cost.median >= least * ours.median)}"
    return ""


def _met(reached: bool) -> str:
    return "met" if reached else "MISSED"
