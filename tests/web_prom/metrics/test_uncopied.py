"""Copies of an environ or of a scope that contain a recording."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom import support
from tests.web_prom.asgi.asgi_server import Server, hello, scope_of, sending, serve, websocket_of
from tests.web_prom.support import errors, in_progress, requests, samples
from web_prom import asgi, wsgi
from web_prom.config import Config
from web_prom.metrics.layers import ForwardingRecording
from web_prom.metrics.query_recording import with_queries
from web_prom.metrics.recorder import Recorder
from web_prom.metrics.recording import RECORDING_KEY, Recording
from web_prom.metrics.websocket import WebSocketRecording

COPIES: list[Callable[[Any], Any]] = [copy.copy, copy.deepcopy]


def test_copy_of_a_recording_is_the_recording(registry: CollectorRegistry) -> None:
    recorder = Recorder(Config(), registry)
    recording = Recording(recorder, "GET")
    socket = WebSocketRecording(recorder)
    queries = with_queries(Recording)(recorder, "GET")
    for each in (recording, socket, queries, ForwardingRecording(recording)):
        for copied in (copy.copy(each), copy.deepcopy(each)):
            assert copied is each
    for finished in (recording, queries):
        finished.finish()
    socket.cancel()
    assert in_progress(registry) == 0


def test_recording_without_init_is_deleted_silently() -> None:
    """An exception in ``__del__`` is an unraisable one, which fails a test."""
    del (recording := [Recording.__new__(Recording)])[0]
    assert recording == []


@pytest.mark.parametrize("options", [{}, {"request_size": True, "response_size": True}])
@pytest.mark.parametrize("copied", COPIES)
def test_asgi_request_is_counted_through_a_copy_of_the_scope(
    copied: Callable[[Any], Any], options: dict[str, Any], registry: CollectorRegistry
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope = copied(scope)
        asgi.set_route(scope, "/users/{id}")
        await hello(scope, receive, send)

    assert serve(asgi.PrometheusMiddleware(app, registry=registry, **options)) == b"hello"
    assert requests(registry) == {("GET", "/users/{id}", "200"): 1}
    assert in_progress(registry) == 0
    assert errors(registry) == {}


@pytest.mark.parametrize("copied", COPIES)
def test_websocket_is_counted_through_a_copy_of_the_scope(
    copied: Callable[[Any], Any], registry: CollectorRegistry
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope = copied(scope)
        asgi.set_route(scope, "/talk/{room}")
        await sending({"type": "websocket.accept"}, {"type": "websocket.close"})(scope, receive, send)

    Server([]).run(asgi.PrometheusMiddleware(app, registry=registry), websocket_of())
    assert samples(registry, "websocket_connections_total", "route", "code") == {("/talk/{room}", "1000"): 1}
    assert registry.get_sample_value("websocket_connections_in_progress") == 0


@pytest.mark.parametrize("copied", COPIES)
def test_wsgi_request_is_counted_through_a_copy_of_the_environ(
    copied: Callable[[Any], Any], registry: CollectorRegistry
) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        environ = {key: copied(value) for key, value in environ.items() if key != "wsgi.errors"}
        assert isinstance(environ[RECORDING_KEY], Recording)
        assert environ["wsgi.input"].read() == b"four"
        wsgi.set_route(environ, "/users/<id>")
        return support.hello(environ, start_response)

    measured = wsgi.PrometheusMiddleware(app, registry=registry, request_size=True)
    support.serve(measured, **{"wsgi.input": io.BytesIO(b"four"), "CONTENT_LENGTH": "4"})
    assert requests(registry) == {("GET", "/users/<id>", "200"): 1}
    assert samples(registry, "http_request_size_bytes_sum", "route") == {("/users/<id>",): 4}
    assert errors(registry) == {}


def test_hypercorn_middleware_that_copies_the_scope_passes_requests_on(registry: CollectorRegistry) -> None:
    middlewares = pytest.importorskip("hypercorn.middleware")
    app = asgi.PrometheusMiddleware(middlewares.ProxyFixMiddleware(hello), registry=registry)
    server = Server()
    assert server.run(app, scope_of(client=("192.0.2.1", 50000))) == b"hello"
    assert requests(registry) == {("GET", "_unmatched", "200"): 1}
