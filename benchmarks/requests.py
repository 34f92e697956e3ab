"""The cost of measuring a request: web-prom compared with the floor and other exporters."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.effort import Effort
from benchmarks.machine import describe
from benchmarks.paired_table import measure, table

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
        options = ["--peers"] if effort.peers else []
        command = [f"requests_{case.framework}", f"--paths={case.paths}", *options]
        result = measure(
            command, effort, f"[{number}/{len(cases)}] {case}", multi_process=case.values == "multi-process"
        )
        for line in table(str(case), result, MOST_TIMES_FLOOR[case.values], LEAST_TIMES_OURS):
            print(line)
        print(flush=True)
