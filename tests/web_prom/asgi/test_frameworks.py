"""Route templates, statuses and exceptions of real ASGI frameworks, through their own clients."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute

from tests.web_prom.asgi.asgi_server import HANG_UP, Server, scope_of, websocket_of
from tests.web_prom.support import errors, exceptions, in_progress, requests, samples
from web_prom import exclude, make_asgi_app
from web_prom.asgi import PrometheusMiddleware


@pytest.fixture
def measured(registry: CollectorRegistry) -> Callable[..., PrometheusMiddleware]:
    """Return a function that wraps an application so that the test's registry measures it."""

    def wrap(app: Any, **options: Any) -> PrometheusMiddleware:
        return PrometheusMiddleware(app, registry=registry, **options)

    return wrap


Measured = Callable[..., PrometheusMiddleware]
Case = tuple[str, str, int, str]  # path, method, status and route


def request(app: Any, path: str, method: str = "GET", **options: Any) -> int:
    """Send a request through httpx, and return the status; an application that raises is a 500."""

    async def send() -> int:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            response = await client.request(method, path, **options)
            return int(response.status_code)

    return asyncio.run(send())


def route_of(
    app: Any, registry: CollectorRegistry, path: str, method: str = "GET", headers: Any = None
) -> tuple[int, str]:
    """Send one request, and return its status and the route under which it was counted."""
    before = requests(registry)
    status = request(app, path, method, headers=headers)
    after = requests(registry)
    (key,) = [key for key, count in after.items() if count != before.get(key, 0)]
    assert key[2] == str(status)
    assert errors(registry) == {}
    assert in_progress(registry) == 0
    return status, key[1]


def connect(app: Any, path: str, *messages: Any) -> None:
    """Open a WebSocket, and send messages; the application closes it."""
    server = Server([{"type": "websocket.connect"}, *messages])
    asyncio.run(server.serve(app, websocket_of(path)))


# Starlette -------------------------------------------------------------------------------------------


async def view(request: Any) -> Any:
    """Answer; a view that several routes share."""
    return PlainTextResponse("ok")


async def other(request: Any) -> Any:
    """Answer, by a view of its own."""
    return PlainTextResponse("ok")


async def missing(request: Any) -> Any:
    """Find nothing at a path that is a route's."""
    raise HTTPException(404)


async def raising(request: Any) -> Any:
    """Fail."""
    raise ZeroDivisionError


@exclude
async def health(request: Any) -> Any:
    """Answer, unmeasured."""
    return PlainTextResponse("ok")


class Endpoint(HTTPEndpoint):  # type: ignore[misc]
    """A view that is a class."""

    async def get(self, request: Any) -> Any:
        """Answer."""
        return PlainTextResponse("ok")


async def plain(scope: Any, receive: Any, send: Any) -> None:
    """An application that no framework made."""
    await PlainTextResponse("ok")(scope, receive, send)


def wrapped_in_middleware() -> Any:
    """Return an application whose routes nobody can see from without."""
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
]


@pytest.mark.parametrize("case", STARLETTE, ids=str)
@pytest.mark.parametrize("root_path", ["", "/root"])
def test_routes_of_starlette(
    case: Case,
    root_path: str,
    measured: Measured,
    registry: CollectorRegistry,
) -> None:
    path, method, status, route = case
    app = measured(starlette())

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        scope["root_path"] = root_path
        scope["path"] = root_path + scope["path"]
        await app(scope, receive, send)

    for _ in range(2):  # found, and then known
        assert route_of(mounted, registry, path, method) == (status, route)


def test_the_host_is_no_part_of_the_route(measured: Measured, registry: CollectorRegistry) -> None:
    app = measured(starlette())
    host = {"host": "api.testserver"}
    assert route_of(app, registry, "/orders/1", headers=host) == (200, "/orders/{order}")
    assert route_of(app, registry, "/nothing", headers=host) == (404, "_unmatched")
    for number in range(5):
        host = {"host": f"{number}.example"}
        assert route_of(app, registry, "/users/1", headers=host) == (200, "/users/{user_id:int}")


@pytest.mark.parametrize("path", ["/health", "/shops/acme/deeper/health"])
def test_a_view_that_is_marked_is_not_measured(
    path: str, measured: Measured, registry: CollectorRegistry
) -> None:
    assert request(measured(starlette()), path) == 200
    assert requests(registry) == {}
    assert in_progress(registry) == 0


def test_fault_10_unknown_paths_of_starlette_make_one_series(
    measured: Measured, registry: CollectorRegistry
) -> None:
    app = measured(starlette())
    for number in range(20):
        for path in (f"/{number}", f"/shops/{number}/{number}", f"/wp/{number}/"):
            request(app, path)
    assert requests(registry) == {("GET", "_unmatched", "404"): 60}


