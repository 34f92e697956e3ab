"""A WSGI request between server and application: the response stays as it is, and its end is seen."""

from __future__ import annotations

import gc
import io
import weakref
from collections.abc import Iterable, Iterator
from typing import Any
from wsgiref.validate import validator

import pytest
import webtest
from prometheus_client import CollectorRegistry

from tests.web_prom.support import (
    App,
    Environ,
    Server,
    environ_of,
    hello,
    in_progress,
    requests,
    samples,
    serve,
)
from tests.web_prom.wsgi.support import (
    OK,
    OPTIONS,
    PLAIN,
    SHAPES,
    Measured,
    Start,
    app_generator,
    app_list,
    app_tuple,
    at_rest,
    send,
)
from web_prom.metrics.recording import RECORDING_KEY


@pytest.mark.parametrize("app", SHAPES)
@pytest.mark.parametrize("options", OPTIONS)
def test_exchange_counts_a_request_once_and_leaves_the_response_unchanged(
    app: App, options: dict[str, Any], measured: Measured, registry: CollectorRegistry
) -> None:
    wrapped = measured(app, **options)
    for number in (1, 2, 3):
        server = Server()
        assert server.run(wrapped, environ_of()) == b"abcd"
        assert requests(registry) == {OK: number}
        plain = Server()
        plain.run(app, environ_of())
        assert (server.status, server.headers) == (plain.status, plain.headers)
    assert samples(registry, "http_request_duration_seconds_count", "method", "route") == {OK[:2]: 3}
    at_rest(registry)


@pytest.mark.parametrize("app", SHAPES)
@pytest.mark.parametrize("options", OPTIONS)
def test_exchange_conforms_to_pep_3333_on_both_sides(
    app: App, options: dict[str, Any], measured: Measured, registry: CollectorRegistry
) -> None:
    """wsgiref.validate stands on both sides of the middleware: between server, us and application."""
    wrapped = validator(measured(validator(app), **options))
    environ = environ_of(**{"wsgi.input": io.BytesIO(b"body"), "CONTENT_LENGTH": "4"})
    assert Server().run(wrapped, environ) == b"abcd"
    assert requests(registry) == {OK: 1}
    at_rest(registry)


@pytest.mark.parametrize("app", SHAPES)
def test_exchange_passes_the_lint_of_webtest(
    app: App, measured: Measured, registry: CollectorRegistry
) -> None:
    client = webtest.TestApp(measured(app))
    assert client.get("/").body == b"abcd"
    assert client.post("/", b"xyz").body == b"abcd"
    assert requests(registry) == {OK: 1, ("POST", "_unmatched", "200"): 1}
    at_rest(registry)


@pytest.mark.parametrize("app", SHAPES)
def test_exchange_leaves_the_bytes_sent_by_wsgiref_unchanged(
    app: App, measured: Measured, registry: CollectorRegistry
) -> None:
    served, bare = send(measured(app)), send(app)
    assert served.wire.getvalue() == bare.wire.getvalue(), "byte for byte, Content-Length among them"
    assert requests(registry) == {OK: 1}
    at_rest(registry)


@pytest.mark.parametrize("options", OPTIONS)
def test_body_keeps_its_len(options: dict[str, Any], measured: Measured) -> None:
    """Servers set Content-Length by themselves for a body of one chunk."""
    body: Any = measured(app_tuple, **options)(environ_of(), Server().start_response)
    assert len(body) == 1
    body.close()
    lazy = measured(app_generator, **options)(environ_of(), Server().start_response)
    assert not hasattr(lazy, "__len__")


def test_body_of_a_generator_starts_the_response_at_the_first_chunk(
    measured: Measured, registry: CollectorRegistry
) -> None:
    server = Server()
    body: Any = measured(app_generator)(environ_of(), server.start_response)
    assert server.status is None
    assert next(iter(body)) == b"ab"
    assert server.status == "200 OK"
    body.close()
    assert requests(registry) == {OK: 1}


def test_body_does_not_read_chunks_ahead(measured: Measured) -> None:
    """A stream reaches the client chunk by chunk."""
    made: list[int] = []

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        for number in range(3):
            made.append(number)
            yield b"x"

    body = iter(measured(app)(environ_of(), Server().start_response))
    assert made == []
    next(body)
    assert made == [0]
    next(body)
    assert made == [0, 1]


