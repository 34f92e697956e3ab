"""Starlette: routes, exceptions, clients that disconnect, mounted scrapes and WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute

from tests.web_prom.asgi.asgi_server import DISCONNECT, Server, scope_of
from tests.web_prom.asgi.framework_support import Case, connect, missing, plain, request, route_of, talk, view
from tests.web_prom.asgi.support import Measure
from tests.web_prom.support import errors, exceptions, in_progress, requests, samples
from web_prom import exclude, make_asgi_app
from web_prom.asgi import PrometheusMiddleware, set_route


async def other(request: Any) -> Any:
    """Answer. Only one route has this view."""
    return PlainTextResponse("ok")


async def raising(request: Any) -> Any:
    """Fail."""
    raise ZeroDivisionError


@exclude
async def health(request: Any) -> Any:
    """Answer; excluded from the metrics."""
    return PlainTextResponse("ok")


class Endpoint(HTTPEndpoint):  # type: ignore[misc]
    """A class-based view."""

    async def get(self, request: Any) -> Any:
        """Answer."""
        return PlainTextResponse("ok")


class Copying:
    """A middleware that passes a copy of the scope on."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection."""
        await self.app(dict(scope), receive, send)


def wrapped_in_middleware() -> Any:
    """Return an application whose routes are hidden by a middleware."""
    inner = Starlette(routes=[Route("/hidden/{a}", other)])

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)

    return middleware


def starlette() -> Any:
    """Return an application with routes of all kinds."""
    same = Router([Route("/same/{a}", other)])
    deeper = [Route("/end/{x}", view), Route("/health", health)]
    return Starlette(
        routes=[
            Route("/", view),
            Route("/users/{user_id:int}", view, methods=["GET"]),
            Route("/files/{path:path}", Endpoint),
            Route("/missing/{name}", missing),
            Route("/error/{name}", raising),
            Route("/health", health),
            Route("/slash/", view),
            Host("api.testserver", Router([Route("/orders/{order}", view)])),
            Mount(
                "/shops/{shop}",
                routes=[
                    Route("/", view),
                    Route("/items/{item}", view, methods=["GET"]),
                    Route("/orders/{one}", view, methods=["GET"]),
                    Route("/orders/{other}", view, methods=["POST"]),
                    Route("/alone/{item}", other, methods=["GET"]),
                    Mount("/deeper", app=Starlette(routes=deeper)),
                ],
            ),
            Mount("/first", app=same),
            Mount("/second/{b}", app=same),
            Mount("/plain", app=plain),
            Mount("/wrapped", app=wrapped_in_middleware()),
            Mount("/cors/{c}", app=CORSMiddleware(GZipMiddleware(Starlette(routes=deeper)))),
            Mount("/copied", app=Copying(Starlette(routes=deeper))),
            Mount("/twice", app=CORSMiddleware(Router([Mount("/m", app=GZipMiddleware(same))]))),
        ]
    )


STARLETTE: list[Case] = [
    ("/", "GET", 200, "/"),
    ("/users/1", "GET", 200, "/users/{user_id:int}"),
    ("/users/1", "HEAD", 200, "/users/{user_id:int}"),
    ("/users/1", "POST", 405, "/users/{user_id:int}"),
    ("/users/x", "GET", 404, "_unmatched"),
    ("/users/1/", "GET", 307, "/users/{user_id:int}"),
    ("/slash", "GET", 307, "/slash/"),
    ("/files/a/b/c", "GET", 200, "/files/{path:path}"),
    ("/files/a", "DELETE", 405, "/files/{path:path}"),
    ("/missing/x", "GET", 404, "/missing/{name}"),
    ("/error/x", "GET", 500, "/error/{name}"),
    ("/nothing", "GET", 404, "_unmatched"),
    ("/shops/acme/", "GET", 200, "/shops/{shop}/"),
    ("/shops/acme/items/1", "GET", 200, "/shops/{shop}/items/{item}"),
    ("/shops/acme/items/1", "POST", 405, "/shops/{shop}/items/{item}"),
    ("/shops/acme/items/1/", "GET", 307, "/shops/{shop}/items/{item}"),
    ("/shops/acme/alone/1", "GET", 200, "/shops/{shop}/alone/{item}"),
    ("/shops/acme/alone/1", "PATCH", 405, "/shops/{shop}/alone/{item}"),
    ("/shops/acme/orders/1", "POST", 200, "/shops/{shop}/orders/{other}"),
    ("/shops/acme/nothing", "GET", 404, "_unmatched"),
    ("/shops/acme/deeper/end/1", "GET", 200, "/shops/{shop}/deeper/end/{x}"),
    ("/shops/acme/deeper/nothing", "GET", 404, "_unmatched"),
    ("/first/same/1", "GET", 200, "/first/same/{a}"),
    ("/second/2/same/1", "GET", 200, "/second/{b}/same/{a}"),
    ("/plain/any/thing", "GET", 200, "/plain/{path:path}"),
    ("/wrapped/hidden/1", "GET", 200, "/wrapped/{path:path}"),
    ("/cors/1/end/1", "GET", 200, "/cors/{c}/end/{x}"),
    ("/cors/1/end/1", "POST", 405, "/cors/{c}/end/{x}"),
    ("/cors/1/end/1/", "GET", 307, "/cors/{c}/end/{x}"),
    ("/cors/1/nothing", "GET", 404, "_unmatched"),
    ("/cors/1/end/1", "OPTIONS", 405, "/cors/{c}/end/{x}"),
    ("/copied/end/1", "GET", 200, "/copied/end/{x}"),
    ("/copied/end/1/", "GET", 307, "/copied/end/{x}"),
    ("/copied/nothing", "GET", 404, "_unmatched"),
    ("/twice/m/same/1", "GET", 200, "/twice/m/same/{a}"),
]


