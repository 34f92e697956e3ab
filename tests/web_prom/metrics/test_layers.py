"""Requests that pass several measured layers: ASGI around WSGI, WSGI around ASGI, ASGI around ASGI."""

from __future__ import annotations

import asyncio
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import a2wsgi
import httpx
import pytest
from asgiref.wsgi import WsgiToAsgi
from fastapi import FastAPI
from flask import Flask, abort
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import web_prom.wsgi
from flask_prom import FlaskProm
from tests.web_prom.asgi.asgi_server import Server, hello, scope_of
from tests.web_prom.support import errors, exceptions, in_progress, python, requests, samples
from tests.web_prom.support import hello as hello_wsgi
from tests.web_prom.support import serve as serve_wsgi
from web_prom import make_wsgi_app
from web_prom.asgi import PrometheusMiddleware, set_route

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette's is deprecated, and used
    from starlette.middleware.wsgi import WSGIMiddleware

ADAPTERS = {"starlette": WSGIMiddleware, "a2wsgi": a2wsgi.WSGIMiddleware, "asgiref": WsgiToAsgi}

Adapter = Callable[[Any], Any]
Counts = dict[tuple[str, ...], float]


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> Iterator[Adapter]:
    """Return each adapter from WSGI to ASGI. Its threads are ended after the test."""
    made: list[Any] = []

    def adapt(app: Any) -> Any:
        made.append(ADAPTERS[request.param](app))
        return made[-1]

    yield adapt
    for each in made:
        if hasattr(each, "executor"):
            each.executor.shutdown()


def send(app: Any, path: str, method: str = "GET") -> tuple[int, bytes]:
    """Send a request, and return status and body. If the application raises, the status is 500."""

    async def client() -> tuple[int, bytes]:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as opened:
            response = await opened.request(method, path)
            return response.status_code, response.content

    return asyncio.run(client())


def shop(registry: CollectorRegistry) -> Flask:
    """Return a Flask application. The page of a user contains the number of requests in progress."""
    app = Flask("shop")
    app.logger.setLevel(logging.CRITICAL)

    @app.get("/users/<user_id>")
    def user(user_id: str) -> str:
        return str(in_progress(registry))

    @app.get("/teapot/<name>")
    def teapot(name: str) -> str:
        abort(418)

    @app.get("/error/<name>")
    def error(name: str) -> str:
        raise ZeroDivisionError

    @app.get("/handled/<name>")
    def handled(name: str) -> str:
        raise KeyError

    @app.errorhandler(KeyError)
    def answer(error: KeyError) -> tuple[str, int]:
        return "", 503

    @app.get("/slash/")
    def slash() -> str:
        return ""

    return app


SENT = [
    ("GET", "/users/1", 200, "/users/<user_id>"),
    ("GET", "/users/2", 200, "/users/<user_id>"),
    ("POST", "/users/1", 405, "/users/<user_id>"),
    ("GET", "/teapot/x", 418, "/teapot/<name>"),
    ("GET", "/error/x", 500, "/error/<name>"),
    ("GET", "/handled/x", 503, "/handled/<name>"),
    ("GET", "/slash", 308, "/slash/"),
    ("GET", "/nothing", 404, None),
]


def send_all(app: Any, prefix: str) -> None:
    """Send one request of each kind while another request is in progress."""
    for method, path, status, _ in SENT:
        answered, body = send(app, prefix + path, method)
        assert answered == status
        if status == 200:
            assert body == b"1.0"


def expected(prefix: str) -> Counts:
    """Return the counts of these requests."""
    counts: Counts = {}
    for method, _, status, route in SENT:
        key = (method, "_unmatched" if route is None else prefix + route, str(status))
        counts[key] = counts.get(key, 0) + 1
    return counts


