"""Litestar: routes and WebSockets."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Mount, Route

from tests.web_prom.asgi.framework_support import Case, connect, plain, request, route_of, view
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


@pytest.mark.parametrize("root_path", ["", "/root"])
@pytest.mark.parametrize("case", LITESTAR, ids=str)
def test_mounted_litestar_routes_have_the_path_of_the_mount(
    case: Case, root_path: str, measure: Measure, registry: CollectorRegistry
) -> None:
    path, method, status, route = case
    inner = litestar()
    mounts = [
        Mount("/first/{a}", app=inner),
        Mount("/second", routes=[Mount("/{b}", app=inner)]),
        Mount("/cors", app=CORSMiddleware(inner)),
    ]
    app = measure(Starlette(routes=[Route("/users/{user_id}", view), *mounts]))

    async def rooted(scope: Any, receive: Any, send: Any) -> None:
        scope["root_path"], scope["path"] = root_path, root_path + scope["path"]
        await app(scope, receive, send)

    assert route_of(rooted, registry, "/users/1") == (200, "/users/{user_id}")
    for prefix, mount in (("/first/1", "/first/{a}"), ("/second/2", "/second/{b}"), ("/cors", "/cors")):
        expected = route if route == "_unmatched" else mount + route
        assert route_of(rooted, registry, prefix + path, method) == (status, expected)


def test_mounted_litestar_is_excluded_by_the_path_of_the_mount(
    measure: Measure, registry: CollectorRegistry
) -> None:
    app = measure(Starlette(routes=[Mount("/a", app=litestar())]), exclude=["/a/*"])
    assert request(app, "/a/plain/path") == 200
    connect(app, "/a/talk/1")
    assert requests(registry) == {}
    assert samples(registry, "websocket_connections_total", "route") == {}


def test_mounted_litestar_websockets_have_the_path_of_the_mount(
    measure: Measure, registry: CollectorRegistry
) -> None:
    connect(measure(Starlette(routes=[Mount("/a", app=litestar())])), "/a/talk/1")
    assert samples(registry, "websocket_connections_total", "route", "code") == {
        ("/a/talk/{room}", "1000"): 1
    }


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/class/health", "/handler", "/router/health"])
@pytest.mark.parametrize("mount", ["", "/mount"])
def test_litestar_excluded_handlers_and_controllers_are_not_measured(
    mount: str, path: str, method: str, measure: Measure, registry: CollectorRegistry
) -> None:
    from litestar import Controller, Litestar, Router, get

    async def user() -> str:
        return "ok"

    async def health(self: Any) -> str:
        return "ok"

    body = {"path": "/class", "health": get("/health")(health), "__module__": __name__}
    excluded: Any = exclude(type("Health", (Controller,), body))
    routed: Any = exclude(type("Routed", (Controller,), {**body, "path": "/"}))
    handlers = [excluded, exclude(get("/handler")(user)), get("/user")(user)]
    app: Any = Litestar(
        [*handlers, Router("/router", route_handlers=[routed])], logging_config=None, openapi_config=None
    )
    measured = measure(Starlette(routes=[Mount(mount, app=app)]) if mount else app)
    assert request(measured, mount + path, method) == (200 if method == "GET" else 405)
    assert request(measured, f"{mount}/user") == 200
    assert requests(registry) == {("GET", f"{mount}/user", "200"): 1}
