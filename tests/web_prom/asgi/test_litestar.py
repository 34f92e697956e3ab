"""Litestar: routes and WebSockets."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom.asgi.framework_support import Case, connect, plain, request, route_of
from tests.web_prom.asgi.support import Measure
from tests.web_prom.support import exceptions, requests, samples
from web_prom import exclude


def litestar() -> Any:
    """Return an application with routers and a mount."""
    from litestar import Litestar, Router, asgi, get, websocket
    from litestar.exceptions import NotFoundException

    async def user() -> str:
        return "ok"

    async def missing() -> str:
        raise NotFoundException

    async def failing() -> str:
        raise ZeroDivisionError

    async def healthy() -> str:
        return "ok"

    async def talk(socket: Any) -> None:
        await socket.accept()
        await socket.close()

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await plain(scope, receive, send)

    from litestar import WebSocket
    from litestar.types import Receive, Scope, Send

    talk.__annotations__["socket"] = WebSocket
    mounted.__annotations__.update(scope=Scope, receive=Receive, send=Send)
    router = Router("/api/{tenant:str}", route_handlers=[get("/users/{user_id:int}")(user)])
    return Litestar(
        [
            router,
            get("/")(missing),
            get("/plain/path")(user),
            get("/error")(failing),
            get("/health")(exclude(healthy)),
            websocket("/talk/{room:str}")(talk),
            asgi("/mounted", is_mount=True, copy_scope=True)(mounted),
        ],
        logging_config=None,
        openapi_config=None,
    )


LITESTAR: list[Case] = [
    ("/", "GET", 404, "/"),
    ("/plain/path", "GET", 200, "/plain/path"),
    ("/plain/path/", "GET", 200, "/plain/path"),
    ("/plain/path", "POST", 405, "/plain/path"),
    ("/api/acme/users/1", "GET", 200, "/api/{tenant}/users/{user_id}"),
    ("/api/acme/users/1", "DELETE", 405, "/api/{tenant}/users/{user_id}"),
    ("/api/acme/users/x", "GET", 404, "_unmatched"),
    ("/error", "GET", 500, "/error"),
    ("/mounted/any/thing", "GET", 200, "/mounted/*"),
    ("/nothing", "GET", 404, "_unmatched"),
    ("/nothing", "POST", 404, "_unmatched"),
]


@pytest.mark.parametrize("case", LITESTAR, ids=str)
def test_litestar_routes_have_their_templates(
    case: Case, measure: Measure, registry: CollectorRegistry
) -> None:
    path, method, status, route = case
    app = measure(litestar())
    for _ in range(2):
        assert route_of(app, registry, path, method) == (status, route)
    if status == 500:
        assert exceptions(registry) == {(route, "ZeroDivisionError"): 2}


def test_litestar_excluded_view_is_not_measured(measure: Measure, registry: CollectorRegistry) -> None:
    assert request(measure(litestar()), "/health") == 200
    assert requests(registry) == {}


def test_litestar_websockets_have_their_routes(measure: Measure, registry: CollectorRegistry) -> None:
    connect(measure(litestar()), "/talk/1")
    assert samples(registry, "websocket_connections_total", "route", "code") == {("/talk/{room}", "1000"): 1}