def test_routes_that_come_later_are_found(measured: Measured, registry: CollectorRegistry) -> None:
    app = Starlette(routes=[Mount("/a", routes=[Route("/b", view)])])
    wrapped = measured(app)
    assert route_of(wrapped, registry, "/a/b") == (200, "/a/b")
    app.router.routes.append(Mount("/c", routes=[Route("/{d}", view)]))
    assert route_of(wrapped, registry, "/c/x") == (200, "/c/{d}")
    assert route_of(wrapped, registry, "/a/b") == (200, "/a/b")


def test_fault_13_a_405_of_starlette_has_its_route_and_is_counted(
    measured: Measured, registry: CollectorRegistry
) -> None:
    request(measured(starlette()), "/users/1", "POST")
    assert requests(registry) == {("POST", "/users/{user_id:int}", "405"): 1}


@pytest.mark.parametrize("where", ["around", "inside"])
@pytest.mark.parametrize("debug", [False, True])
def test_an_exception_that_starlette_answers_counts_once(
    where: str, debug: bool, registry: CollectorRegistry
) -> None:
    """ServerErrorMiddleware answers and raises on, whether it stands inside ours or around it."""
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
def test_an_exception_that_a_handler_of_the_users_answers(
    status: int, counted: int, measured: Measured, registry: CollectorRegistry
) -> None:
    async def handler(request: Any, error: Exception) -> Any:
        return PlainTextResponse("sorry", status)

    handlers = {ZeroDivisionError: handler}
    assert (
        request(measured(Starlette(routes=[Route("/e", raising)], exception_handlers=handlers)), "/e")
        == status
    )
    assert sum(exceptions(registry).values()) == counted
    assert exceptions(registry) in ({}, {("/e", "ZeroDivisionError"): 1})


def test_background_tasks_of_starlette_are_not_counted(
    measured: Measured, registry: CollectorRegistry
) -> None:
    seen: list[Any] = []

    def background() -> None:
        seen.append((in_progress(registry), requests(registry)))
        raise ValueError

    async def answer(request: Any) -> Any:
        return PlainTextResponse("ok", background=BackgroundTask(background))

    assert request(measured(Starlette(routes=[Route("/b", answer)])), "/b") == 200
    assert seen == [(0, {("GET", "/b", "200"): 1})]
    assert exceptions(registry) == {}


async def dispatch(request: Any, call_next: Any) -> Any:
    """Pass on, as middleware of Starlette's base class does: in another task."""
    return await call_next(request)


@pytest.mark.parametrize("inside", [False, True])
def test_middleware_of_starlettes_base_class(inside: bool, registry: CollectorRegistry) -> None:
    ours = Middleware(PrometheusMiddleware, registry=registry)
    theirs = Middleware(BaseHTTPMiddleware, dispatch=dispatch)
    routes = [Route("/users/{id}", view), Route("/e/{id}", raising)]
    app = Starlette(routes=routes, middleware=[ours, theirs] if inside else [theirs, ours])
    assert route_of(app, registry, "/users/1") == (200, "/users/{id}")
    assert route_of(app, registry, "/e/1") == (500, "/e/{id}")
    assert exceptions(registry) == {("/e/{id}", "ZeroDivisionError"): 1}


def test_a_stream_of_starlette_that_breaks(measured: Measured, registry: CollectorRegistry) -> None:
    async def stream(request: Any) -> Any:
        async def body() -> Any:
            yield b"x"
            raise ZeroDivisionError

        return StreamingResponse(body())

    assert request(measured(Starlette(routes=[Route("/s", stream)])), "/s") == 200
    assert requests(registry) == {("GET", "/s", "200"): 1}
    ((route, error),) = exceptions(registry)
    assert route == "/s"
    assert error in ("ZeroDivisionError", "ExceptionGroup")


@pytest.mark.parametrize("spec_version", ["2.1", "2.4"])
def test_fault_02_a_client_of_starlette_that_hangs_up_in_a_stream(
    spec_version: str, measured: Measured, registry: CollectorRegistry
) -> None:
    """Starlette hears of it from receive, or from send, which raises."""

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
            raise OSError("gone")

    class Leaving(Server):
        async def receive(self) -> Any:
            while len(sent) < 5 or spec_version == "2.4":
                await asyncio.sleep(0)
            return HANG_UP

    server = Leaving([], fail)
    app = measured(Starlette(routes=[Route("/s", stream)]))

    scope = scope_of("/s", asgi={"version": "3.0", "spec_version": spec_version})
    with contextlib.suppress(Exception):  # or a group of them
        asyncio.run(server.serve(app, scope))
    assert requests(registry) == {("GET", "/s", "200"): 1}
    assert exceptions(registry) == {}