@pytest.mark.parametrize("prefix", ["", "/v1"])
@pytest.mark.parametrize("inner", ["alone", "FlaskProm", "FlaskProm on another registry"])
def test_fault_87_flask_inside_asgi_counts_once_with_its_route(
    inner: str, prefix: str, adapter: Adapter, registry: CollectorRegistry
) -> None:
    flask, other = shop(registry), CollectorRegistry()
    if inner != "alone":
        FlaskProm(flask, registry=registry if inner == "FlaskProm" else other)
    app = FastAPI()
    app.add_api_route("/own/{name}", lambda name: name)
    app.mount(prefix, adapter(flask))
    PrometheusMiddleware.install(app, registry=registry)
    assert send(app, "/own/1")[0] == 200
    send_all(app, prefix)
    assert requests(registry) == {("GET", "/own/{name}", "200"): 1, **expected(prefix)}
    assert in_progress(registry) == 0
    assert errors(registry) == {}
    if inner != "alone":  # Flask answers exceptions itself: only an adapter sees them
        assert exceptions(registry) == {
            (f"{prefix}/error/<name>", "ZeroDivisionError"): 1,
            (f"{prefix}/handled/<name>", "KeyError"): 1,
        }
    if inner == "FlaskProm on another registry":
        assert requests(other) == expected("")
        assert in_progress(other) == 0
        assert errors(other) == {}


def test_fault_87_adapter_without_an_outer_router(adapter: Adapter, registry: CollectorRegistry) -> None:
    app = PrometheusMiddleware(adapter(shop(registry)), registry=registry)
    send_all(app, "")
    assert requests(registry) == expected("")


def test_fault_87_route_contains_all_nested_mounts(adapter: Adapter, registry: CollectorRegistry) -> None:
    inner = Starlette(routes=[Mount("/flask", app=adapter(shop(registry)))])
    app = Starlette(routes=[Mount("/tenants/{tenant}", app=inner)])
    PrometheusMiddleware.install(app, registry=registry)
    send_all(app, "/tenants/7/flask")
    assert requests(registry) == expected("/tenants/{tenant}/flask")


def test_fault_87_search_passes_bound_methods_and_middlewares(
    adapter: Adapter, registry: CollectorRegistry
) -> None:
    class Passing:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app(scope, receive, send)

    app = Starlette(routes=[Mount("/v1", app=Passing(adapter(shop(registry).wsgi_app)))])
    PrometheusMiddleware.install(app, registry=registry)
    send_all(app, "/v1")
    assert requests(registry) == expected("/v1")


@pytest.mark.parametrize("wrapped", [False, True])
def test_fault_87_set_route_in_an_inner_wsgi_application(
    wrapped: bool, adapter: Adapter, registry: CollectorRegistry
) -> None:
    def plain(environ: Any, start_response: Any) -> list[bytes]:
        set_route(environ, "/explicit/<name>")
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    inner = web_prom.wsgi.PrometheusMiddleware(plain, registry=registry) if wrapped else plain
    app = Starlette(routes=[Mount("/v1", app=adapter(inner))])
    PrometheusMiddleware.install(app, registry=registry)
    assert send(app, "/v1/explicit/1") == (200, b"ok")
    assert requests(registry) == {("GET", "/explicit/<name>", "200"): 1}
    assert in_progress(registry) == 0


def test_fault_87_inner_wsgi_application_without_a_route_has_the_mount_path(
    adapter: Adapter, registry: CollectorRegistry
) -> None:
    def failing(environ: Any, start_response: Any) -> list[bytes]:
        raise ZeroDivisionError

    inner = web_prom.wsgi.PrometheusMiddleware(failing, registry=registry)
    app = Starlette(routes=[Mount("/v1", app=adapter(inner))])
    PrometheusMiddleware.install(app, registry=registry)
    assert send(app, "/v1/x")[0] == 500
    assert requests(registry) == {("GET", "/v1/{path:path}", "500"): 1}
    # An old Starlette raises a group, around what raised.
    ((route, _),) = exceptions(registry)
    assert route == "/v1/{path:path}"


@pytest.mark.parametrize("where", ["FlaskProm", "make_wsgi_app"])
def test_fault_87_inner_scrape_is_neither_counted_nor_in_progress(
    where: str, adapter: Adapter, registry: CollectorRegistry
) -> None:
    flask = shop(registry)
    FlaskProm(flask, registry=registry)
    inner = {"/metrics": make_wsgi_app(registry)} if where == "make_wsgi_app" else {"": flask}
    app = Starlette(routes=[Mount(path, app=adapter(wsgi)) for path, wsgi in inner.items()])
    PrometheusMiddleware.install(app, registry=registry, path="")
    status, body = send(app, "/metrics" if where == "FlaskProm" else "/metrics/")
    assert status == 200
    assert b"\nhttp_requests_in_progress 0.0\n" in body
    assert requests(registry) == {}
    assert in_progress(registry) == 0


