"""Queries in the threads that frameworks use for synchronous code belong to their request."""

from __future__ import annotations

from typing import Any

import pytest
from a2wsgi import WSGIMiddleware
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from web_prom.asgi import PrometheusMiddleware


@pytest.fixture
def select(engine: Any) -> Any:
    """Return a function that executes a query."""

    def select() -> None:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    return select


def measured(registry: CollectorRegistry, *routes: Any) -> TestClient:
    """Return a client of a measured application."""
    app = Starlette(routes=list(routes))
    PrometheusMiddleware.install(app, registry=registry, database=True)
    return TestClient(app)


def queries(registry: CollectorRegistry, route: str, method: str = "GET") -> float:
    """Return the number of queries of a route."""
    labels = {"method": method, "route": route}
    return registry.get_sample_value("http_request_db_queries_total", labels) or 0.0


def test_view_in_a_thread_is_part_of_its_request(registry: CollectorRegistry, select: Any) -> None:
    def view(request: Any) -> PlainTextResponse:
        select()
        return PlainTextResponse("ok")

    measured(registry, Route("/items/{item}", view)).get("/items/1")
    assert queries(registry, "/items/{item}") == 1
    assert queries(registry, "_none", "_none") == 0


def test_streamed_body_is_part_of_its_request(registry: CollectorRegistry, select: Any) -> None:
    def body() -> Any:
        for _ in range(3):
            select()
            yield b"x"

    client = measured(registry, Route("/export", lambda request: StreamingResponse(body())))
    assert client.get("/export").text == "xxx"
    assert queries(registry, "/export") == 3


def test_background_task_has_route_none(registry: CollectorRegistry, select: Any) -> None:
    """It runs after the response, so its queries are not those of the request."""

    def view(request: Any) -> PlainTextResponse:
        return PlainTextResponse("ok", background=BackgroundTask(select))

    measured(registry, Route("/items", view)).get("/items")
    assert queries(registry, "/items") == 0
    assert queries(registry, "_none", "_none") == 1


def test_mounted_wsgi_application_is_part_of_the_request(registry: CollectorRegistry, select: Any) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        select()
        start_response("200 OK", [])
        return [b"ok"]

    client = measured(registry, Mount("/shop", WSGIMiddleware(application)))
    assert client.get("/shop/items").text == "ok"
    found = {
        sample.labels["route"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "http_request_db_queries_total"
    }
    assert found.pop("_none", 0) == 0
    assert list(found.values()) == [1]
