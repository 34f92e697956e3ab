"""`make demo-prometheus`: a real Prometheus with rules and a history, which leaves nothing at the end."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from threading import Event
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import urlopen

import pytest

from tests.examples.demo_process import PATIENCE_SECONDS, Demo
from tests.programs import needs_program
from tests.servers.process import wait_until

HOUR = 3600
SCRAPE = """\
# TYPE http_requests_total counter
http_requests_total{method="GET",route="/broken",status="500"} 6.0
http_requests_total{method="GET",route="/",status="200"} 60.0
# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{le="0.1",method="GET",route="/search"} 1.0
http_request_duration_seconds_bucket{le="+Inf",method="GET",route="/search"} 4.0
http_request_duration_seconds_count{method="GET",route="/search"} 4.0
http_request_duration_seconds_sum{method="GET",route="/search"} 0.85
# TYPE shop_orders_total counter
shop_orders_total{payment="a \\"card\\""} 16.0
# TYPE http_server_listen_overflows_total counter
http_server_listen_overflows_total 7.0
# TYPE web_prom_workers gauge
web_prom_workers 2.0
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1.7e+09
"""
END = 1_800_000_000


class Asked:
    """Asks the Prometheus of a demo."""

    def __init__(self, demo: Demo) -> None:
        found = re.search(r"Prometheus +(http://127\.0\.0\.1:\d+)/\n", demo.output)
        assert found, demo.output
        self.url = found[1]

    def ask(self, path: str, **parameters: Any) -> Any:
        """Return the data that the HTTP API answers with."""
        with urlopen(f"{self.url}/api/v1/{path}?{urlencode(parameters)}", timeout=PATIENCE_SECONDS) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> dict[str, float]:
        """Return the values of an expression by job."""
        found = self.ask("query", query=expression)["result"]
        return {item["metric"].get("job", ""): float(item["value"][1]) for item in found}

    def read(self, path: str) -> str:
        """Return a page."""
        with urlopen(f"{self.url}/{path}", timeout=PATIENCE_SECONDS) as answer:
            return str(answer.read().decode())


@pytest.fixture
def with_prometheus(run_demo: Callable[..., Demo]) -> Callable[..., Demo]:
    """Return a function that starts the demo with a Prometheus, and with one worker for each shop."""
    needs_program("prometheus", package="prometheus")
    return lambda change="": run_demo(f"demo_servers.WORKERS = 1; {change}", "--prometheus")


def test_demo_prometheus_has_rules_and_a_history(with_prometheus: Callable[..., Demo]) -> None:
    """Six hours answer a query and continue in the scrapes, all rules are evaluated, and nothing is left."""
    demo = with_prometheus()
    demo.read_until("From now on")
    asked = Asked(demo)

    wait_until(lambda: asked.query("min by (job) (count_over_time(up[30s])) > 3"), "scrapes")
    assert asked.query("up") == {"flask": 1, "django": 1}

    requests = "sum by (job) (rate(http_requests_total[5m]))"
    now = float(asked.ask("query", query="time()")["result"][0])
    graph = asked.ask("query_range", query=requests, start=now - 5.9 * HOUR, end=now, step=60)["result"]
    assert {item["metric"]["job"] for item in graph} == {"flask", "django"}
    assert all(len(item["values"]) == 355 for item in graph)  # no gap

    pages = 'http_requests_total{method="GET",route="/",status="200"}'
    assert asked.query(f"resets({pages}[7h])") == {"flask": 1, "django": 1}
    assert all(value > 30_000 for value in asked.query(f"increase({pages}[6h])").values())

    rules = wait_until(lambda: _evaluated(asked), "the evaluation of all rules")
    assert {rule["health"] for rule in rules} == {"ok"}, rules
    assert {rule["type"] for rule in rules} == {"alerting", "recording"}
    alerts = {rule["name"]: rule["state"] for rule in rules if rule["type"] == "alerting"}
    wait_until(lambda: _pending(asked) >= {"ErrorBudgetBurns", "RepeatedQueries"}, "alerts that are pending")
    assert alerts["AllTargetsGone"] == "inactive"
    for name in ("Prometheus", "queries", "rules", "alerts"):
        assert "<html" in asked.read(re.findall(rf"   {name} +http://127\.0\.0\.1:\d+/(\S*)", demo.output)[0])

    for link in re.findall(r'href="([^"]+)"', asked.read("consoles/queries.html")):
        assert "<html" in asked.read(unescape(link)[1:])
        (expression,) = parse_qs(urlsplit(unescape(link)).query)["g0.expr"]
        assert asked.ask("query", query=expression)["result"] or "ALERTS" in expression, expression

    demo.signal(signal.SIGINT)
    assert demo.end() == 0, demo.output
    assert max(map(len, demo.output.splitlines())) <= 80


def _pending(asked: Asked) -> set[str]:
    """Return the names of the alerts that fire, or are about to."""
    return {item["metric"]["alertname"] for item in asked.ask("query", query="ALERTS")["result"]}


def _evaluated(asked: Asked) -> list[dict[str, Any]]:
    """Return all rules, or an empty list until each was evaluated."""
    rules = [rule for group in asked.ask("rules")["groups"] for rule in group["rules"]]
    return rules if all(rule["health"] != "unknown" for rule in rules) else []


def test_demo_prometheus_ends_at_ctrl_c_while_it_makes_the_history(
    with_prometheus: Callable[..., Demo],
) -> None:
    """The comparison was made, so the exit code is 0. promtool ends too."""
    demo = with_prometheus("demo.SHOPS.pop('Django')")
    demo.read_until("hours of history")
    demo.signal(signal.SIGINT)
    assert demo.end() == 0, demo.output


def test_demo_prometheus_names_the_package_of_a_missing_program(
    run_demo: Callable[..., Demo], tmp_path: Path
) -> None:
    """It starts nothing."""
    demo = run_demo("", "--prometheus", PATH=str(tmp_path))
    assert demo.end() == 1
    assert demo.output.strip() == (
        "There is no program 'prometheus' on PATH. Debian has it in the package prometheus:\n"
        "   apt-get install prometheus"
    )


@pytest.fixture(scope="module")
def history(import_example: Callable[[str], ModuleType]) -> dict[str, list[tuple[float, int]]]:
    """Return the values and times of each series of a history."""
    series: dict[str, list[tuple[float, int]]] = {}
    for line in _lines(import_example("demo_history")):
        name, value, time = line.rsplit(maxsplit=2)
        series.setdefault(name, []).append((float(value), int(time)))
    return series


def _lines(module: ModuleType) -> Iterator[str]:
    lines: Iterator[str] = module.write_lines(SCRAPE, {"job": "flask", "instance": "shop:80"}, END, Event())
    return lines


def test_history_is_the_same_each_time(import_example: Callable[[str], ModuleType]) -> None:
    """Two histories of the same scrape have the same lines."""
    module = import_example("demo_history")
    assert list(_lines(module)) == list(_lines(module))


def test_history_covers_six_hours_in_order(history: dict[str, list[tuple[float, int]]]) -> None:
    """Each series has a sample each 30 seconds, and the last one at the end."""
    for samples in history.values():
        assert [time for _, time in samples] == list(range(END - 6 * HOUR, END + 1, 30))


def test_history_has_counters_that_only_grow(history: dict[str, list[tuple[float, int]]]) -> None:
    """A bucket has no more than the next one, at each time."""
    for name, samples in history.items():
        values = [value for value, _ in samples]
        assert values == sorted(values), name
        assert ("requests_total" in name) <= (values[-1] > values[0])
    small, all_of_them, count = (
        [value for value, _ in samples]
        for name, samples in history.items()
        if "/search" in name and "_sum" not in name
    )
    assert all_of_them == count
    assert all(a <= b for a, b in zip(small, count, strict=True))


def test_history_keeps_what_the_load_does_not_change(history: dict[str, list[tuple[float, int]]]) -> None:
    """Gauges and foreign counters are constant; the start of the process is that of the history."""
    last = {name.partition("{")[0]: samples[-1][0] for name, samples in history.items()}
    assert last["web_prom_workers"] == 2
    assert last["http_server_listen_overflows_total"] == 7
    assert last["process_start_time_seconds"] == END - 6 * HOUR
    assert last["up"] == 1
    assert 'shop_orders_total{payment="a \\"card\\"",job="flask",instance="shop:80"}' in history


def test_history_has_an_incident(history: dict[str, list[tuple[float, int]]]) -> None:
    """Two hours before its end, /broken is requested twenty times as often for a quarter of an hour."""
    (broken,) = (samples for name, samples in history.items() if "/broken" in name)
    at = {time - END: value for value, time in broken}
    assert at[-6900] - at[-7800] > 5 * (at[-5100] - at[-6000])


def test_traffic_sends_each_route_of_the_load(import_example: Callable[[str], ModuleType]) -> None:
    """The percentages of the routes add up to 100."""
    percentages = import_example("demo_traffic").PERCENTAGES
    assert sum(percentages.values()) == 100
    assert percentages.keys() == {hit.route for hit in import_example("demo_load").LOAD}