def test_body_closes_the_application_body_once(measured: Measured) -> None:
    closed: list[int] = []

    class Response:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"x"])

        def close(self) -> None:
            closed.append(1)

    def app(environ: Environ, start_response: Start) -> Any:
        start_response("200 OK", PLAIN)
        return Response()

    for options in OPTIONS:
        closed.clear()
        serve(measured(app, **options))
        assert closed == [1]


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "304 Not Modified", "404 Not Found"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("body", [[], [b""], iter(())])
def test_fault_08_empty_body_finishes_the_request_once(
    status: str, method: str, body: Iterable[bytes], measured: Measured, registry: CollectorRegistry
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response(status, [] if status < "300" else [("Content-Length", "5")])
        return body

    wrapped = measured(app, **OPTIONS[1])
    assert serve(wrapped, method=method) == b""
    assert requests(registry) == {(method, "_unmatched", status[:3]): 1}
    assert samples(registry, "http_response_size_bytes_sum", "method") == {(method,): 0}
    at_rest(registry)


def test_fault_08_unread_body_of_a_head_request_finishes_the_request(
    measured: Measured, registry: CollectorRegistry
) -> None:
    body: Any = measured(hello)(environ_of(method="HEAD"), Server().start_response)
    body.close()
    assert requests(registry) == {("HEAD", "_unmatched", "200"): 1}
    at_rest(registry)


def test_body_finishes_the_request_once(measured: Measured, registry: CollectorRegistry) -> None:
    body: Any = measured(app_list)(environ_of(), Server().start_response)
    assert list(body) == [b"ab", b"cd"]
    body.close()
    body.close()
    list(body)
    assert requests(registry) == {OK: 1}
    at_rest(registry)


def test_body_finishes_the_request_at_the_content_length(
    measured: Measured, registry: CollectorRegistry
) -> None:
    """Test clients do just that."""
    body = iter(measured(app_list)(environ_of(), Server().start_response))
    next(body)
    assert in_progress(registry) == 1
    next(body)
    assert requests(registry) == {OK: 1}
    at_rest(registry)


@pytest.mark.parametrize(
    "headers",
    [
        [("Content-Length", "4"), ("X-Count", "2")],
        [("X-Count", "2"), ("content-length", "4")],
        [("CONTENT-LENGTH", "4"), *PLAIN],
    ],
)
def test_start_response_finds_content_length_at_any_position(
    headers: list[tuple[str, str]], measured: Measured, registry: CollectorRegistry
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", headers)
        return [b"ab", b"cd"]

    body = iter(measured(app)(environ_of(), Server().start_response))
    next(body)
    assert in_progress(registry) == 1
    next(body)
    assert in_progress(registry) == 0


@pytest.mark.parametrize("options", OPTIONS)
def test_exchange_leaves_no_reference_cycle(options: dict[str, Any], measured: Measured) -> None:
    """Frameworks' responses refer to the environ, and the environ to what measures the request."""

    class Response:
        def __init__(self, environ: Environ, chunks: Iterable[bytes]) -> None:
            self.environ, self.chunks = environ, chunks

        def __iter__(self) -> Iterator[bytes]:
            return iter(self.chunks)

    gc.collect()
    gc.disable()
    try:
        for app in SHAPES:
            wrapped = measured(lambda environ, start: Response(environ, app(environ, start)), **options)  # noqa: B023
            environ = environ_of()
            Server().run(wrapped, environ)
            gone = weakref.ref(environ[RECORDING_KEY])
            del environ
            assert gone() is None, app
    finally:
        gc.enable()


@pytest.mark.parametrize("length", ["abc", "", "-1", "1.5", " ", "1_0", "٣", "99999999999999999999"])
def test_start_response_ignores_an_invalid_content_length(
    length: str, measured: Measured, registry: CollectorRegistry
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", length)])
        return [b"ab", b"cd"]

    wrapped = measured(app, resolve_route=lambda recording: setattr(recording, "route", "/known"))
    assert serve(wrapped) == b"abcd"
    assert requests(registry) == {("GET", "/known", "200"): 1}
    at_rest(registry)


@pytest.mark.parametrize("length", ["abc", "-5", "", "99999999999999999999", "1e3"])
@pytest.mark.parametrize("options", OPTIONS)
def test_fault_34_invalid_content_length_of_a_request_is_ignored(
    length: str, options: dict[str, Any], measured: Measured, registry: CollectorRegistry
) -> None:
    assert serve(measured(hello, **options), CONTENT_LENGTH=length) == b"hello"
    assert requests(registry) == {OK: 1}
    at_rest(registry)
