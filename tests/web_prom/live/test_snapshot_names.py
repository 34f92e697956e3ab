"""The names of families in snapshots: namings, namespaces, and metrics of the service with similar names."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.gc_collector import GCCollector
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from tests.web_prom.live.support import valid
from tests.web_prom.support import serve
from web_prom import PrometheusMiddleware, family_names
from web_prom.live import take_snapshot
from web_prom.live.family_table import PREFIXED, UNPREFIXED
from web_prom.metrics.conventions import NAMINGS, MetricSpec
from web_prom.wsgi import set_route

all_namings = pytest.mark.parametrize("naming", NAMINGS)
all_namespaces = pytest.mark.parametrize("namespace", ["", "shop", "http"])

OWN_COUNTERS = (
    "http_upstream_retries",
    "process_orders",
    "python_scripts",
    "cache_operations_skipped",
    "websocket_games",
    "db_client_logins",
    "asyncio_jobs",
    "web_prom_customers",
    "shop_http_retries",
    "upstream_process_open_fds",
)


def application(environ: Any, start_response: Any) -> list[bytes]:
    path = environ["PATH_INFO"]
    if path != "/unknown":
        set_route(environ, path)
    start_response("404 Not Found" if path == "/lost" else "200 OK", [])
    return [b""]


def own_names(metrics: Any) -> list[str]:
    return [family["name"] for family in valid(take_snapshot(metrics))["own"]]


def own_of(registry: CollectorRegistry) -> list[str]:
    for name in OWN_COUNTERS:
        Counter(name, "", registry=registry).inc()
    return sorted(f"{name}_total" for name in OWN_COUNTERS)


@all_namings
@all_namespaces
def test_requests_and_own_metrics_are_the_same_under_all_names(
    registry: CollectorRegistry, naming: str, namespace: str
) -> None:
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    Histogram("upstream_http_request_duration_seconds", "", ["method", "x"], registry=registry).labels(
        "GET", "a"
    ).observe(5)
    Counter("upstream_http_requests", "", ["method", "x"], registry=registry).labels("GET", "a").inc()
    upstream = ["upstream_http_request_duration_seconds", "upstream_http_requests_total"]
    own = [*own_of(registry), *upstream]
    app = PrometheusMiddleware(application, registry=registry, naming=naming, namespace=namespace)
    assert own_names(registry) == sorted(own)
    for path in ("/a", "/a", "/lost", "/unknown"):
        serve(app, path)

    snapshot = valid(take_snapshot(registry))

    rows = {(row["method"], row["route"]): row["statuses"] for row in snapshot["requests"]["routes"]}
    ok, lost = ("2xx", "4xx") if naming == "fastapi-instrumentator" else ("200", "404")
    assert rows == {("GET", "/a"): {ok: 2}, ("GET", "/lost"): {lost: 1}, ("GET", "_unmatched"): {ok: 1}}
    assert [family["name"] for family in snapshot["own"]] == sorted(own)


@pytest.mark.parametrize("prefix", ["", "shop_"])
def test_own_metrics_have_no_family_that_web_prom_adds(prefix: str) -> None:
    """Those of requests are in the namings. Models, migrations and templates are in no section."""
    names = [f"{prefix}{name}" for name in PREFIXED] + list(UNPREFIXED)
    text = f"# TYPE {prefix}http_requests_in_progress gauge\n{prefix}http_requests_in_progress 1\n" + "".join(
        f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}\n{name} 1\n" for name in names
    )
    assert own_names(text) == []


def test_table_has_all_families_of_web_prom() -> None:
    specs = [
        each
        for module in ("metrics", "database", "cache", "http_client")
        for each in vars(importlib.import_module(f"web_prom.{module}.conventions")).values()
        if isinstance(each, MetricSpec)
    ]
    shown = {
        family_names.MIGRATIONS_APPLIED,
        family_names.MIGRATIONS_UNAPPLIED,
        family_names.MODEL_CHANGES,
        family_names.TEMPLATE_RENDER,
    }
    others = {value for name, value in vars(family_names).items() if name.isupper()} - shown
    assert {spec.name for spec in specs} | others <= PREFIXED | UNPREFIXED
    assert {spec.name for spec in specs} >= PREFIXED
    assert not PREFIXED & UNPREFIXED


@pytest.mark.parametrize(
    "name", ["http_request_queue_seconds", "db_client_connection_max", "cache_operations_total"]
)
def test_own_metrics_have_the_family_because_of_which_a_service_has_a_namespace(name: str) -> None:
    text = f"{name} 900\nshop_{name} 4\nshop_http_requests_in_progress 1\n"
    assert own_names(text) == [name]


def test_own_metrics_have_families_whose_names_differ_only_by_total() -> None:
    text = (
        "# TYPE go_memstats_alloc_bytes gauge\ngo_memstats_alloc_bytes 8\n"
        "# TYPE go_memstats_alloc_bytes_total counter\ngo_memstats_alloc_bytes_total 12\n"
    )
    own = {family["name"]: family for family in valid(take_snapshot(text))["own"]}
    assert {name: (family["type"], family["series"][0]["value"]) for name, family in own.items()} == {
        "go_memstats_alloc_bytes": ("gauge", 8),
        "go_memstats_alloc_bytes_total": ("counter", 12),
    }


@pytest.mark.parametrize("prefix", ["", "shop_"])
@pytest.mark.parametrize(
    "name", ["websocket_connections", "cache_operations", "process_cpu_seconds", "http_requests"]
)
def test_own_gauges_are_no_counters_of_web_prom(name: str, prefix: str) -> None:
    text = f"# TYPE {prefix}{name} gauge\n{prefix}{name} 4\n{prefix}http_requests_in_progress 0\n"
    snapshot = valid(take_snapshot(text))
    assert [family["name"] for family in snapshot["own"]] == [f"{prefix}{name}"]
    assert (snapshot["websockets"], snapshot["caches"], snapshot["workers"]) == (None, [], [])


def test_own_metrics_have_requests_of_other_labels() -> None:
    """Another exporter than web-prom counts without a method and a route."""
    text = '# TYPE http_requests counter\nhttp_requests_total{code="200"} 4\n'
    assert own_names(text) == ["http_requests"]


def test_snapshot_reads_both_formats(registry: CollectorRegistry) -> None:
    """A counter has its name without _total in OpenMetrics."""
    own_of(registry)
    app = PrometheusMiddleware(application, registry=registry, namespace="shop")
    serve(app, "/a")
    for format_text in (generate_latest, generate_openmetrics):
        snapshot = valid(take_snapshot(format_text(registry)))
        (row,) = snapshot["requests"]["routes"]
        assert row["statuses"] == {"200": 1}
        assert sorted(family["name"].removesuffix("_total") for family in snapshot["own"]) == sorted(
            OWN_COUNTERS
        )
