"""The sections of a snapshot, in all namings, from real scrapes."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    Summary,
    generate_latest,
)

from tests.web_prom.live.support import valid
from tests.web_prom.support import hello, serve
from web_prom import PrometheusMiddleware
from web_prom.live import TextFormatError, take_snapshot
from web_prom.live.families import Families
from web_prom.live.own_section import MAX_FAMILIES, MAX_SERIES
from web_prom.live.request_section import MAX_ROUTES
from web_prom.live.snapshot import reduced
from web_prom.live.text_samples import TextReader
from web_prom.wsgi import set_route

NAMINGS = pytest.mark.parametrize(
    "options",
    [
        {},
        {"namespace": "shop"},
        {"constant_labels": {"region": "eu"}},
        {"naming": "opentelemetry"},
        {"naming": "opentelemetry", "namespace": "shop"},
    ],
    ids=str,
)


REQUESTS = (
    "# TYPE http_request_duration_seconds histogram\n"
    'http_request_duration_seconds_bucket{method="GET",route="/",le="+Inf"} 7\n'
    'http_requests_total{method="GET",route="/",status="200"} 7\n'
)
POOL = 'db_client_connection_pool_name="p"'


def application(environ: Any, start_response: Any) -> list[bytes]:
    path = environ["PATH_INFO"]
    set_route(environ, path)
    if path == "/broken":
        raise ValueError("broken")
    start_response("404 Not Found" if path == "/lost" else "200 OK", [])
    return [b""]


def served(registry: CollectorRegistry, **options: Any) -> PrometheusMiddleware:
    """Return an application that served six requests of three routes."""
    app = PrometheusMiddleware(application, registry=registry, **options)
    for path in ("/a", "/a", "/a", "/lost", "/broken", "/broken"):
        with contextlib.suppress(ValueError):
            serve(app, path)
    return app


@NAMINGS
def test_requests_are_the_same_in_all_namings(registry: CollectorRegistry, options: dict[str, Any]) -> None:
    served(registry, **options)
    snapshot = valid(take_snapshot(registry))
    rows = {row["route"]: row for row in snapshot["requests"]["routes"]}
    assert {route: row["statuses"] for route, row in rows.items()} == {
        "/a": {"200": 3},
        "/lost": {"404": 1},
        "/broken": {"500": 2},
    }
    assert {row["method"] for row in rows.values()} == {"GET"}
    assert rows["/broken"]["exceptions"] == {"ValueError": 2}
    assert sum(rows["/a"]["counts"]) == 3
    assert len(rows["/a"]["counts"]) == len(snapshot["requests"]["buckets"])
    assert snapshot["requests"]["buckets"][-1] is None
    assert snapshot["requests"]["in_progress"] == 0
    assert snapshot["own"] == []
    assert reduced(snapshot)["statuses"] == {"2xx": 3, "4xx": 1, "5xx": 2}


def test_snapshot_of_nothing_is_valid() -> None:
    snapshot = valid(take_snapshot(""))
    assert (snapshot["requests"]["routes"], snapshot["workers"], snapshot["queue_time"]) == ([], [], None)
    assert [check["name"] for check in snapshot["checks"] if not check["ok"]] == ["requests"]


def test_snapshot_refuses_a_page_that_is_no_metrics() -> None:
    with pytest.raises(TextFormatError, match="doctype"):
        take_snapshot("<!doctype html>\n")


def test_own_families_have_their_type(registry: CollectorRegistry) -> None:
    Counter("orders", "Orders placed.", ["payment"], registry=registry).labels("card").inc(3)
    Gauge("carts", "Open carts.", registry=registry).set(2)
    Gauge("unknown_price", "", registry=registry).set(float("nan"))
    Histogram("size_bytes", "", buckets=(1, 5), registry=registry).observe(3)
    Summary("wait_seconds", "", registry=registry).observe(2)
    own = {family["name"]: family for family in valid(take_snapshot(registry))["own"]}
    assert {name: (family["type"], family["unit"]) for name, family in own.items()} == {
        "orders_total": ("counter", ""),
        "carts": ("gauge", ""),
        "unknown_price": ("gauge", ""),
        "size_bytes": ("histogram", "bytes"),
        "wait_seconds": ("summary", "seconds"),
    }
    assert own["orders_total"]["labels"] == ["payment"]
    assert own["orders_total"]["series"] == [{"labels": ["card"], "value": 3}]
    assert own["unknown_price"]["series"][0]["value"] is None
    assert own["size_bytes"]["series"] == [{"labels": [], "count": 1, "sum": 3, "counts": [0, 1, 0]}]
    assert own["wait_seconds"]["series"] == [{"labels": [], "count": 1, "sum": 2}]


def test_own_families_are_limited(registry: CollectorRegistry) -> None:
    for number in range(MAX_FAMILIES + 5):
        Gauge(f"family_{number}", "", registry=registry)
    many = Counter("aaa", "", ["n"], registry=registry)
    for number in range(MAX_SERIES + 7):
        many.labels(str(number)).inc(number)
    own = valid(take_snapshot(registry))["own"]
    assert len(own) == MAX_FAMILIES
    assert (len(own[0]["series"]), own[0]["left_out"]) == (MAX_SERIES, 7)
    assert own[0]["series"][0] == {"labels": [str(MAX_SERIES + 6)], "value": MAX_SERIES + 6}


def test_routes_are_limited_and_the_sum_is_right(registry: CollectorRegistry) -> None:
    app = PrometheusMiddleware(application, registry=registry)
    for number in range(MAX_ROUTES + 10):
        serve(app, f"/{number}")
    serve(app, "/7")
    requests = valid(take_snapshot(registry))["requests"]
    assert (len(requests["routes"]), requests["left_out"]) == (MAX_ROUTES, 11)
    assert requests["routes"][0]["route"] == "/7"
    assert requests["routes"][-1]["route"] == "_rest"
    assert sum(sum(row["counts"]) for row in requests["routes"]) == MAX_ROUTES + 11
    assert sum(row["statuses"]["200"] for row in requests["routes"]) == MAX_ROUTES + 11


def test_inside_sections_have_databases_pools_caches_and_calls() -> None:
    text = "\n".join(
        [
            "# TYPE shop_db_client_operation_duration_seconds histogram",
            *(
                f'shop_db_client_operation_duration_seconds_{name}{{db_system_name="sqlite",db_namespace="x",'
                f'db_operation_name="SELECT",error_type=""}} {value}'
                for name, value in (("count", 4), ("sum", 0.5))
            ),
            f'db_client_connection_count{{{POOL},db_client_connection_state="used"}} 3',
            f"db_client_connection_max{{{POOL}}} 5",
            'cache_operations_total{cache="c",operation="get",result="hit"} 7',
            "# TYPE http_client_request_duration_seconds histogram",
            'http_client_request_duration_seconds_count{http_request_method="GET",server_address="a"} 2',
            'http_client_request_duration_seconds_sum{http_request_method="GET",server_address="a"} 1',
            "",
        ]
    )
    snapshot = valid(take_snapshot(text))
    assert snapshot["databases"] == [
        {"system": "sqlite", "namespace": "x", "operation": "SELECT", "error": "", "count": 4, "seconds": 0.5}
    ]
    assert snapshot["pools"] == [
        {"pool": "p", "used": 3, "idle": None, "max": 5, "pending": None, "timeouts": None}
    ]
    assert snapshot["caches"][0]["results"] == {"hit": 7}
    assert [(call["address"], call["count"], call["seconds"]) for call in snapshot["calls"]] == [("a", 2, 1)]


def test_server_sections_have_workers_and_queues() -> None:
    text = "\n".join(
        [
            *(f'process_cpu_seconds_total{{worker="{worker}"}} {worker}' for worker in (0, 10, 2)),
            'http_server_backlog{listener="127.0.0.1:80"} 3',
            'http_server_backlog_limit{listener="127.0.0.1:80"} 128',
            "http_server_listen_overflows_total 2",
            "# TYPE http_request_queue_seconds histogram",
            *(f'http_request_queue_seconds_bucket{{le="{le}"}} 4' for le in ("0.1", "+Inf")),
            "http_request_queue_seconds_sum 0.2",
            "http_request_queue_seconds_count 4",
            "",
        ]
    )
    snapshot = valid(take_snapshot(text))
    assert [worker["worker"] for worker in snapshot["workers"]] == ["0", "2", "10"]
    assert snapshot["server"] == {
        "listeners": [{"listener": "127.0.0.1:80", "waiting": 3, "limit": 128}],
        "listen_overflows": 2,
    }
    assert snapshot["queue_time"] == {"buckets": [0.1, None], "counts": [4, 0], "seconds": 0.2}


def test_worker_has_its_requests_if_the_service_is_one_process(registry: CollectorRegistry) -> None:
    ProcessCollector(registry=registry)
    served(registry)
    (worker,) = valid(take_snapshot(registry))["workers"]
    assert worker["requests"] == 6


@pytest.mark.parametrize(
    ("text", "requests"),
    [
        ("process_start_time_seconds 5\n", None),
        ('process_start_time_seconds{worker="0"} 5\nweb_prom_workers 1\n' + REQUESTS, None),
        ("".join(f'process_start_time_seconds{{worker="{n}"}} 5\n' for n in range(2)) + REQUESTS, None),
        ("process_start_time_seconds 5\n" + REQUESTS, 7),
    ],
    ids=["not measured", "one of several workers that shared a slot", "two workers", "one process"],
)
def test_worker_has_no_requests_if_they_are_not_known(text: str, requests: float | None) -> None:
    """The files of one slot also have the requests of workers that ended."""
    workers = valid(take_snapshot(text))["workers"]
    assert {worker["requests"] for worker in workers} == {requests}


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
def test_values_that_json_cannot_have_never_reach_the_document(value: str) -> None:
    names = (
        'http_requests_total{method="GET",route="/",status="200"}',
        'http_request_duration_seconds_bucket{method="GET",route="/",le="+Inf"}',
        'http_request_duration_seconds_sum{method="GET",route="/"}',
        "http_requests_in_progress",
        "process_resident_memory_bytes",
        "own_total",
    )
    valid(take_snapshot("".join(f"{name} {value}\n" for name in names)))


def test_histograms_whose_buckets_go_down_count_nothing_below_zero() -> None:
    """Another worker wrote between two buckets."""
    text = '# TYPE a histogram\na_bucket{le="1"} 5\na_bucket{le="2"} 4\na_bucket{le="+Inf"} 6\na_sum 1\n'
    _bounds, (histogram,) = Families(TextReader().read(text.encode())).histograms("a")
    assert histogram.counts == [5, 0, 1]


def test_snapshot_states_its_own_cost(registry: CollectorRegistry) -> None:
    served(registry)
    cost = take_snapshot(registry)["cost"]
    assert cost["snapshot_seconds"] > 0
    assert cost["series"] >= len(generate_latest(registry).splitlines()) / 2


def test_checks_name_routes_that_are_not_known(registry: CollectorRegistry) -> None:
    app = PrometheusMiddleware(hello, registry=registry)
    for _ in range(20):
        serve(app, "/")
    checks = {check["name"]: check for check in take_snapshot(registry)["checks"]}
    assert checks["routes"]["ok"] is False
    assert "100%" in checks["routes"]["summary"]
    assert "set_route" in checks["routes"]["remedy"]


WEBSOCKETS = """\
# TYPE websocket_connections_in_progress gauge
websocket_connections_in_progress 2
# TYPE websocket_connections counter
websocket_connections_total{route="/chat/{room}",code="1000"} 5
websocket_connections_total{route="/chat/{room}",code="_rejected"} 3
# TYPE websocket_messages counter
websocket_messages_total{route="/chat/{room}",direction="received"} 40
websocket_messages_total{route="/chat/{room}",direction="sent"} 90
websocket_messages_total{route="/feed",direction="sent"} 7
# TYPE websocket_connection_duration_seconds histogram
websocket_connection_duration_seconds_bucket{route="/chat/{room}",le="1.0"} 3
websocket_connection_duration_seconds_bucket{route="/chat/{room}",le="+Inf"} 8
websocket_connection_duration_seconds_sum{route="/chat/{room}"} 120
websocket_connection_duration_seconds_count{route="/chat/{room}"} 8
"""


@pytest.mark.parametrize("prefix", ["", "shop_"])
def test_websockets_have_a_row_for_each_route(prefix: str) -> None:
    text = WEBSOCKETS.replace("websocket_", f"{prefix}websocket_")

    assert valid(take_snapshot(text))["websockets"] == {
        "buckets": [1, None],
        "in_progress": 2,
        "routes": [
            {
                "route": "/chat/{room}",
                "codes": {"1000": 5, "_rejected": 3},
                "received": 40,
                "sent": 90,
                "seconds": 120,
                "counts": [3, 5],
            },
            {"route": "/feed", "codes": {}, "received": 0, "sent": 7, "seconds": 0, "counts": [0, 0]},
        ],
        "left_out": 0,
    }


def test_websockets_are_null_without_a_family_of_them() -> None:
    assert valid(take_snapshot(REQUESTS))["websockets"] is None


def test_total_of_a_counter_has_the_series_that_are_left_out(registry: CollectorRegistry) -> None:
    counter = Counter("orders", "", ["item"], registry=registry)
    for item in range(MAX_SERIES + 5):
        counter.labels(str(item)).inc(2)
    Gauge("carts", "", registry=registry).set(1)

    own = {family["name"]: family for family in valid(take_snapshot(registry))["own"]}

    assert own["orders_total"]["total"] == 2 * (MAX_SERIES + 5)
    assert own["carts"]["total"] is None


@pytest.mark.parametrize("value", ["1e308", "1.7976931348623157e308", "NaN", "+Inf"])
def test_values_whose_sum_is_not_finite_are_in_a_snapshot(value: str) -> None:
    text = (
        "# TYPE http_request_duration_seconds histogram\n"
        + "".join(
            f'http_request_duration_seconds_{series}method="{method}",route="/"}} {value}\n'
            for method in ("GET", "POST")
            for series in ('bucket{le="0.1",', 'bucket{le="+Inf",', "count{", "sum{")
        )
        + "".join(
            f'http_requests_total{{method="{method}",route="/",status="200"}} {value}\n'
            for method in ("GET", "POST")
        )
        + f'# TYPE a gauge\na{{b="1"}} {value}\na{{b="2"}} {value}\nb -1e308\n'
        + f'process_resident_memory_bytes{{worker="0"}} {value}\n'
        + f'process_resident_memory_bytes{{worker="1"}} {value}\n'
    )
    snapshot = valid(take_snapshot(text))
    assert len(snapshot["requests"]["routes"]) == 2
    assert json.dumps(reduced(snapshot), allow_nan=False)
