"""WSGI applications, bodies and servers that fail: the status and the exceptions that are counted."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from tests.web_prom.support import (
    App,
    Clock,
    Environ,
    Server,
    environ_of,
    exceptions,
    in_progress,
    requests,
    seconds,
    serve,
)
from tests.web_prom.wsgi.support import (
    BROKEN,
    OK,
    OPTIONS,
    PLAIN,
    Measure,
    Start,
    app_list,
    assert_idle,
    raising,
    send,
)
from web_prom import PrometheusMiddleware
from web_prom.wsgi import set_route


@pytest.mark.parametrize("error", [ValueError("secret"), SystemExit(1), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("started", [False, True])
def test_exception_of_the_application_is_counted_with_status_500(
    error: BaseException, started: bool, measure: Measure, registry: CollectorRegistry
) -> None:
    server = Server()
    with pytest.raises(type(error)) as raised:
        server.run(measure(raising(error, started=started)), environ_of())
    assert raised.value is error
    assert requests(registry) == {BROKEN: 1}
    assert exceptions(registry) == {("_unmatched", type(error).__name__): 1}
    assert_idle(registry)


def test_exception_after_write_keeps_the_sent_status(measure: Measure, registry: CollectorRegistry) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        Server().run(measure(raising(ValueError(), written=True)), environ_of())
    assert requests(registry) == {OK: 1}
    assert exceptions(registry) == {("_unmatched", "ValueError"): 1}


def broken_body(before: int, *, lazy: bool = False, length: int | None = None) -> App:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        headers = PLAIN if length is None else [*PLAIN, ("Content-Length", str(length))]

        def body() -> Iterator[bytes]:
            if lazy:
                start_response("200 OK", headers)
            for _ in range(before):
                yield b"x"
            raise ZeroDivisionError

        if not lazy:
            start_response("200 OK", headers)
        return body()

    return app


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("length", [None, 10])
def test_exception_before_the_first_chunk_is_counted_with_status_500(
    lazy: bool, length: int | None, measure: Measure, registry: CollectorRegistry
) -> None:
    app = broken_body(0, lazy=lazy, length=length)
    assert send(measure(app)).status_code == "500"
    assert requests(registry) == {BROKEN: 1}
    assert exceptions(registry) == {("_unmatched", "ZeroDivisionError"): 1}
    assert_idle(registry)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()])
@pytest.mark.parametrize("before", [0, 1])
def test_exit_of_a_worker_during_a_body_counts_the_request(
    error: BaseException, before: int, measure: Measure, registry: CollectorRegistry
) -> None:
    """A worker that exceeds its timeout is stopped by gunicorn."""

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield from [b"x"] * before
        raise error

    with pytest.raises(type(error)):
        serve(measure(app))
    assert requests(registry) == {OK if before else BROKEN: 1}
    assert exceptions(registry) == {("_unmatched", type(error).__name__): 1}
    assert_idle(registry)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("length", [None, 10])
def test_fault_02_exception_after_the_first_chunk_keeps_the_sent_status(
    lazy: bool, length: int | None, measure: Measure, registry: CollectorRegistry
) -> None:
    app = broken_body(2, lazy=lazy, length=length)
    assert send(measure(app)).status_code == "200"
    assert requests(registry) == {OK: 1}
    assert exceptions(registry) == {("_unmatched", "ZeroDivisionError"): 1}
    assert_idle(registry)


def test_fault_02_disconnect_during_a_body_keeps_the_sent_status(
    measure: Measure, registry: CollectorRegistry, clock: Clock
) -> None:
    server = Server()

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        for _ in range(100):
            clock.go(0.25)
            yield b"x"

    server.run(measure(app), environ_of(), stop_after=3)
    assert requests(registry) == {OK: 1}
    assert exceptions(registry) == {}, "a disconnect is no exception of the application"
    assert seconds(registry) == 0.75
    assert_idle(registry)


def test_close_of_an_unread_body_finishes_the_request(measure: Measure, registry: CollectorRegistry) -> None:
    body: Any = measure(app_list)(environ_of(), Server().start_response)
    assert in_progress(registry) == 1
    body.close()
    assert requests(registry) == {OK: 1}
    assert_idle(registry)


def test_exception_of_close_is_raised_and_the_request_is_counted(
    measure: Measure, registry: CollectorRegistry
) -> None:
    class Response:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"x"])

        def close(self) -> None:
            raise OSError("disk")

    def app(environ: Environ, start_response: Start) -> Any:
        start_response("200 OK", PLAIN)
        return Response()

    for options in OPTIONS:
        with pytest.raises(OSError, match="disk"):
            serve(measure(app, **options))
    assert requests(registry) == {OK: 2}
    assert_idle(registry)


def test_exception_of_start_response_is_counted_with_status_500(
    measure: Measure, registry: CollectorRegistry
) -> None:
    """The server raises for the status, the application does not catch it, the client gets a 500."""

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("nonsense", PLAIN)
        return [b"x"]

    assert send(measure(app)).status_code == "500"
    assert sum(requests(registry).values()) == 1
    assert requests(registry) == {BROKEN: 1}


@pytest.mark.parametrize("status", [None, b"200 OK", 200, "", "2", "20x OK"])
def test_invalid_status_reaches_the_server_unchanged(
    status: Any, measure: Measure, registry: CollectorRegistry
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response(status, PLAIN)
        return [b"x"]

    server = Server()
    assert server.run(measure(app), environ_of()) == b"x"
    assert server.status is status
    assert sum(requests(registry).values()) == 1
    assert {route for _, route, _ in requests(registry)} == {"_unmatched"}
    assert in_progress(registry) == 0


def test_unknown_statuses_share_one_label_and_are_not_cached(
    measure: Measure, registry: CollectorRegistry
) -> None:
    statuses = iter(f"x{number:02} OK" for number in range(50))

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response(next(statuses), PLAIN)
        set_route(environ, "/kept" if environ["PATH_INFO"] == "/kept" else "/left")
        return [b"x"]

    wrapped = measure(app, exclude="/left")
    for number in range(50):
        serve(wrapped, "/kept" if number % 2 else "/left")
    assert requests(registry) == {("GET", "/kept", "_OTHER"): 25}
    assert len(wrapped.recorder.writers) == 0


def test_second_start_response_without_exc_info_keeps_the_first_status(
    measure: Measure, registry: CollectorRegistry
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("201 Created", PLAIN)
        with pytest.raises(AssertionError):
            start_response("404 Not Found", PLAIN)
        return [b"x"]

    serve(measure(app))
    assert requests(registry) == {("GET", "_unmatched", "201"): 1}


def test_second_start_response_after_the_first_byte_keeps_the_first_status(
    measure: Measure, registry: CollectorRegistry
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield b"x"
        try:
            raise KeyError("late")
        except KeyError:
            start_response("500 Oops", PLAIN, sys.exc_info())
        yield b"never"

    with pytest.raises(KeyError, match="late"):
        serve(measure(app))
    assert requests(registry) == {OK: 1}
    assert exceptions(registry) == {("_unmatched", "KeyError"): 1}


def test_second_start_response_with_exc_info_replaces_status_and_length(
    measure: Measure, registry: CollectorRegistry
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "1")])
        try:
            raise KeyError
        except KeyError:
            start_response("503 Busy", [("Content-Length", "3")], sys.exc_info())
        yield b"a"
        assert in_progress(registry) == 1, "the Content-Length of the first start_response is replaced"
        yield b"bc"

    assert serve(measure(app)) == b"abc"
    assert requests(registry) == {("GET", "_unmatched", "503"): 1}


def test_missing_body_raises_the_same_error_as_without_the_middleware(
    measure: Measure, registry: CollectorRegistry
) -> None:
    def app(environ: Environ, start_response: Start) -> Any:
        start_response("200 OK", PLAIN)

    assert send(measure(app)).status_code == send(app).status_code == "500"
    assert requests(registry) == {BROKEN: 1}
    assert_idle(registry)


def test_missing_start_response_is_counted_with_status_500(
    measure: Measure, registry: CollectorRegistry
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        return [b"x"]

    assert send(measure(app)).status_code == "500"
    assert requests(registry) == {BROKEN: 1}
    assert_idle(registry)


class Script:
    """An application that executes given steps before and while its body is read."""

    def __init__(self, eager: list[str], lazy: list[str], headers: list[tuple[str, str]]) -> None:
        self.eager, self.lazy, self.headers = eager, lazy, headers

    def __call__(self, environ: Environ, start_response: Start) -> Script:
        self.start_response = start_response
        self.write: Any = None
        for what in self.eager:
            self.step(what)
        return self

    def __iter__(self) -> Iterator[bytes]:
        for what in self.lazy:
            chunk = self.step(what)
            if chunk is not None:
                yield chunk

    def close(self) -> None:
        if "close raises" in self.lazy:
            raise OSError

    def step(self, what: str) -> bytes | None:
        if what.startswith("start"):
            self.write = self.start_response(f"{what[6:]} X", list(self.headers))
        elif what.startswith("restart"):
            try:
                raise KeyError
            except KeyError:
                self.write = self.start_response(f"{what[8:]} X", list(self.headers), sys.exc_info())
        elif what == "write" and self.write is not None:
            self.write(b"w")
        elif what == "raise":
            raise ValueError
        return {"chunk": b"c", "empty": b""}.get(what)


STEPS = st.lists(
    st.sampled_from(
        ["start 200", "start 404", "restart 503", "write", "chunk", "empty", "raise", "close raises"]
    ),
    max_size=6,
)


@settings(deadline=None, max_examples=150, database=None)
@given(
    eager=STEPS,
    lazy=STEPS,
    options=st.sampled_from(OPTIONS),
    length=st.sampled_from([None, "0", "1", "2", "x"]),
)
def test_random_applications_are_counted_with_the_status_that_was_sent(
    eager: list[str], lazy: list[str], options: dict[str, Any], length: str | None
) -> None:
    """The status that wsgiref's server sends is counted once."""
    headers = PLAIN if length is None else [*PLAIN, ("Content-Length", length)]
    app = Script(eager, lazy, headers)
    registry = CollectorRegistry()
    wire = send(PrometheusMiddleware(app, registry=registry, **options))
    assert wire.wire.getvalue() == send(app).wire.getvalue()
    assert {status for _, _, status in requests(registry)} == {wire.status_code}
    assert sum(requests(registry).values()) == 1
    assert_idle(registry)