def test_internal_request_does_not_change_the_outer_recording(
    adapter: Adapter, registry: CollectorRegistry
) -> None:
    flask = shop(registry)
    FlaskProm(flask, registry=registry)

    @flask.get("/preview")
    def preview() -> str:
        return flask.test_client().get("/handled/x").status

    app = Starlette(routes=[Mount("", app=adapter(flask))])
    PrometheusMiddleware.install(app, registry=registry)
    assert send(app, "/preview") == (200, b"503 SERVICE UNAVAILABLE")
    assert requests(registry)["GET", "/preview", "200"] == 1
    assert "/preview" not in {route for route, _ in exceptions(registry)}
    assert in_progress(registry) == 0


def test_fault_87_asgi_inside_wsgi_counts_once(registry: CollectorRegistry) -> None:
    async def user(request: Any) -> Any:
        return PlainTextResponse(str(in_progress(registry)))

    inner = Starlette(routes=[Route("/users/{user_id}", user)])
    PrometheusMiddleware.install(inner, registry=registry)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        adapted: Any = a2wsgi.ASGIMiddleware(inner, loop=loop)
        app = web_prom.wsgi.PrometheusMiddleware(adapted, registry=registry)
        more = {"REMOTE_ADDR": "192.0.2.1", "REMOTE_PORT": "1"}
        assert serve_wsgi(app, "/users/1", **more) == b"1.0"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    assert requests(registry) == {("GET", "/users/{user_id}", "200"): 1}
    assert in_progress(registry) == 0


@pytest.mark.parametrize("how", ["install", "add_middleware"])
def test_fault_87_mounted_fastapi_counts_once(how: str, registry: CollectorRegistry) -> None:
    inner, outer = FastAPI(), FastAPI()
    inner.add_api_route("/users/{user_id}", lambda user_id: in_progress(registry))
    outer.mount("/v1", inner)
    for app in (inner, outer):
        if how == "install":
            PrometheusMiddleware.install(app, registry=registry)
        else:
            app.add_middleware(PrometheusMiddleware, registry=registry)
    for _ in range(3):
        assert send(outer, "/v1/users/1") == (200, b"1.0")
    assert requests(registry) == {("GET", "/v1/users/{user_id}", "200"): 3}
    assert in_progress(registry) == 0


def test_fault_87_each_registry_counts_once(registry: CollectorRegistry) -> None:
    other = CollectorRegistry()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        set_route(scope, "/explicit")
        assert (in_progress(registry), in_progress(other)) == (1, 1)
        await Server().serve(PlainTextResponse("ok"), scope)
        await PlainTextResponse("ok")(scope, receive, send)

    wrapped: Any = app
    for each in (registry, other, registry, other):
        wrapped = PrometheusMiddleware(wrapped, registry=each)
    scope = scope_of()
    before = dict(scope)
    assert Server().run(wrapped, scope) == b"ok"
    assert scope == before
    for each in (registry, other):
        assert requests(each) == {("GET", "/explicit", "200"): 1}
        assert in_progress(each) == 0
        assert errors(each) == {}


def test_fault_87_each_registry_counts_once_in_wsgi(registry: CollectorRegistry) -> None:
    flask, other = shop(registry), CollectorRegistry()
    FlaskProm(flask, registry=registry)
    app = web_prom.wsgi.PrometheusMiddleware(flask, registry=other)
    serve_wsgi(app, "/users/1")
    serve_wsgi(app, "/handled/1")
    for each in (registry, other):
        assert requests(each) == {
            ("GET", "/users/<user_id>", "200"): 1,
            ("GET", "/handled/<name>", "503"): 1,
        }
        assert exceptions(each) == {("/handled/<name>", "KeyError"): 1}
        assert in_progress(each) == 0


def test_websocket_counts_once_in_each_registry(registry: CollectorRegistry) -> None:
    other = CollectorRegistry()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        set_route(scope, "/chat")
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})

    wrapped: Any = app
    for each in (registry, other, registry):
        wrapped = PrometheusMiddleware(wrapped, registry=each)
    Server().run(wrapped, scope_of(type="websocket"))
    for each in (registry, other):
        counted = samples(each, "websocket_connections_total", "route", "code")
        assert counted == {("/chat", "1000"): 1}