@pytest.mark.parametrize("case", STARLETTE, ids=str)
@pytest.mark.parametrize("root_path", ["", "/root"])
def test_starlette_routes_have_their_templates(
    case: Case,
    root_path: str,
    measure: Measure,
    registry: CollectorRegistry,
) -> None:
    path, method, status, route = case
    app = measure(starlette())

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        scope["root_path"] = root_path
        scope["path"] = root_path + scope["path"]
        await app(scope, receive, send)

    for _ in range(2):  # without and with the cache
        assert route_of(mounted, registry, path, method) == (status, route)


def test_starlette_host_is_not_in_the_route(measure: Measure, registry: CollectorRegistry) -> None:
    app = measure(starlette())
    host = {"host": "api.testserver"}
    assert route_of(app, registry, "/orders/1", headers=host) == (200, "/orders/{order}")
    assert route_of(app, registry, "/nothing", headers=host) == (404, "_unmatched")
    for number in range(5):
        host = {"host": f"{number}.example"}
        assert route_of(app, registry, "/users/1", headers=host) == (200, "/users/{user_id:int}")


@pytest.mark.parametrize("path", ["/health", "/shops/acme/deeper/health", "/cors/1/health", "/copied/health"])
def test_starlette_excluded_view_is_not_measured(
    path: str, measure: Measure, registry: CollectorRegistry
) -> None:
    assert request(measure(starlette()), path) == 200
    assert requests(registry) == {}
    assert in_progress(registry) == 0


@pytest.mark.parametrize("mounted", [False, True])
def test_starlette_excluded_method_of_an_endpoint_excludes_its_http_method(
    mounted: bool, measure: Measure, registry: CollectorRegistry
) -> None:
    class Item(HTTPEndpoint):  # type: ignore[misc]
        @exclude
        async def get(self, request: Any) -> Any:
            return PlainTextResponse("read")

        async def post(self, request: Any) -> Any:
            return PlainTextResponse("written")

    routes = [Route("/item", Item)]
    app = measure(Starlette(routes=[Mount("/in", routes=routes)] if mounted else routes))
    path = "/in/item" if mounted else "/item"
    assert [request(app, path, method) for method in ("GET", "HEAD", "POST", "PUT")] == [200, 200, 200, 405]
    assert requests(registry) == {("POST", path, "200"): 1, ("PUT", path, "405"): 1}


def test_fault_10_starlette_unknown_paths_share_one_series(
    measure: Measure, registry: CollectorRegistry
) -> None:
    app = measure(starlette())
    for number in range(20):
        for path in (f"/{number}", f"/shops/{number}/{number}", f"/wp/{number}/"):
            request(app, path)
    assert requests(registry) == {("GET", "_unmatched", "404"): 60}


def test_starlette_routes_that_are_added_later_are_found(
    measure: Measure, registry: CollectorRegistry
) -> None:
    app = Starlette(routes=[Mount("/a", routes=[Route("/b", view)])])
    wrapped = measure(app)
    assert route_of(wrapped, registry, "/a/b") == (200, "/a/b")
    app.router.routes.append(Mount("/c", routes=[Route("/{d}", view)]))
    assert route_of(wrapped, registry, "/c/x") == (200, "/c/{d}")
    assert route_of(wrapped, registry, "/a/b") == (200, "/a/b")


