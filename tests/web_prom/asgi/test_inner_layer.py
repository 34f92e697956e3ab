"""Middlewares that copy the scope, or run the application in another task."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, Router, WebSocketRoute

from tests.web_prom.asgi.asgi_server import DISCONNECT, Server, scope_of, websocket_of
from tests.web_prom.asgi.framework_support import connect, request, talk, view
from tests.web_prom.support import errors, exceptions, in_progress, requests, samples
from web_prom import exclude
from web_prom.asgi import PrometheusMiddleware
from web_prom.asgi.inner_layer import InnerLayer

Wrap = Callable[[Any], Any]


class Copying:
    """A middleware that passes a copy of the scope on."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection."""
        await self.app(scope if scope["type"] == "lifespan" else dict(scope), receive, send)


def copying(app: Any) -> Any:
    """Return the same middleware as a function."""

    async def copied(scope: Any, receive: Any, send: Any) -> None:
        await Copying(app)(scope, receive, send)

    return copied


class Passing(BaseHTTPMiddleware):  # type: ignore[misc]
    """A middleware that runs the application in another task."""

    async def dispatch(self, request: Any, call_next: Any) -> Any:
        """Pass the request on."""
        return await call_next(request)


@exclude
async def hidden(request: Any) -> Any:
    """Answer; excluded from the metrics."""
    return PlainTextResponse("ok")


