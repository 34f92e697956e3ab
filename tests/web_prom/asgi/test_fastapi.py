"""FastAPI: routes, mounted scrapes and WebSockets."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.routing import Route

from tests.web_prom.asgi.framework_support import (
    Case,
    connect,
    failing,
    healthy,
    request,
    route_of,
    talk,
    view,
)
from tests.web_prom.asgi.support import Measure
from tests.web_prom.support import exceptions, in_progress, requests, samples
from web_prom import make_asgi_app
from web_prom.asgi import PrometheusMiddleware


def item(item_id: int) -> dict[str, int]:
    """Answer."""
    return {"item": item_id}


def shared() -> dict[str, str]:
    """Answer. Several routes share this view."""
    return {}


def fastapi() -> Any:
    """Return an application with nested routers."""
    from starlette.websockets import WebSocket

    talk.__annotations__["websocket"] = WebSocket
    inner, router = APIRouter(prefix="/inner"), APIRouter(prefix="/v1")
    inner.get("/deep/{item_id:int}")(item)
    inner.get("/shared")(shared)
    inner.websocket("/talk/{room}")(talk)
    inner.add_route("/plain/{x}", view)
    router.get("/items/{item_id}")(item)
    router.get("")(shared)
    router.get("/error")(failing)
    router.include_router(inner, prefix="/{tenant}")
    mounted = FastAPI()
    mounted.include_router(inner, prefix="/included")
    mounted.get("/direct/{item_id}")(item)
    app = FastAPI()
    app.get("/direct/{item_id}")(item)
    app.get("/health")(healthy)
    app.include_router(router, prefix="/api")
    app.include_router(router, prefix="/again")
    app.mount("/sub/{customer}", mounted)
    return app


FASTAPI: list[Case] = [
    ("/direct/1", "GET", 200, "/direct/{item_id}"),
    ("/direct/x", "GET", 422, "/direct/{item_id}"),
    ("/direct/1", "POST", 405, "/direct/{item_id}"),
    ("/direct/1/", "GET", 307, "/direct/{item_id}"),
    ("/api/v1", "GET", 200, "/api/v1"),
    ("/api/v1/items/1", "GET", 200, "/api/v1/items/{item_id}"),
    ("/again/v1/items/1", "GET", 200, "/again/v1/items/{item_id}"),
    ("/api/v1/items/1", "DELETE", 405, "/api/v1/items/{item_id}"),
    ("/api/v1/items/1/", "GET", 307, "/api/v1/items/{item_id}"),
    ("/api/v1/error", "GET", 500, "/api/v1/error"),
    ("/api/v1/acme/inner/deep/3", "GET", 200, "/api/v1/{tenant}/inner/deep/{item_id:int}"),
    ("/again/v1/acme/inner/shared", "GET", 200, "/again/v1/{tenant}/inner/shared"),
    ("/api/v1/acme/inner/nothing", "GET", 404, "_unmatched"),
    ("/sub/acme/direct/1", "GET", 200, "/sub/{customer}/direct/{item_id}"),
    ("/sub/acme/direct/1", "POST", 405, "/sub/{customer}/direct/{item_id}"),
    ("/sub/acme/included/inner/deep/1", "GET", 200, "/sub/{customer}/included/inner/deep/{item_id:int}"),
    ("/sub/acme/included/inner/shared", "GET", 200, "/sub/{customer}/included/inner/shared"),
    ("/sub/acme/nothing", "GET", 404, "_unmatched"),
    ("/docs", "GET", 200, "/docs"),
    ("/openapi.json", "GET", 200, "/openapi.json"),
    ("/nothing", "GET", 404, "_unmatched"),
]


@pytest.mark.parametrize("case", FASTAPI, ids=str)
@pytest.mark.parametrize("added", [False, True])
def test_fastapi_routes_have_their_templates(case: Case, added: bool, registry: CollectorRegistry) -> None:
    path, method, status, route = case
    app = fastapi()
    if added:
        app.add_middleware(PrometheusMiddleware, registry=registry)
    else:
        app = PrometheusMiddleware(app, registry=registry)
    for _ in range(2):
        assert route_of(app, registry, path, method) == (status, route)
    if status == 500:
        assert exceptions(registry) == {(route, "ZeroDivisionError"): 2}


def test_fastapi_router_with_a_starlette_route_has_its_prefix(
    measure: Measure, registry: CollectorRegistry
) -> None:
    """Until FastAPI 0.137 its path lacked the prefix of the outer router."""
    app = measure(fastapi())
    old, new = "/api/acme/plain/1", "/api/v1/acme/plain/1"
    found = {route_of(app, registry, path) for path in (old, new)} - {(404, "_unmatched")}
    assert found in ({(200, "/api/{tenant}/plain/{x}")}, {(200, "/api/v1/{tenant}/plain/{x}")})


def test_fastapi_root_path_is_not_in_the_route(measure: Measure, registry: CollectorRegistry) -> None:
    router = APIRouter()
    router.get("/items/{item_id}")(item)
    app = FastAPI()
    app.include_router(router, prefix="/api")
    wrapped = measure(app)

    async def behind_a_proxy(scope: Any, receive: Any, send: Any) -> None:
        await wrapped({**scope, "root_path": "/behind/proxy"}, receive, send)

    assert route_of(behind_a_proxy, registry, "/api/items/1") == (200, "/api/items/{item_id}")
    assert route_of(behind_a_proxy, registry, "/behind/proxy/api/items/1") == (200, "/api/items/{item_id}")


def test_fastapi_excluded_view_is_not_measured(measure: Measure, registry: CollectorRegistry) -> None:
    assert request(measure(fastapi()), "/health") == 200
    assert requests(registry) == {}


def test_fastapi_websockets_have_their_routes(measure: Measure, registry: CollectorRegistry) -> None:
    app = measure(fastapi())
    for path in ("/api/v1/acme/inner/talk/1", "/sub/a/included/inner/talk/1"):
        connect(app, path)
    assert samples(registry, "websocket_connections_total", "route", "code") == {
        ("/api/v1/{tenant}/inner/talk/{room}", "1000"): 1,
        ("/sub/{customer}/included/inner/talk/{room}", "1000"): 1,
    }


def test_fastapi_mounted_scrape_is_answered(registry: CollectorRegistry) -> None:
    app = FastAPI()
    app.add_middleware(PrometheusMiddleware, registry=registry, path="")
    app.mount("/metrics", make_asgi_app(registry))
    assert request(app, "/metrics/") == 200
    assert request(app, "/metrics") == 307
    assert requests(registry) == {}


@pytest.mark.parametrize("how", ["Route", "add_route", "append"])
@pytest.mark.parametrize("kind", [Starlette, FastAPI])
def test_fault_53_scrape_on_a_route_is_answered_without_a_redirect(
    kind: Any, how: str, registry: CollectorRegistry
) -> None:
    route = Route("/metrics", make_asgi_app(registry))
    app = kind(routes=[route] if how == "Route" else [])
    if how == "add_route":
        app.add_route("/metrics", make_asgi_app(registry))
    elif how == "append":
        app.router.routes.append(route)
    PrometheusMiddleware.install(app, registry=registry, path="")
    for method, status in (("GET", 200), ("HEAD", 200), ("OPTIONS", 200), ("POST", 405)):
        assert request(app, "/metrics", method) == status
    assert requests(registry) == {}
    assert in_progress(registry) == 0