def test_fault_13_starlette_405_has_its_route(measure: Measure, registry: CollectorRegistry) -> None:
    request(measure(starlette()), "/users/1", "POST")
    assert requests(registry) == {("POST", "/users/{user_id:int}", "405"): 1}


@pytest.mark.parametrize("where", ["around", "inside"])
@pytest.mark.parametrize("debug", [False, True])
def test_starlette_exception_is_counted_once(where: str, debug: bool, registry: CollectorRegistry) -> None:
    """ServerErrorMiddleware answers and raises the exception again, inside or outside of the middleware."""
    if where == "around":
        app = Starlette(routes=[Route("/e", raising)], debug=debug)
        app.add_middleware(PrometheusMiddleware, registry=registry)
    else:
        app = PrometheusMiddleware(Starlette(routes=[Route("/e", raising)], debug=debug), registry=registry)
    for _ in range(2):
        assert request(app, "/e") == 500
    assert requests(registry) == {("GET", "/e", "500"): 2}
    assert exceptions(registry) == {("/e", "ZeroDivisionError"): 2}


@pytest.mark.parametrize(("status", "counted"), [(503, 1), (404, 0)])
def test_starlette_handled_exception_is_counted_if_the_status_is_a_server_error(
    status: int, counted: int, measure: Measure, registry: CollectorRegistry
) -> None:
    async def handler(request: Any, error: Exception) -> Any:
        return PlainTextResponse("sorry", status)

    handlers = {ZeroDivisionError: handler}
    assert (
        request(measure(Starlette(routes=[Route("/e", raising)], exception_handlers=handlers)), "/e")
        == status
    )
    assert sum(exceptions(registry).values()) == counted
    assert exceptions(registry) in ({}, {("/e", "ZeroDivisionError"): 1})


def test_starlette_background_tasks_are_not_included_in_the_request(
    measure: Measure, registry: CollectorRegistry
) -> None:
    seen: list[Any] = []

    def background() -> None:
        seen.append((in_progress(registry), requests(registry)))
        raise ValueError

    async def answer(request: Any) -> Any:
        return PlainTextResponse("ok", background=BackgroundTask(background))

    assert request(measure(Starlette(routes=[Route("/b", answer)])), "/b") == 200
    assert seen == [(0, {("GET", "/b", "200"): 1})]
    assert exceptions(registry) == {}


async def dispatch(request: Any, call_next: Any) -> Any:
    """Call the next application in another task, as Starlette's BaseHTTPMiddleware does."""
    return await call_next(request)


@pytest.mark.parametrize("inside", [False, True])
def test_starlette_base_http_middleware_does_not_affect_the_count(
    inside: bool, registry: CollectorRegistry
) -> None:
    ours = Middleware(PrometheusMiddleware, registry=registry)
    theirs = Middleware(BaseHTTPMiddleware, dispatch=dispatch)
    routes = [Route("/users/{id}", view), Route("/e/{id}", raising)]
    app = Starlette(routes=routes, middleware=[ours, theirs] if inside else [theirs, ours])
    assert route_of(app, registry, "/users/1") == (200, "/users/{id}")
    assert route_of(app, registry, "/e/1") == (500, "/e/{id}")
    assert exceptions(registry) == {("/e/{id}", "ZeroDivisionError"): 1}


def test_starlette_exception_during_a_stream_keeps_the_sent_status(
    measure: Measure, registry: CollectorRegistry
) -> None:
    async def stream(request: Any) -> Any:
        async def body() -> Any:
            yield b"x"
            raise ZeroDivisionError

        return StreamingResponse(body())

    assert request(measure(Starlette(routes=[Route("/s", stream)])), "/s") == 200
    assert requests(registry) == {("GET", "/s", "200"): 1}
    ((route, error),) = exceptions(registry)
    assert route == "/s"
    assert error in ("ZeroDivisionError", "ExceptionGroup")


@pytest.mark.parametrize("spec_version", ["2.1", "2.4"])
def test_fault_02_starlette_disconnect_during_a_stream_keeps_the_sent_status(
    spec_version: str, measure: Measure, registry: CollectorRegistry
) -> None:
    """Starlette detects it by receive, or by send, which raises."""

    async def stream(request: Any) -> Any:
        async def body() -> Any:
            while True:
                await asyncio.sleep(0)
                yield b"x"

        return StreamingResponse(body())

    sent: list[Any] = []

    def fail(message: Any) -> None:
        sent.append(message)
        if spec_version == "2.4" and len(sent) == 5:
            raise OSError("disconnected")

    class Leaving(Server):
        async def receive(self) -> Any:
            while len(sent) < 5 or spec_version == "2.4":
                await asyncio.sleep(0)
            return DISCONNECT

    server = Leaving([], fail)
    app = measure(Starlette(routes=[Route("/s", stream)]))

    scope = scope_of("/s", asgi={"version": "3.0", "spec_version": spec_version})
    with contextlib.suppress(Exception):  # or an exception group
        asyncio.run(server.serve(app, scope))
    assert requests(registry) == {("GET", "/s", "200"): 1}
    assert exceptions(registry) == {}