async def cancelled(request: Any) -> Any:
    """Answer nothing: the server cancels the request."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.Event().wait()


async def refuse(websocket: Any) -> None:
    """Refuse the handshake."""
    await websocket.close()


async def leave(websocket: Any) -> None:
    """Wait for the client, which disconnects before the answer."""
    await websocket.receive()
    await websocket.receive()


def shop(*middleware: Any) -> Any:
    """Return an application with middlewares."""
    return Starlette(
        routes=[
            Route("/users/{name}", view),
            Route("/hidden", hidden),
            Route("/cancelled/{name}", cancelled),
            WebSocketRoute("/talk/{room}", talk),
            WebSocketRoute("/refused/{room}", refuse),
            WebSocketRoute("/left/{room}", leave),
        ],
        middleware=[Middleware(each) for each in middleware],
    )


def installed(app: Any, registry: CollectorRegistry) -> Any:
    """Return the application, measured in place."""
    PrometheusMiddleware.install(app, registry=registry)
    return app


def around(app: Any, registry: CollectorRegistry) -> Any:
    """Return a measured application around the application."""
    return PrometheusMiddleware(app, registry=registry)


FORMS: dict[str, Callable[[CollectorRegistry], Any]] = {
    "installed": lambda registry: installed(shop(Copying), registry),
    "installed, function": lambda registry: installed(shop(copying), registry),
    "installed, several": lambda registry: installed(shop(CORSMiddleware, Passing, Copying), registry),
    "around": lambda registry: around(Copying(shop()), registry),
    "around the application": lambda registry: around(shop(Copying), registry),
    "one registry twice": lambda registry: around(Copying(installed(shop(), registry)), registry),
    "another registry inside": lambda registry: around(
        Copying(installed(shop(), CollectorRegistry())), registry
    ),
    "several registries": lambda registry: around(
        Copying(around(copying(installed(shop(Copying), CollectorRegistry())), CollectorRegistry())), registry
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_route_is_found_behind_a_copy_of_the_scope(form: str, registry: CollectorRegistry) -> None:
    app = FORMS[form](registry)
    for _ in range(2):
        assert request(app, "/users/1") == 200
        assert request(app, "/users/1/") == 307
        assert request(app, "/users/1", "POST") == 405
        assert request(app, "/nothing") == 404
        assert request(app, "/hidden") == 200
        connect(app, "/talk/1")
        connect(app, "/refused/1")
        connect(app, "/left/1", {"type": "websocket.disconnect", "code": 1001})
    assert requests(registry) == {
        ("GET", "/users/{name}", "200"): 2,
        ("GET", "/users/{name}", "307"): 2,
        ("POST", "/users/{name}", "405"): 2,
        ("GET", "_unmatched", "404"): 2,
    }
    assert samples(registry, "websocket_connections_total", "route", "code") == {
        ("/talk/{room}", "1000"): 2,
        ("/refused/{room}", "_rejected"): 2,
        ("/left/{room}", "1001"): 2,
    }
    assert errors(registry) == {}
    assert in_progress(registry) == 0


def test_route_of_litestar_is_found_behind_a_copy_of_the_scope(registry: CollectorRegistry) -> None:
    from litestar import Litestar, get

    async def user() -> str:
        return "ok"

    app: Any = Litestar([get("/users/{name:str}")(user)], logging_config=None, openapi_config=None)
    app = around(Copying(app), registry)
    assert request(app, "/users/1") == 200
    assert request(app, "/users/1", "POST") == 405
    assert request(app, "/nothing") == 404
    assert requests(registry) == {
        ("GET", "/users/{name}", "200"): 1,
        ("POST", "/users/{name}", "405"): 1,
        ("GET", "_unmatched", "404"): 1,
    }


@pytest.mark.parametrize("form", ["installed", "around", "one registry twice", "another registry inside"])
def test_cancelled_request_behind_a_copy_of_the_scope_has_its_route(
    form: str, registry: CollectorRegistry
) -> None:
    app = FORMS[form](registry)

    async def main() -> None:
        task = asyncio.ensure_future(Server().serve(app, scope_of("/cancelled/1")))
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())
    assert requests(registry) == {("GET", "/cancelled/{name}", "499"): 1}


def test_scope_of_the_outer_layer_stays_its_own(registry: CollectorRegistry) -> None:
    """Extra labels are computed from it."""
    seen: list[Any] = []
    app = PrometheusMiddleware(
        Copying(installed(shop(), CollectorRegistry())),
        registry=registry,
        extra_labels={"tenant": lambda scope, message: seen.append(scope)},
    )
    scope = scope_of("/users/1")
    Server().run(app, scope)
    assert seen[0] is scope


def test_application_without_foreign_middlewares_has_no_inner_layer(registry: CollectorRegistry) -> None:
    for middlewares, expected in (((), False), ((CORSMiddleware, Passing), False), ((Copying,), True)):
        app = installed(shop(*middlewares), registry)
        assert request(app, "/users/1") == 200
        assert isinstance(app.router.middleware_stack, InnerLayer) is expected


class BoomError(Exception):
    """An exception with a handler."""


class DetailError(Exception):
    """Another exception with a handler."""


async def answer_503(request: Any, error: Any) -> Any:
    """Answer an exception with a server error."""
    return PlainTextResponse("busy", 503)


def answer_404(request: Any, error: Any) -> Any:
    """Answer an exception with a client error, in a thread."""
    return PlainTextResponse("nothing", 404)


async def boom(request: Any) -> Any:
    """Fail; the handler answers 503."""
    raise BoomError


def detail(request: Any) -> Any:
    """Fail in a thread; the handler answers 404."""
    raise DetailError


async def gateway(request: Any) -> Any:
    """Fail with a status."""
    raise HTTPException(502)


async def bug(request: Any) -> Any:
    """Fail without a handler."""
    raise ZeroDivisionError


async def stream(request: Any) -> Any:
    """Fail in the body."""

    async def body() -> Any:
        yield b"x"
        raise ValueError

    return StreamingResponse(body())


async def task(request: Any) -> Any:
    """Fail after the response."""
    return PlainTextResponse("ok", background=BackgroundTask(lambda: 1 / 0))


ROUTES = [Route(f"/{each.__name__}", each) for each in (boom, detail, gateway, bug, stream, task)]
HANDLERS: Any = {BoomError: answer_503, DetailError: answer_404}
PLACES: dict[str, Wrap] = {
    "no middleware": lambda measure: measure(Starlette(routes=ROUTES, exception_handlers=HANDLERS)),
    "in the application": lambda measure: measure(
        Starlette(routes=ROUTES, exception_handlers=HANDLERS, middleware=[Middleware(Passing)] * 2)
    ),
    "in FastAPI": lambda measure: measure(
        FastAPI(routes=ROUTES, exception_handlers=HANDLERS, middleware=[Middleware(Passing)])
    ),
    "around a mount": lambda measure: measure(
        Starlette(
            routes=[Mount("/", app=Passing(Router(ROUTES)))],
            exception_handlers=HANDLERS,
        )
    ),
    "at each route": lambda measure: measure(
        Starlette(
            routes=[Route(each.path, each.endpoint, middleware=[Middleware(Passing)]) for each in ROUTES],
            exception_handlers=HANDLERS,
        )
    ),
    "in a mounted application": lambda measure: measure(
        Starlette(
            routes=[
                Mount(
                    "/",
                    app=Starlette(
                        routes=ROUTES, exception_handlers=HANDLERS, middleware=[Middleware(Passing)]
                    ),
                )
            ]
        )
    ),
    "behind a function": lambda measure: measure(
        Starlette(
            routes=ROUTES,
            exception_handlers=HANDLERS,
            middleware=[Middleware(copying), Middleware(Passing)],
        )
    ),
}


@pytest.mark.parametrize("how", ["install", "around", "add_middleware", "two registries"])
@pytest.mark.parametrize("place", PLACES)
def test_exceptions_are_counted_behind_a_middleware_with_a_task(
    place: str, how: str, registry: CollectorRegistry
) -> None:
    def measure(app: Any) -> Any:
        if how == "add_middleware":
            app.add_middleware(PrometheusMiddleware, registry=registry)
            Server([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]).run(
                app, {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
            )
            return app
        if how == "two registries":
            app = installed(app, CollectorRegistry())
        return installed(app, registry) if how == "install" else around(app, registry)

    app = PLACES[place](measure)
    for _ in range(2):
        for path in ("boom", "detail", "gateway", "bug", "stream", "task"):
            request(app, f"/{path}")
    assert samples(registry, "http_requests_total", "route", "status") == {
        ("/boom", "503"): 2,
        ("/detail", "404"): 2,
        ("/gateway", "502"): 2,
        ("/bug", "500"): 2,
        ("/stream", "200"): 2,
        ("/task", "200"): 2,
    }
    assert exceptions(registry) == {
        ("/boom", "BoomError"): 2,
        ("/gateway", "HTTPException"): 2,
        ("/bug", "ZeroDivisionError"): 2,
        ("/stream", "ValueError"): 2,
    }
    assert errors(registry) == {}
    assert in_progress(registry) == 0


def test_exception_that_a_middleware_with_a_task_answers_is_counted_with_a_server_error(
    registry: CollectorRegistry,
) -> None:
    class Answering(BaseHTTPMiddleware):  # type: ignore[misc]
        async def dispatch(self, request: Any, call_next: Any) -> Any:
            try:
                return await call_next(request)
            except ZeroDivisionError:
                return PlainTextResponse("sorry", int(request.headers["status"]))

    app = installed(Starlette(routes=ROUTES, middleware=[Middleware(Answering)]), registry)
    for status in ("503", "200"):
        assert request(app, "/bug", headers={"status": status}) == int(status)
    assert requests(registry) == {("GET", "/bug", "503"): 1, ("GET", "/bug", "200"): 1}
    assert exceptions(registry) == {("/bug", "ZeroDivisionError"): 1}


def test_disconnect_behind_a_middleware_with_a_task_is_a_499(registry: CollectorRegistry) -> None:
    async def read(request: Any) -> Any:
        await request.body()

    app = installed(Starlette(routes=[Route("/", read)], middleware=[Middleware(Passing)]), registry)
    with pytest.raises(ClientDisconnect):
        Server([DISCONNECT]).run(app)
    assert requests(registry) == {("GET", "/", "499"): 1}
    assert exceptions(registry) == {}


def test_inner_layer_passes_connections_on_that_are_not_measured(registry: CollectorRegistry) -> None:
    app = installed(shop(Copying, Passing), registry)
    assert request(app, "/users/1") == 200
    inner = copy.copy(app.router.middleware_stack)
    before = requests(registry)
    assert request(inner, "/users/1") == 200
    server = Server([{"type": "websocket.connect"}])
    asyncio.run(server.serve(inner, websocket_of("/talk/1")))
    assert [message["type"] for message in server.sent] == ["websocket.accept", "websocket.close"]
    assert requests(registry) == before


def test_exception_that_a_middleware_handles_while_it_calls_the_application_is_not_counted(
    registry: CollectorRegistry,
) -> None:
    class FallingBack(Copying):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            try:
                raise LookupError
            except LookupError:
                await super().__call__(scope, receive, send)

    async def busy(request: Any) -> Any:
        return PlainTextResponse("busy", 503)

    app = Starlette(
        routes=[*ROUTES, Route("/busy", busy)],
        exception_handlers=HANDLERS,
        middleware=[Middleware(FallingBack)],
    )
    installed(app, registry)
    for path in ("/busy", "/boom", "/bug"):
        request(app, path)
    assert exceptions(registry) == {("/boom", "BoomError"): 1, ("/bug", "ZeroDivisionError"): 1}
