"""Six hours of made-up history for Prometheus, which the samples of the running shops continue.

The history has the series of a scrape. Each counter grows by the rate that the load of the demo has, and ends
where the shops started. There it begins at zero again: a reset, as at each start of a server.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import accumulate
from threading import Event

from demo_load import PRODUCT
from demo_traffic import PERCENTAGES, rate_at, times_in_load
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

HOURS = 6
STEP_SECONDS = 30
INCIDENT = (-7800, -6900)
"""When /broken was requested more often: from and to, in seconds before the end of the history."""

ROUTES_OF_PREFIXES = {
    "shop_": "/orders",
    "cache_": PRODUCT,
    "db_client_": PRODUCT,
    "http_request_queue_": "/",
    "process_cpu_": "/",
}
CUMULATIVE = ("counter", "histogram", "summary")
MOMENTS = ("_start_time_seconds", "_timestamp_seconds")


def write_lines(text: str, labels: dict[str, str], end: int, stop: Event) -> Iterator[str]:
    """Yield the history of one target, in the text format of OpenMetrics but for its last line.

    The same arguments give the same lines.

    Args:
        text: A scrape of the target after the load of the demo.
        labels: The labels that Prometheus adds to each series: job and instance.
        end: The time of the last sample, in seconds since 1970.
        stop: Ends the iteration early.
    """
    times = range(end - HOURS * 3600, end + 1, STEP_SECONDS)
    loads = {route: _loads(route, end, times) for route in PERCENTAGES}
    up = Sample("up", {}, 1)
    yield from _lines(up, labels, [1.0] * len(times), times)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if stop.is_set():
                return
            yield from _lines(sample, labels, _values(family, sample, loads, times), times)


def _loads(route: str, end: int, times: range) -> list[float]:
    """Return how many times the load of the demo was sent until each time, for the requests of one route."""
    chance = random.Random(route)
    share = PERCENTAGES[route] / 100 / times_in_load(route)
    first, last = INCIDENT
    steps = (
        share
        * STEP_SECONDS
        * rate_at(time - end)
        * chance.uniform(0.8, 1.2)
        * (20 if route == "/broken" and first <= time - end < last else 1)
        for time in times
    )
    return list(accumulate(steps))


def _values(family: Metric, sample: Sample, loads: dict[str, list[float]], times: range) -> list[float]:
    """Return the values of a series at each time. A series that the load does not change is constant."""
    route = sample.labels.get("route") or _route_of(sample.name)
    if family.type in CUMULATIVE and route in loads:
        if sample.value.is_integer():
            return [float(int(sample.value * load)) for load in loads[route]]
        return [sample.value * load for load in loads[route]]
    return [times[0] if sample.name.endswith(MOMENTS) else sample.value] * len(times)


def _route_of(name: str) -> str:
    """Return the route whose requests change a metric that has no label for it, or an empty string."""
    return next((route for prefix, route in ROUTES_OF_PREFIXES.items() if name.startswith(prefix)), "")


def _lines(sample: Sample, labels: dict[str, str], values: list[float], times: range) -> Iterator[str]:
    pairs = ",".join(f'{name}="{_escape(value)}"' for name, value in (sample.labels | labels).items())
    series = f"{sample.name}{{{pairs}}}"
    for value, time in zip(values, times, strict=True):
        yield f"{series} {value:.10g} {time}\n"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