def test_a_client_of_starlette_that_hangs_up_in_its_body(
    measured: Measured, registry: CollectorRegistry
) -> None:
    async def upload(request: Any) -> Any:
        await request.body()

    server = Server([{"type": "http.request", "body": b"x", "more_body": True}, HANG_UP])
    app = measured(Starlette(routes=[Route("/u", upload, methods=["POST"])]))

    with pytest.raises(ClientDisconnect):
        asyncio.run(server.serve(app, scope_of("/u", "POST")))
    assert requests(registry) == {("POST", "/u", "499"): 1}
    assert exceptions(registry) == {}


def test_a_mounted_scrape(measured: Measured, registry: CollectorRegistry) -> None:
    app = measured(Starlette(routes=[Mount("/numbers", app=make_asgi_app(registry))]))
    assert request(app, "/numbers") in (200, 307)
    assert request(app, "/numbers/") == 200
    assert requests(registry) == {}


def test_websockets_of_starlette(measured: Measured, registry: CollectorRegistry) -> None:
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
    app = measured(Starlette(routes=routes))
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


# FastAPI ---------------------------------------------------------------------------------------------


def item(item_id: int) -> dict[str, int]:
    """Answer."""
    return {"item": item_id}


def shared() -> dict[str, str]:
    """Answer; a view that several routes share."""
    return {}


@exclude
def healthy() -> dict[str, str]:
    """Answer, unmeasured."""
    return {}


async def failing() -> None:
    """Fail."""
    raise ZeroDivisionError


async def talk(websocket: Any) -> None:
    """Accept, and close."""
    await websocket.accept()
    await websocket.close()


def fastapi() -> Any:
    """Return an application with routers in routers."""
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
def test_routes_of_fastapi(case: Case, added: bool, registry: CollectorRegistry) -> None:
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


def test_a_starlette_route_in_a_router_of_fastapi(measured: Measured, registry: CollectorRegistry) -> None:
    """Whose path lacked the prefix of the router around it until 0.137."""
    app = measured(fastapi())
    old, new = "/api/acme/plain/1", "/api/v1/acme/plain/1"
    found = {route_of(app, registry, path) for path in (old, new)} - {(404, "_unmatched")}
    assert found in ({(200, "/api/{tenant}/plain/{x}")}, {(200, "/api/v1/{tenant}/plain/{x}")})


def test_a_root_path_of_fastapi(measured: Measured, registry: CollectorRegistry) -> None:
    router = APIRouter()
    router.get("/items/{item_id}")(item)
    app = FastAPI()
    app.include_router(router, prefix="/api")
    wrapped = measured(app)

    async def behind_a_proxy(scope: Any, receive: Any, send: Any) -> None:
        await wrapped({**scope, "root_path": "/behind/proxy"}, receive, send)

    assert route_of(behind_a_proxy, registry, "/api/items/1") == (200, "/api/items/{item_id}")
    assert route_of(behind_a_proxy, registry, "/behind/proxy/api/items/1") == (200, "/api/items/{item_id}")


def test_a_view_of_fastapi_that_is_marked_is_not_measured(
    measured: Measured, registry: CollectorRegistry
) -> None:
    assert request(measured(fastapi()), "/health") == 200
    assert requests(registry) == {}


def test_websockets_of_fastapi(measured: Measured, registry: CollectorRegistry) -> None:
    app = measured(fastapi())
    for path in ("/api/v1/acme/inner/talk/1", "/sub/a/included/inner/talk/1"):
        connect(app, path)
    assert samples(registry, "websocket_connections_total", "route", "code") == {
        ("/api/v1/{tenant}/inner/talk/{room}", "1000"): 1,
        ("/sub/{customer}/included/inner/talk/{room}", "1000"): 1,
    }


def test_a_mounted_scrape_of_fastapi(registry: CollectorRegistry) -> None:
    app = FastAPI()
    app.add_middleware(PrometheusMiddleware, registry=registry, path="")
    app.mount("/metrics", make_asgi_app(registry))
    assert request(app, "/metrics/") == 200
    assert request(app, "/metrics") == 307
    assert requests(registry) == {}


