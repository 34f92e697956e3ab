"""Families of equal names in one scrape, from one source and from several."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.web_prom.exposition.workers import CUSTOM, scraped
from tests.web_prom.multiprocess.test_many_processes import VARIABLE, Scrape, run

pytestmark = pytest.mark.slow  # the tests start processes


def test_family_whose_name_is_used_already_is_left_out_and_counted(tmp_path: Path) -> None:
    """Prometheus would reject the whole scrape."""
    scrape = scraped(
        """
registry = CollectorRegistry()  # which asks nobody for names
orders = Counter("shop_orders", "Orders.", registry=registry)
Gauge("process_open_fds", "Mine.", registry=registry, multiprocess_mode="max").set(7)
registry.register(Custom(names=["shop_queue", "shop_orders_total", "shop_line"]))
class Second(Custom): pass
registry.register(Second(names=["shop_line", "web_prom_own", "http_requests_in_progress"]))
wrapped = PrometheusMiddleware(app, registry=registry)
orders.inc(5)
scrape(wrapped)
print(scrape(wrapped))
        """,
        tmp_path,
    )
    assert scrape["shop_orders_total"] == 5
    assert scrape["shop_queue"] == scrape["shop_line"] == scrape["web_prom_own"] == 2
    assert scrape["http_requests_in_progress"] == 0
    assert scrape["process_open_fds"] == 7
    assert scrape['process_max_fds{worker="0"}']
    types = re.findall(r"^# TYPE (\S+)", scrape.text, re.MULTILINE)
    assert sorted(types) == sorted(set(types))
    counted = {line: value for line, value in scrape.values.items() if "instrumentation_errors" in line}
    assert counted == {
        'web_prom_instrumentation_errors_total{stage="collector Custom"}': 1,
        'web_prom_instrumentation_errors_total{stage="collector Second"}': 2,
        'web_prom_instrumentation_errors_total{stage="collector process_families"}': 1,
    }


REPEATING = """
class Repeating:
    def describe(self): return []
    def collect(self):
        for queue in "abc":
            family = GaugeMetricFamily("queue_depth", "Help." if queue < "c" else "Other.", labels=["q"])
            family.add_metric([queue], 1)
            yield family
            yield GaugeMetricFamily(f"after_{queue}", "Help.", value=1)
        yield CounterMetricFamily("queue_depth", "Help.", value=7)
class Second(Custom): pass
registry = CollectorRegistry()  # which asks nobody for names
registry.register(Second(names=["shop_orders_total", "own"]))
registry.register(Repeating())
registry.register(Custom(names=["after_a", "queue_depth", "own_too"]))
Counter("shop_orders", "Orders.", registry=registry).inc(5)
wrapped = PrometheusMiddleware(app, registry=registry)
scrape(wrapped)
print(scrape(wrapped, HTTP_ACCEPT=os.environ.get("ACCEPT", "")))
"""


@pytest.mark.parametrize("shared", [False, True])
def test_fault_41_families_of_equal_name_from_one_collector_are_joined(tmp_path: Path, shared: bool) -> None:
    """All series are below one heading. If another source uses a name, only that family is left out."""
    environ = {VARIABLE: str(tmp_path)} if shared else {}
    scrape = Scrape(run(CUSTOM + REPEATING, **environ))
    assert [scrape[f'queue_depth{{q="{queue}"}}'] for queue in "abc"] == [1, 1, 1]
    assert [scrape[f"after_{queue}"] for queue in "abc"] == [1, 1, 1]
    assert scrape["queue_depth_total"] == 7
    assert scrape["own"] == scrape["own_too"] == 2
    assert scrape["shop_orders_total"] == 5
    assert scrape["queue_depth"] is None
    assert scrape.text.count("# TYPE queue_depth gauge") == 1
    types = re.findall(r"^# TYPE (\S+)", scrape.text, re.MULTILINE)
    assert sorted(types) == sorted(set(types))
    # If the counters have been encoded already, the next scrape shows the failure.
    assert (scrape['web_prom_instrumentation_errors_total{stage="collector Second"}'] or 0) >= 1
    assert (scrape['web_prom_instrumentation_errors_total{stage="collector Custom"}'] or 0) >= 2


@pytest.mark.parametrize("shared", [False, True])
def test_fault_41_families_of_equal_name_and_two_types_are_both_written(tmp_path: Path, shared: bool) -> None:
    """In OpenMetrics both have the same name. Both are written, as by prometheus_client."""
    environ = {VARIABLE: str(tmp_path)} if shared else {}
    text = run(CUSTOM + REPEATING, ACCEPT="application/openmetrics-text", **environ)
    assert "\nqueue_depth_total 7.0\n" in text
    assert all(f'\nqueue_depth{{q="{queue}"}} 1.0\n' in text for queue in "abc")


def test_fault_41_families_are_in_the_order_of_registration() -> None:
    """Although instruments have precedence for names."""
    text = run(CUSTOM + REPEATING)
    order = [text.index(f"# TYPE {name} ") for name in ("own", "queue_depth", "own_too", "shop_orders_total")]
    assert order == sorted(order)


def test_fault_93_two_definitions_of_one_family_are_counted_and_logged(tmp_path: Path) -> None:
    """Another library with its own registry uses the same name. Sums would double without a log message."""
    scrape = scraped(
        """
theirs = CollectorRegistry()
wrapped = PrometheusMiddleware(app)
names = ["method", "path", "status"]
Counter("http_requests", "Theirs.", names, registry=theirs).labels("GET", "/a", "2xx").inc()
Histogram("http_request_duration_seconds", "Theirs.", ["handler"], registry=theirs).labels("/a").observe(1)
Counter("shop_orders", "Orders.", ["kind"]).labels("x").inc()
serve(wrapped, "/a")
lines = []
log.warning = lambda message, *arguments, **options: lines.append(message % arguments)
scrape(wrapped)
text = scrape(wrapped)
assert len(lines) == 1, lines
assert "set PROM_NAMESPACE" in lines[0]
assert "http_requests (method, path, status and method, route, status)" in lines[0], lines
assert "http_request_duration_seconds (handler and method, route)" in lines[0], lines
print(text)
        """,
        tmp_path,
    )
    assert scrape["web_prom_ambiguous_families"] == 2
    assert scrape['http_requests_total{method="GET",route="/a",status="200"}'] == 1


def test_fault_93_one_definition_is_not_logged(tmp_path: Path) -> None:
    """For all types of families, and for names with a namespace."""
    scrape = scraped(
        """
theirs = CollectorRegistry()
wrapped = PrometheusMiddleware(app, namespace="shop")
names = ["method", "path", "status"]
Counter("http_requests", "Theirs.", names, registry=theirs).labels("GET", "/a", "2xx").inc()
Summary("s", "Help.", ["b", "a"]).labels("1", "2").observe(1)
for mode in ("all", "livesum", "mostrecent"):
    Gauge(f"g_{mode}", "Help.", ["a"], multiprocess_mode=mode).labels("1").set(1)
serve(wrapped, "/a")
in_child(lambda: serve(wrapped, "/a"))
lines = []
log.warning = lambda message, *arguments, **options: lines.append(message % arguments)
text = scrape(wrapped)
assert lines == []
print(text)
        """,
        tmp_path,
    )
    assert scrape["web_prom_ambiguous_families"] == 0
