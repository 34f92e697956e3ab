"""A WSGI request between server and application: the response is unchanged, and its end is recorded."""

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
    Measure,
    Start,
    app_generator,
    app_list,
    app_tuple,
    assert_idle,
    send,
)
from web_prom.metrics.recording import RECORDING_KEY


@pytest.mark.parametrize("app", SHAPES)
@pytest.mark.parametrize("options", OPTIONS)
def test_exchange_counts_a_request_once_and_leaves_the_response_unchanged(
    app: App, options: dict[str, Any], measure: Measure, registry: CollectorRegistry
) -> None:
    wrapped = measure(app, **options)
    for number in (1, 2, 3):
        server = Server()
        assert server.run(wrapped, environ_of()) == b"abcd"
        assert requests(registry) == {OK: number}
        plain = Server()
        plain.run(app, environ_of())
        assert (server.status, server.headers) == (plain.status, plain.headers)
    assert samples(registry, "http_request_duration_seconds_count", "method", "route") == {OK[:2]: 3}
    assert_idle(registry)


@pytest.mark.parametrize("app", SHAPES)
@pytest.mark.parametrize("options", OPTIONS)
def test_exchange_conforms_to_pep_3333_on_both_sides(
    app: App, options: dict[str, Any], measure: Measure, registry: CollectorRegistry
) -> None:
    """wsgiref.validate checks both sides of the middleware: the server's and the application's."""
    wrapped = validator(measure(validator(app), **options))
    environ = environ_of(**{"wsgi.input": io.BytesIO(b"body"), "CONTENT_LENGTH": "4"})
    assert Server().run(wrapped, environ) == b"abcd"
    assert requests(registry) == {OK: 1}
    assert_idle(registry)


@pytest.mark.parametrize("app", SHAPES)
def test_exchange_passes_the_lint_of_webtest(app: App, measure: Measure, registry: CollectorRegistry) -> None:
    client = webtest.TestApp(measure(app))
    assert client.get("/").body == b"abcd"
    assert client.post("/", b"xyz").body == b"abcd"
    assert requests(registry) == {OK: 1, ("POST", "_unmatched", "200"): 1}
    assert_idle(registry)


@pytest.mark.parametrize("app", SHAPES)
def test_exchange_leaves_the_bytes_sent_by_wsgiref_unchanged(
    app: App, measure: Measure, registry: CollectorRegistry
) -> None:
    served, bare = send(measure(app)), send(app)
    assert served.wire.getvalue() == bare.wire.getvalue(), "the bytes are the same, also Content-Length"
    assert requests(registry) == {OK: 1}
    assert_idle(registry)


@pytest.mark.parametrize("options", OPTIONS)
def test_body_keeps_its_len(options: dict[str, Any], measure: Measure) -> None:
    """Servers set Content-Length by themselves for a body of one chunk."""
    body: Any = measure(app_tuple, **options)(environ_of(), Server().start_response)
    assert len(body) == 1
    body.close()
    lazy = measure(app_generator, **options)(environ_of(), Server().start_response)
    assert not hasattr(lazy, "__len__")


def test_body_of_a_generator_starts_the_response_at_the_first_chunk(
    measure: Measure, registry: CollectorRegistry
) -> None:
    server = Server()
    body: Any = measure(app_generator)(environ_of(), server.start_response)
    assert server.status is None
    assert next(iter(body)) == b"ab"
    assert server.status == "200 OK"
    body.close()
    assert requests(registry) == {OK: 1}


def test_body_does_not_read_chunks_ahead(measure: Measure) -> None:
    """Each chunk of a stream is sent at once."""
    made: list[int] = []

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        for number in range(3):
            made.append(number)
            yield b"x"

    body = iter(measure(app)(environ_of(), Server().start_response))
    assert made == []
    next(body)
    assert made == [0]
    next(body)
    assert made == [0, 1]


