"""The database recorder: queries by operation, by route and outside of requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from web_prom import PrometheusMiddleware
from web_prom.database.activation import activate
from web_prom.database.recorder import DatabaseRecorder

Serve = Callable[[Callable[[DatabaseRecorder], object]], None]


@pytest.fixture
def serve(registry: CollectorRegistry) -> Serve:
    """Return a function that serves one request, in which it calls a function with the recorder."""
    work: list[Callable[[DatabaseRecorder], object]] = []

    def application(environ: Any, start_response: Any) -> list[bytes]:
        work.pop()(activate(middleware.recorder))
        start_response("200 OK", [])
        return [b"x"]

    middleware = PrometheusMiddleware(application, registry=registry, database=True)

    def serve(function: Callable[[DatabaseRecorder], object]) -> None:
        work.append(function)
        body: Any = middleware({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *_: lambda _: None)
        list(body)
        body.close()

    return serve


def by_route(registry: CollectorRegistry, name: str, method: str, route: str) -> float | None:
    """Return a counter of queries by route."""
    labels = {"method": method, "route": route}
    return registry.get_sample_value(f"http_request_db_{name}_total", labels)


def test_query_is_counted_by_operation_and_by_route(serve: Serve, registry: CollectorRegistry) -> None:
    serve(lambda recorder: recorder.observe("sqlite", "default", "SELECT 1", 0.25))
    labels = {
        "db_system_name": "sqlite",
        "db_namespace": "default",
        "db_operation_name": "SELECT",
        "error_type": "",
    }
    assert registry.get_sample_value("db_client_operation_duration_seconds_count", labels) == 1
    assert registry.get_sample_value("db_client_operation_duration_seconds_sum", labels) == 0.25
    assert by_route(registry, "queries", "GET", "_unmatched") == 1
    assert by_route(registry, "seconds", "GET", "_unmatched") == 0.25
    assert by_route(registry, "repeated_queries", "GET", "_unmatched") == 0


def test_repeated_queries_are_executions_beyond_the_second(serve: Serve, registry: CollectorRegistry) -> None:
    def work(recorder: DatabaseRecorder) -> None:
        for sql in ("SELECT 1", "SELECT 1", "SELECT 2", "SELECT 1", "SELECT 1"):
            recorder.observe("sqlite", "default", sql, 0.0)

    serve(work)
    serve(work)
    assert by_route(registry, "repeated_queries", "GET", "_unmatched") == 4


def test_query_outside_of_requests_has_route_none(serve: Serve, registry: CollectorRegistry) -> None:
    found: list[DatabaseRecorder] = []
    serve(found.append)
    found[0].observe("sqlite", "default", "DELETE FROM cart", 0.5)
    assert by_route(registry, "queries", "_none", "_none") == 1
    assert by_route(registry, "seconds", "_none", "_none") == 0.5