def test_starlette_disconnect_during_the_request_body_is_a_499(
    measure: Measure, registry: CollectorRegistry
) -> None:
    async def upload(request: Any) -> Any:
        await request.body()

    server = Server([{"type": "http.request", "body": b"x", "more_body": True}, DISCONNECT])
    app = measure(Starlette(routes=[Route("/u", upload, methods=["POST"])]))

    with pytest.raises(ClientDisconnect):
        asyncio.run(server.serve(app, scope_of("/u", "POST")))
    assert requests(registry) == {("POST", "/u", "499"): 1}
    assert exceptions(registry) == {}


def test_starlette_mounted_scrape_is_answered(measure: Measure, registry: CollectorRegistry) -> None:
    app = measure(Starlette(routes=[Mount("/numbers", app=make_asgi_app(registry))]))
    assert request(app, "/numbers") in (200, 307)
    assert request(app, "/numbers/") == 200
    assert requests(registry) == {}


def test_starlette_websockets_have_their_routes(measure: Measure, registry: CollectorRegistry) -> None:
    async def talk(websocket: Any) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.close(4000 if websocket.path_params["room"] == "odd" else 1000)

    async def refuse(websocket: Any) -> None:
        await websocket.close()

    async def broken(websocket: Any) -> None:
        raise ZeroDivisionError

    routes = [
        Mount("/chat/{house}", routes=[WebSocketRoute("/{room}", talk)]),
        WebSocketRoute("/refused", refuse),
        WebSocketRoute("/broken/{room}", broken),
    ]
    app = measure(Starlette(routes=routes))
    for path in ("/chat/a/even", "/chat/a/odd", "/refused", "/nowhere"):
        connect(app, path, {"type": "websocket.receive", "text": "x"})
    with pytest.raises(ZeroDivisionError):
        connect(app, "/broken/1")
    assert samples(registry, "websocket_connections_total", "route", "code") == {
        ("/chat/{house}/{room}", "1000"): 1,
        ("/chat/{house}/{room}", "_OTHER"): 1,
        ("/refused", "_rejected"): 1,
        ("_unmatched", "_rejected"): 1,
        ("/broken/{room}", "1011"): 1,
    }
    assert registry.get_sample_value("websocket_connections_in_progress") == 0
    assert errors(registry) == {}


def test_mounted_application_that_is_measured_has_complete_routes(
    measure: Measure, registry: CollectorRegistry
) -> None:
    """Only the mounted application is measured, its mount is in an application that is not."""
    inner = Starlette(routes=[Route("/users/{a}", other), Route("/health", health)])
    inner.router.routes.append(WebSocketRoute("/talk/{room}", talk))
    app = Starlette(routes=[Mount("/v1", app=measure(inner))])
    assert route_of(app, registry, "/v1/users/1") == (200, "/v1/users/{a}")
    connect(app, "/v1/talk/1")
    assert samples(registry, "websocket_connections_total", "route") == {("/v1/talk/{room}",): 1}
    before = requests(registry)
    assert request(app, "/v1/health") == 200
    assert requests(registry) == before


@pytest.mark.parametrize("copied", [False, True])
def test_excluded_view_is_not_measured_if_its_route_was_set(
    copied: bool, measure: Measure, registry: CollectorRegistry
) -> None:
    @exclude
    async def whisper(websocket: Any) -> None:
        await talk(websocket)

    app = Starlette(
        routes=[
            *(Route("/health", health), Route("/users/{a}", other), Route("/bug/{a}", raising)),
            *(WebSocketRoute("/talk/{room}", talk), WebSocketRoute("/whisper/{room}", whisper)),
        ]
    )
    inner = measure(app) if copied else app

    async def setting(scope: Any, receive: Any, send: Any) -> None:
        set_route(scope, "/set")
        await inner(dict(scope) if copied else scope, receive, send)

    measured = measure(setting)
    for path, status in (("/health", 200), ("/users/1", 200), ("/bug/1", 500)):
        assert request(measured, path) == status
    connect(measured, "/talk/1")
    connect(measured, "/whisper/1")
    assert requests(registry) == {("GET", "/set", "200"): 1, ("GET", "/set", "500"): 1}
    assert samples(registry, "websocket_connections_total", "route") == {("/set",): 1}