def test_body_closes_the_application_body_once(measure: Measure) -> None:
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
        serve(measure(app, **options))
        assert closed == [1]


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "304 Not Modified", "404 Not Found"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("body", [[], [b""], iter(())])
def test_fault_08_empty_body_finishes_the_request_once(
    status: str, method: str, body: Iterable[bytes], measure: Measure, registry: CollectorRegistry
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response(status, [] if status < "300" else [("Content-Length", "5")])
        return body

    wrapped = measure(app, **OPTIONS[1])
    assert serve(wrapped, method=method) == b""
    assert requests(registry) == {(method, "_unmatched", status[:3]): 1}
    assert samples(registry, "http_response_size_bytes_sum", "method") == {(method,): 0}
    assert_idle(registry)


def test_fault_08_unread_body_of_a_head_request_finishes_the_request(
    measure: Measure, registry: CollectorRegistry
) -> None:
    body: Any = measure(hello)(environ_of(method="HEAD"), Server().start_response)
    body.close()
    assert requests(registry) == {("HEAD", "_unmatched", "200"): 1}
    assert_idle(registry)


def test_body_finishes_the_request_once(measure: Measure, registry: CollectorRegistry) -> None:
    body: Any = measure(app_list)(environ_of(), Server().start_response)
    assert list(body) == [b"ab", b"cd"]
    body.close()
    body.close()
    list(body)
    assert requests(registry) == {OK: 1}
    assert_idle(registry)


def test_body_finishes_the_request_at_the_content_length(
    measure: Measure, registry: CollectorRegistry
) -> None:
    """Test clients do not read on after it."""
    body = iter(measure(app_list)(environ_of(), Server().start_response))
    next(body)
    assert in_progress(registry) == 1
    next(body)
    assert requests(registry) == {OK: 1}
    assert_idle(registry)


@pytest.mark.parametrize(
    "headers",
    [
        [("Content-Length", "4"), ("X-Count", "2")],
        [("X-Count", "2"), ("content-length", "4")],
        [("CONTENT-LENGTH", "4"), *PLAIN],
    ],
)
def test_start_response_finds_content_length_at_any_position(
    headers: list[tuple[str, str]], measure: Measure, registry: CollectorRegistry
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", headers)
        return [b"ab", b"cd"]

    body = iter(measure(app)(environ_of(), Server().start_response))
    next(body)
    assert in_progress(registry) == 1
    next(body)
    assert in_progress(registry) == 0


@pytest.mark.parametrize("options", OPTIONS)
def test_exchange_leaves_no_reference_cycle(options: dict[str, Any], measure: Measure) -> None:
    """Responses of frameworks refer to the environ, and the environ refers to the exchange."""

    class Response:
        def __init__(self, environ: Environ, chunks: Iterable[bytes]) -> None:
            self.environ, self.chunks = environ, chunks

        def __iter__(self) -> Iterator[bytes]:
            return iter(self.chunks)

    gc.collect()
    gc.disable()
    try:
        for app in SHAPES:
            wrapped = measure(lambda environ, start: Response(environ, app(environ, start)), **options)  # noqa: B023
            environ = environ_of()
            Server().run(wrapped, environ)
            reference = weakref.ref(environ[RECORDING_KEY])
            del environ
            assert reference() is None, app
    finally:
        gc.enable()


@pytest.mark.parametrize("length", ["abc", "", "-1", "1.5", " ", "1_0", "٣", "99999999999999999999"])
def test_start_response_ignores_an_invalid_content_length(
    length: str, measure: Measure, registry: CollectorRegistry
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", length)])
        return [b"ab", b"cd"]

    wrapped = measure(app, resolve_route=lambda recording: setattr(recording, "route", "/known"))
    assert serve(wrapped) == b"abcd"
    assert requests(registry) == {("GET", "/known", "200"): 1}
    assert_idle(registry)


@pytest.mark.parametrize("length", ["abc", "-5", "", "99999999999999999999", "1e3"])
@pytest.mark.parametrize("options", OPTIONS)
def test_fault_34_invalid_content_length_of_a_request_is_ignored(
    length: str, options: dict[str, Any], measure: Measure, registry: CollectorRegistry
) -> None:
    assert serve(measure(hello, **options), CONTENT_LENGTH=length) == b"hello"
    assert requests(registry) == {OK: 1}
    assert_idle(registry)