@pytest.mark.parametrize("how", ["Route", "add_route", "append"])
@pytest.mark.parametrize("kind", [Starlette, FastAPI])
def test_fault_53_a_scrape_on_a_route_is_answered_without_a_redirect(
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


# Quart -----------------------------------------------------------------------------------------------


def quart(**config: Any) -> Any:
    """Return an application with routes of all kinds."""
    pytest.importorskip("quart", reason="Quart does not go with Flask 2")
    from quart import Quart, abort, websocket

    app = Quart("shop")
    app.config.update(config)

    async def user(user_id: int) -> str:
        return "ok"

    async def missing() -> None:
        abort(404)

    async def failing() -> None:
        raise ZeroDivisionError

    async def talk(room: str) -> None:
        await websocket.accept()
        await websocket.send(await websocket.receive())
        await websocket.close(1000)

    app.add_url_rule("/users/<int:user_id>", view_func=user)
    app.add_url_rule("/missing", view_func=missing)
    app.add_url_rule("/error", view_func=failing)
    app.add_websocket("/talk/<room>", view_func=talk)
    return app


QUART: list[Case] = [
    ("/users/1", "GET", 200, "/users/<int:user_id>"),
    ("/missing", "GET", 404, "/missing"),
    ("/error", "GET", 500, "/error"),
    ("/nothing", "GET", 404, "_unmatched"),
    ("/users/1", "POST", 405, "/users/<int:user_id>"),
]


@pytest.mark.parametrize("case", QUART, ids=str)
@pytest.mark.parametrize("whole", [False, True])
def test_routes_of_quart(
    case: Case,
    whole: bool,
    measured: Measured,
    registry: CollectorRegistry,
) -> None:
    path, method, status, route = case
    app = quart()
    if whole:
        app = measured(app)
    else:
        app.asgi_app = measured(app.asgi_app)
    assert route_of(app, registry, path, method) == (status, route)


@pytest.mark.parametrize("how", ["around", "inside", "install"])
def test_fault_92_exceptions_of_quart_are_counted_whichever_handler_answers(
    how: str, measured: Measured, registry: CollectorRegistry
) -> None:
    app = quart()
    app.add_url_rule("/shown", view_func=quart_shown)
    app.register_error_handler(KeyError, lambda error: ("sorry", 503))
    app.register_error_handler(IndexError, lambda error: ("no", 404))
    app.add_url_rule("/busy", "busy", raises(KeyError))
    app.add_url_rule("/none", "none", raises(IndexError))
    wrapped = app
    if how == "around":
        wrapped = measured(app)
    elif how == "inside":
        app.asgi_app = measured(measured(app.asgi_app))
    else:
        PrometheusMiddleware.install(app, registry=registry)
        PrometheusMiddleware.install(app, registry=registry)
    sent = {"/error": 500, "/busy": 503, "/none": 404, "/missing": 404, "/shown": 200}
    for path, status in sent.items():
        assert request(wrapped, path) == status
    assert requests(registry) == {("GET", path, str(status)): 1 for path, status in sent.items()}
    assert exceptions(registry) == {("/error", "ZeroDivisionError"): 1, ("/busy", "KeyError"): 1}
    assert errors(registry) == {}


async def quart_shown() -> str:
    """Answer after an exception of the view's own."""
    with contextlib.suppress(KeyError):
        raise KeyError
    return "ok"


def raises(error: type[Exception]) -> Callable[[], Any]:
    """Return a view that raises."""

    async def view() -> None:
        raise error

    return view


def test_quart_cancels_a_request_whose_client_hangs_up(
    measured: Measured, registry: CollectorRegistry
) -> None:
    app = quart()

    async def wait() -> None:
        await asyncio.Event().wait()

    app.add_url_rule("/wait", view_func=wait)
    Server([{"type": "http.request"}, HANG_UP]).run(measured(app), scope_of("/wait"))
    assert requests(registry) == {("GET", "/wait", "499"): 1}
    assert exceptions(registry) == {}


def test_websockets_of_quart(measured: Measured, registry: CollectorRegistry) -> None:
    app = quart()
    app.asgi_app = measured(app.asgi_app)

    async def main() -> None:
        async with app.test_client().websocket("/talk/1") as websocket:
            await websocket.send("x")
            assert await websocket.receive() == "x"

    asyncio.run(main())
    assert samples(registry, "websocket_connections_total", "route", "code") == {("/talk/<room>", "1000"): 1}


# Litestar --------------------------------------------------------------------------------------------


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
def test_routes_of_litestar(case: Case, measured: Measured, registry: CollectorRegistry) -> None:
    path, method, status, route = case
    app = measured(litestar())
    for _ in range(2):
        assert route_of(app, registry, path, method) == (status, route)
    if status == 500:
        assert exceptions(registry) == {(route, "ZeroDivisionError"): 2}


def test_a_view_of_litestar_that_is_marked_is_not_measured(
    measured: Measured, registry: CollectorRegistry
) -> None:
    assert request(measured(litestar()), "/health") == 200
    assert requests(registry) == {}


def test_websockets_of_litestar(measured: Measured, registry: CollectorRegistry) -> None:
    connect(measured(litestar()), "/talk/1")
    assert samples(registry, "websocket_connections_total", "route", "code") == {("/talk/{room}", "1000"): 1}