@pytest.mark.slow
def test_fault_87_registries_with_one_directory_count_once(tmp_path: Path) -> None:
    """Both write to the same files."""
    printed = python(
        """
        import asyncio
        from prometheus_client import CollectorRegistry
        from tests.web_prom.asgi.asgi_server import Server, hello, scope_of
        from tests.web_prom.support import hello as wsgi_hello, serve as serve_wsgi
        from web_prom import asgi, wsgi

        app, wsgi_app = hello, wsgi_hello
        for registry in (CollectorRegistry(), CollectorRegistry()):
            app = asgi.PrometheusMiddleware(app, registry=registry)
            wsgi_app = wsgi.PrometheusMiddleware(wsgi_app, registry=registry)
        Server().run(app)
        serve_wsgi(wsgi_app)
        for line in Server().run(app, scope_of("/metrics")).decode().splitlines():
            if line.startswith(("http_requests_total{", "http_requests_in_progress")):
                print(line)
        """,
        PROMETHEUS_MULTIPROC_DIR=str(tmp_path),
    )
    assert sorted(printed.splitlines()) == [
        "http_requests_in_progress 0.0",
        'http_requests_total{method="GET",route="_unmatched",status="200"} 2.0',
    ]


@pytest.mark.parametrize("key", ["asgi.scope", "wsgi_environ"])
@pytest.mark.parametrize("value", [None, 1, "x", object(), {}])
def test_keys_of_other_libraries_are_ignored(key: str, value: Any, registry: CollectorRegistry) -> None:
    assert serve_wsgi(web_prom.wsgi.PrometheusMiddleware(hello_wsgi, registry=registry), **{key: value}) == (
        b"hello"
    )
    app = PrometheusMiddleware(hello, registry=registry)
    assert Server().run(app, scope_of(**{key: value})) == b"hello"
    assert requests(registry) == {("GET", "_unmatched", "200"): 2}


# Labels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("naming", ["prometheus", "prometheus-flask-exporter:endpoint"])
def test_extra_labels_inside_an_outer_asgi_layer_are_those_of_flask(
    adapter: Adapter, registry: CollectorRegistry, naming: str
) -> None:
    """The functions of the outer layer get its own requests only."""
    inner = shop(registry)
    name = "http_requests_total" if naming == "prometheus" else "flask_http_request_duration_seconds_count"
    labels = {
        "a": lambda request, response: f"{request.endpoint} {response.status_code}",
        "b": lambda *_: "flask",
    }
    FlaskProm(inner, registry=registry, naming=naming, extra_labels=labels)
    app = Starlette(
        routes=[Route("/own", lambda request: PlainTextResponse("own")), Mount("/v1", app=adapter(inner))]
    )
    outer = {"a": lambda scope, start: scope["scheme"], "b": lambda *_: "asgi"}
    PrometheusMiddleware.install(app, registry=registry, naming=naming, extra_labels=outer)
    send(app, "/v1/teapot/x")
    send(app, "/own")
    assert samples(registry, name, "a", "b") == {
        ("teapot 418", "flask"): 1,
        ("http", "asgi"): 1,
    }
    assert errors(registry) == {}


@pytest.mark.parametrize("path", ["/users/1", "/slow", "/handled/1"])
def test_extra_labels_inside_an_outer_wsgi_layer_are_those_of_flask(
    registry: CollectorRegistry, path: str
) -> None:
    inner = shop(registry)

    @inner.get("/slow")
    def slow() -> str:
        raise SystemExit

    FlaskProm(inner, registry=registry, extra_labels={"a": lambda request, response: request.endpoint})
    labels = {"a": lambda environ, response: environ["PATH_INFO"]}
    app = web_prom.wsgi.PrometheusMiddleware(inner, registry=registry, extra_labels=labels)
    with suppress(SystemExit):
        serve_wsgi(app, path)
    assert samples(registry, "http_requests_total", "a") == {(path.split("/")[1].rstrip("s"),): 1}
    assert errors(registry) == {}
