"""Installation of the middleware: it is the outermost layer, and its errors are raised at startup."""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute

from tests.web_prom.asgi.asgi_server import DISCONNECT, Server, scope_of, websocket_of
from tests.web_prom.support import errors, exceptions, in_progress, requests, samples
from web_prom import ConfigError, ConflictError
from web_prom.asgi import PrometheusMiddleware

Make = Callable[..., Any]


def send(app: Any, path: str, method: str = "GET", content: bytes = b"") -> tuple[int, str]:
    """Send a request, and return the status and the body; an application that raises is a 500."""

    async def client() -> tuple[int, str]:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as opened:
            response = await opened.request(method, path, content=content)
            return response.status_code, response.text

    return asyncio.run(client())


def live(app: Any) -> list[Any]:
    """Start and stop an application, and return its lifespan messages."""
    server = Server([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    asyncio.run(server.serve(app, {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}))
    return [message["type"] for message in server.sent]


async def fail(request: Request) -> Any:
    """Fail."""
    raise ZeroDivisionError


async def read(request: Request) -> Any:
    """Read the body."""
    return PlainTextResponse(str(len(await request.body())))


async def answer(request: Request, error: Exception) -> Any:
    """Answer an exception."""
    return PlainTextResponse("sorry", 503)


async def talk(websocket: Any) -> None:
    """Accept and close."""
    await websocket.accept()
    await websocket.close()


class Closed:
    """A middleware that answers some requests itself."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection."""
        if scope.get("path") == "/closed":
            await PlainTextResponse("closed", 410)(scope, receive, send)
        elif scope.get("path") == "/raising":
            raise HTTPException(401)  # outside of Starlette's ExceptionMiddleware
        else:
            await self.app(scope, receive, send)


def routes() -> list[Any]:
    """Return routes of all kinds."""
    deeper = [Route("/error/{name}", fail)]
    return [
        Route("/error/{name}", fail),
        Route("/read", read, methods=["POST"]),
        Mount("/deeper", routes=deeper),
        WebSocketRoute("/talk/{room}", talk),
    ]


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    """Record that the lifespan ran."""
    app.state.lifespan_ran = True
    yield


def made(kind: type[Any], how: str, registry: CollectorRegistry, **options: Any) -> Any:
    """Return a measured application of Starlette or FastAPI, to which handlers and middlewares are added."""
    app = kind(routes=routes(), lifespan=lifespan)
    if how == "install":
        PrometheusMiddleware.install(app, registry=registry, **options)
    elif how == "add_middleware":
        app.add_middleware(PrometheusMiddleware, registry=registry, **options)
    app.add_middleware(Closed)
    app.add_exception_handler(Exception, answer)
    return app


HOW = pytest.mark.parametrize("how", ["install", "add_middleware"])
KIND = pytest.mark.parametrize("kind", [Starlette, FastAPI])


@HOW
@KIND
def test_fault_88_install_counts_the_status_that_the_client_gets(
    how: str, kind: type[Any], registry: CollectorRegistry
) -> None:
    app = made(kind, how, registry)
    assert live(app) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert app.state.lifespan_ran
    sent = [
        ("/error/1", 503, "/error/{name}"),
        ("/deeper/error/1", 503, "/deeper/error/{name}"),
        ("/closed", 410, "_unmatched"),
        ("/raising", 503, "_unmatched"),
        ("/nothing", 404, "_unmatched"),
    ]
    for path, status, _ in sent:
        assert send(app, path)[0] == status
    assert requests(registry) == {("GET", route, str(status)): 1 for _, status, route in sent}
    assert exceptions(registry) == {
        ("/error/{name}", "ZeroDivisionError"): 1,
        ("/deeper/error/{name}", "ZeroDivisionError"): 1,
        ("_unmatched", "HTTPException"): 1,
    }
    Server([{"type": "websocket.connect"}]).run(app, websocket_of("/talk/1"))
    assert samples(registry, "websocket_connections_total", "route", "code") == {("/talk/{room}", "1000"): 1}
    status, text = send(app, "/metrics")
    assert status == 200
    assert "\nhttp_requests_in_progress 0.0\n" in text
    assert in_progress(registry) == 0
    assert errors(registry) == {}


def test_fault_88_install_counts_the_first_request_without_a_lifespan(
    registry: CollectorRegistry,
) -> None:
    assert send(made(FastAPI, "install", registry), "/error/1") == (503, "sorry")
    assert requests(registry) == {("GET", "/error/{name}", "503"): 1}


@HOW
@pytest.mark.skipif(
    "max_body_size" not in inspect.signature(Starlette).parameters, reason="Starlette 1.10 has it"
)
def test_fault_88_install_counts_a_request_that_starlette_rejects(
    how: str, registry: CollectorRegistry
) -> None:
    app = Starlette(routes=routes(), max_body_size=10)
    if how == "install":
        PrometheusMiddleware.install(app, registry=registry)
    else:
        app.add_middleware(PrometheusMiddleware, registry=registry)
    live_or_not = [send(app, "/read", "POST", b"x" * size)[0] for size in (1, 100)]
    assert live_or_not == [200, 413]
    assert requests(registry) == {("POST", "/read", "200"): 1, ("POST", "/read", "413"): 1}
    assert exceptions(registry) == {}


def test_added_middleware_can_still_protect_the_scrape_path(registry: CollectorRegistry) -> None:
    """A middleware that is added later is outside of PrometheusMiddleware."""

    class Protecting(Closed):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            app = PlainTextResponse("who are you?", 401) if scope.get("path") == "/metrics" else self.app
            await app(scope, receive, send)

    app = Starlette(routes=routes())
    app.add_middleware(PrometheusMiddleware, registry=registry)
    app.add_middleware(Protecting)
    live(app)
    for _ in range(3):
        assert send(app, "/metrics")[0] == 401


def test_add_middleware_twice_counts_in_both_registries(registry: CollectorRegistry) -> None:
    other = CollectorRegistry()
    app = made(Starlette, "add_middleware", registry)
    app.add_middleware(PrometheusMiddleware, registry=other)
    live(app)
    for _ in range(2):
        assert send(app, "/error/1")[0] == 503
    for each in (registry, other):
        assert requests(each) == {("GET", "/error/{name}", "503"): 2}
        assert exceptions(each) == {("/error/{name}", "ZeroDivisionError"): 2}


class OtherName:
    """A middleware that keeps its application under an uncommon name."""

    def __init__(self, app: Any) -> None:
        self.next_one = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection."""
        await Closed(self.next_one)(scope, receive, send)


def as_function(app: Any) -> Any:
    """Return a middleware that is a function."""

    async def called(scope: Any, receive: Any, send: Any) -> None:
        await Closed(app)(scope, receive, send)

    return called


def as_method(app: Any) -> Any:
    """Return a middleware that is a method."""
    return OtherName(app).__call__


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings of web-prom."""
    return [record.getMessage() for record in caplog.records if record.name == "web_prom"]


@pytest.mark.parametrize("outer", [Closed, OtherName, as_function, as_method])
@KIND
def test_add_middleware_measures_around_any_middleware(
    kind: type[Any], outer: Any, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    app = kind(routes=routes())
    app.add_middleware(outer)
    app.add_middleware(PrometheusMiddleware, registry=registry)
    app.add_middleware(outer)
    app.add_exception_handler(Exception, answer)
    live(app)
    for path, status in (("/closed", 410), ("/raising", 503), ("/error/1", 503)):
        assert send(app, path)[0] == status
    assert requests(registry) == {
        ("GET", "_unmatched", "410"): 1,
        ("GET", "_unmatched", "503"): 1,
        ("GET", "/error/{name}", "503"): 1,
    }
    assert in_progress(registry) == 0
    assert errors(registry) == {}
    assert warnings_of(caplog) == []


def test_add_middleware_measures_a_mounted_application_from_the_second_request_on(
    registry: CollectorRegistry,
) -> None:
    """A mounted application is not started."""
    inner = made(Starlette, "add_middleware", registry)
    app = Starlette(routes=[Mount("/mount", app=inner)])
    assert send(app, "/mount/read", "POST")[0] == 200
    assert send(app, "/mount/error/1")[0] == 503
    assert requests(registry) == {
        ("POST", "/mount/read", "200"): 1,
        ("GET", "/mount/error/{name}", "503"): 1,
    }
    assert not isinstance(app.middleware_stack, PrometheusMiddleware)


def test_add_middleware_has_one_outer_layer_after_several_starts(registry: CollectorRegistry) -> None:
    app = made(Starlette, "add_middleware", registry)
    app.add_middleware(PrometheusMiddleware, registry=CollectorRegistry())
    for _ in range(3):
        live(app)
    layers = [app.middleware_stack]
    while isinstance(layers[-1], PrometheusMiddleware):
        layers.append(layers[-1]._app)
    assert len(layers) == 3, "one for each registry"


def test_add_middleware_logs_a_warning_if_the_stack_is_not_known(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """Connexion has a list of its middlewares."""

    class Framework:
        middleware_stack: Any = None
        app: Any = None

        def _build_middleware_stack(self) -> Any:
            return PrometheusMiddleware(Starlette(routes=routes()).router, registry=registry)

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if self.app is None:
                self.app = self._build_middleware_stack()
                self.middleware_stack = [self.app]
            scope["app"] = self
            await self.app(scope, receive, send)

    app = Framework()
    for _ in range(3):
        assert send(app, "/error/1")[0] == 500
    (message,) = warnings_of(caplog)
    assert "install" in message
    assert requests(registry) == {("GET", "/error/{name}", "500"): 3}


def test_middleware_around_another_application_does_not_measure_the_framework(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    class Beside:
        def __init__(self, app: Any) -> None:
            self.app = app
            self.beside = PrometheusMiddleware(Starlette(routes=routes()), registry=registry)

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            is_beside = scope.get("path", "").startswith("/error")
            await (self.beside if is_beside else self.app)(scope, receive, send)

    app = Starlette(routes=routes(), middleware=[Middleware(Beside)])
    assert send(app, "/error/1")[0] == 500
    assert send(app, "/read", "POST")[0] == 200
    assert requests(registry) == {("GET", "/error/{name}", "500"): 1}
    assert warnings_of(caplog) == []


def test_install_works_after_the_first_connection(registry: CollectorRegistry) -> None:
    app = Starlette(routes=routes(), exception_handlers={Exception: answer})
    assert send(app, "/error/1")[0] == 503
    PrometheusMiddleware.install(app, registry=registry)
    app.debug = False
    assert send(app, "/error/1")[0] == 503
    assert requests(registry) == {("GET", "/error/{name}", "503"): 1}


def test_install_twice_counts_a_request_once(registry: CollectorRegistry) -> None:
    app = made(FastAPI, "install", registry)
    PrometheusMiddleware.install(app, registry=registry)
    app.add_middleware(PrometheusMiddleware, registry=registry)
    live(app)
    assert send(app, "/error/1")[0] == 503
    assert requests(registry) == {("GET", "/error/{name}", "503"): 1}


def test_install_counts_responses_of_a_subclass(registry: CollectorRegistry) -> None:
    class Shop(FastAPI):  # type: ignore[misc]
        def build_middleware_stack(self) -> Any:
            return Closed(super().build_middleware_stack())

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope.get("path") == "/ping":
                await PlainTextResponse("pong", 203)(scope, receive, send)
            else:
                await super().__call__(scope, receive, send)

    app = Shop(routes=routes())
    PrometheusMiddleware.install(app, registry=registry)
    app.add_exception_handler(Exception, answer)
    assert isinstance(app, Shop)
    sent = {"/ping": 203, "/closed": 410, "/error/1": 503}
    for path, status in sent.items():
        assert send(app, path)[0] == status
    assert requests(registry) == {
        ("GET", "_unmatched", "203"): 1,
        ("GET", "_unmatched", "410"): 1,
        ("GET", "/error/{name}", "503"): 1,
    }
    assert send(app, "/metrics")[0] == 200
    assert in_progress(registry) == 0


def test_install_answers_scrapes_below_fastapis_root_path(registry: CollectorRegistry) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the function is deprecated, but in use
        app = FastAPI(root_path="/api")
    PrometheusMiddleware.install(app, registry=registry)
    for path in ("/metrics", "/api/metrics"):
        assert send(app, path)[0] == 200
    assert requests(registry) == {}


def test_install_works_with_litestar(registry: CollectorRegistry) -> None:
    import litestar

    async def orders() -> str:
        raise ZeroDivisionError

    def busy(request: Any, error: Exception) -> Any:
        return litestar.Response("", status_code=503)

    app = litestar.Litestar([litestar.get("/orders")(orders)], exception_handlers={ZeroDivisionError: busy})
    PrometheusMiddleware.install(app, registry=registry)
    assert send(app, "/orders")[0] == 503
    assert send(app, "/metrics")[0] == 200
    assert requests(registry) == {("GET", "/orders", "503"): 1}
    assert exceptions(registry) == {("/orders", "ZeroDivisionError"): 1}


def test_install_rejects_a_function(registry: CollectorRegistry) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        """Do nothing."""

    with pytest.raises(TypeError, match=r"write app = PrometheusMiddleware\(app\)"):
        PrometheusMiddleware.install(app, registry=registry)


def test_install_registers_no_metrics_if_disabled(registry: CollectorRegistry) -> None:
    for how in ("install", "add_middleware"):
        app = made(FastAPI, how, registry, enabled=False)
        live(app)
        assert send(app, "/error/1")[0] == 503
        assert send(app, "/metrics")[0] == 404
    assert requests(registry) == {}


MISTAKES: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"no_such_setting": 1}, ConfigError, "no_such_setting"),
    ({"duration_buckets": "x"}, ConfigError, "duration_buckets"),
    ({}, ConflictError, "http_requests"),
]


@pytest.mark.parametrize(("options", "error", "text"), MISTAKES)
@KIND
def test_fault_89_install_raises_errors_of_the_settings(
    options: dict[str, Any], error: type[Exception], text: str, kind: type[Any], registry: CollectorRegistry
) -> None:
    if error is ConflictError:
        Counter("http_requests", "Somebody's.", registry=registry)
    with pytest.raises(error, match=text):
        PrometheusMiddleware.install(kind(), registry=registry, **options)


@pytest.mark.parametrize(("options", "error", "text"), MISTAKES)
@pytest.mark.parametrize("outer", ["", "other", "subclass"])
def test_fault_89_add_middleware_with_an_error_fails_the_startup(
    options: dict[str, Any], error: type[Exception], text: str, outer: str, registry: CollectorRegistry
) -> None:
    class Mine(PrometheusMiddleware):
        def __init__(self, app: Any, **more: Any) -> None:
            super().__init__(app, **more)

    if error is ConflictError:
        Counter("http_requests", "Somebody's.", registry=registry)
    middleware = Mine if outer == "subclass" else PrometheusMiddleware
    kind: Any = FastAPI if outer == "other" else Starlette
    app = kind(middleware=[Middleware(middleware, registry=registry, **options)], lifespan=lifespan)
    if outer == "other":
        app.add_middleware(Closed)
    server = Server([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    asyncio.run(server.serve(app, {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}))
    (message,) = server.sent
    assert message["type"] == "lifespan.startup.failed"
    assert text in message["message"]
    with pytest.raises(error, match=text):
        Server().run(app, scope_of())


@pytest.mark.parametrize(("options", "error", "text"), MISTAKES)
def test_middleware_raises_errors_of_the_settings(
    options: dict[str, Any], error: type[Exception], text: str, registry: CollectorRegistry
) -> None:
    if error is ConflictError:
        Counter("http_requests", "Somebody's.", registry=registry)
    with pytest.raises(error, match=text):
        PrometheusMiddleware(Starlette(), registry=registry, **options)


def test_install_counts_a_disconnect_during_the_request_body_as_499(registry: CollectorRegistry) -> None:
    app = made(Starlette, "install", registry)
    app.add_exception_handler(ClientDisconnect, answer)
    message = {"type": "http.request", "body": b"x", "more_body": True}
    Server([message, DISCONNECT]).run(app, scope_of("/read", "POST"))
    assert requests(registry) == {("POST", "/read", "499"): 1}
