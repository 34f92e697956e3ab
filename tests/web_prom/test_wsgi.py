"""The middleware for any WSGI application, seen from the server's side."""

from __future__ import annotations

import gc
import io
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.handlers import SimpleHandler
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import pytest
import webtest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from web_prom import PrometheusMiddleware, make_wsgi_app
from web_prom.config import Config
from web_prom.exchange import queue_seconds
from web_prom.recorder import KEY, Recording
from web_prom.wsgi import set_route

from .support import (
    App,
    Clock,
    Environ,
    Server,
    environ_of,
    errors,
    exceptions,
    hello,
    in_progress,
    requests,
    samples,
    seconds,
    serve,
)

Start = Callable[..., Any]
OK = ("GET", "_unmatched", "200")
BROKEN = ("GET", "_unmatched", "500")
PLAIN = [("Content-Type", "text/plain")]


@pytest.fixture
def measured(registry: CollectorRegistry) -> Callable[..., PrometheusMiddleware]:
    """Return a function that wraps an application so that the test's registry measures it."""

    def wrap(app: App, **options: Any) -> PrometheusMiddleware:
        return PrometheusMiddleware(app, registry=registry, **options)

    return wrap


Measured = Callable[..., PrometheusMiddleware]


def at_rest(registry: CollectorRegistry, **expected: float) -> None:
    """Assert that nothing is in progress and that the instrumentation had no errors."""
    assert in_progress(registry) == 0
    assert errors(registry) == {}


class Wire(SimpleHandler):
    """wsgiref's server, with what it sends kept in memory."""

    origin_server = False  # no date, which would differ from run to run

    def __init__(self, environ: Environ) -> None:
        self.wire = io.BytesIO()
        super().__init__(environ.pop("wsgi.input", io.BytesIO()), self.wire, io.StringIO(), environ)
        self.sent_by_kernel = False

    def sendfile(self) -> bool:
        """Claim to have sent the file without iterating over it."""
        self.sent_by_kernel = True
        self.send_headers()
        return True

    @property
    def status_code(self) -> str:
        """The status that the client got."""
        return self.wire.getvalue()[len("Status: ") :][:3].decode()


def send(app: App, environ: Environ | None = None) -> Wire:
    """Serve one request by wsgiref's server."""
    handler = Wire(environ or environ_of())
    handler.run(app)
    return handler


# Shapes of applications ------------------------------------------------------------------------------


def app_list(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [*PLAIN, ("Content-Length", "4")])
    return [b"ab", b"cd"]


def app_list_without_length(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", PLAIN)
    return [b"ab", b"cd"]


def app_tuple(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", PLAIN)
    return (b"abcd",)


def app_iterator(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", PLAIN)
    return iter([b"ab", b"cd"])


def app_generator(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Call start_response as the body is first asked for a chunk."""
    start_response("200 OK", PLAIN)
    yield b"ab"
    yield b"cd"


def app_write(environ: Environ, start_response: Start) -> Iterable[bytes]:
    write = start_response("200 OK", PLAIN)
    write(b"ab")
    write(b"cd")
    return []


def app_write_and_list(environ: Environ, start_response: Start) -> Iterable[bytes]:
    write = start_response("200 OK", PLAIN)
    write(b"ab")
    return [b"cd"]


def app_restarted(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("500 Oops", PLAIN)
    try:
        raise KeyError
    except KeyError:
        start_response("200 OK", [*PLAIN, ("Content-Length", "4")], sys.exc_info())
    return [b"abcd"]


SHAPES = [
    app_list, app_list_without_length, app_tuple, app_iterator, app_generator, app_write,
    app_write_and_list, app_restarted,
]  # fmt: skip
OPTIONS: list[dict[str, Any]] = [
    {},
    {"request_size": True, "response_size": True, "first_byte": True, "queue_time": True},
]


@pytest.mark.parametrize("app", SHAPES)
@pytest.mark.parametrize("options", OPTIONS)
def test_a_request_is_counted_once_and_served_unchanged(
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
def test_both_sides_hold_to_pep_3333(
    app: App, options: dict[str, Any], measured: Measured, registry: CollectorRegistry
) -> None:
    """wsgiref.validate stands on both sides of the middleware: between server, us and application."""
    wrapped = validator(measured(validator(app), **options))
    environ = environ_of(**{"wsgi.input": io.BytesIO(b"body"), "CONTENT_LENGTH": "4"})
    assert Server().run(wrapped, environ) == b"abcd"
    assert requests(registry) == {OK: 1}
    at_rest(registry)


@pytest.mark.parametrize("app", SHAPES)
def test_webtest_and_its_lint_are_content(app: App, measured: Measured, registry: CollectorRegistry) -> None:
    client = webtest.TestApp(measured(app))
    assert client.get("/").body == b"abcd"
    assert client.post("/", b"xyz").body == b"abcd"
    assert requests(registry) == {OK: 1, ("POST", "_unmatched", "200"): 1}
    at_rest(registry)


@pytest.mark.parametrize("app", SHAPES)
def test_wsgirefs_own_server_serves_every_shape(
    app: App, measured: Measured, registry: CollectorRegistry
) -> None:
    served, bare = send(measured(app)), send(app)
    assert served.wire.getvalue() == bare.wire.getvalue(), "byte for byte, Content-Length among them"
    assert requests(registry) == {OK: 1}
    at_rest(registry)


@pytest.mark.parametrize("options", OPTIONS)
def test_the_length_of_a_body_stays_known(options: dict[str, Any], measured: Measured) -> None:
    """Servers set Content-Length by themselves for a body of one chunk."""
    body: Any = measured(app_tuple, **options)(environ_of(), Server().start_response)
    assert len(body) == 1
    body.close()
    lazy = measured(app_generator, **options)(environ_of(), Server().start_response)
    assert not hasattr(lazy, "__len__")


def test_a_lazy_application_is_lazy_still(measured: Measured, registry: CollectorRegistry) -> None:
    server = Server()
    body: Any = measured(app_generator)(environ_of(), server.start_response)
    assert server.status is None
    assert next(iter(body)) == b"ab"
    assert server.status == "200 OK"
    body.close()
    assert requests(registry) == {OK: 1}


def test_chunks_are_not_read_ahead(measured: Measured) -> None:
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


def test_the_applications_close_is_called_once(measured: Measured) -> None:
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


# Applications that fail ------------------------------------------------------------------------------


def raising(error: BaseException, *, started: bool = False, written: bool = False) -> App:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        if started or written:
            write = start_response("200 OK", PLAIN)
            if written:
                write(b"x")
        raise error

    return app


@pytest.mark.parametrize("error", [ValueError("secret"), SystemExit(1), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("started", [False, True])
def test_an_application_that_raises_is_a_500_with_its_exception(
    error: BaseException, started: bool, measured: Measured, registry: CollectorRegistry
) -> None:
    server = Server()
    with pytest.raises(type(error)) as raised:
        server.run(measured(raising(error, started=started)), environ_of())
    assert raised.value is error
    assert requests(registry) == {BROKEN: 1}
    assert exceptions(registry) == {("_unmatched", type(error).__name__): 1}
    at_rest(registry)


def test_what_was_sent_stays_the_status_when_the_application_raises_after_write(
    measured: Measured, registry: CollectorRegistry
) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        Server().run(measured(raising(ValueError(), written=True)), environ_of())
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
def test_a_body_that_raises_before_its_first_chunk_is_a_500(
    lazy: bool, length: int | None, measured: Measured, registry: CollectorRegistry
) -> None:
    app = broken_body(0, lazy=lazy, length=length)
    assert send(measured(app)).status_code == "500"
    assert requests(registry) == {BROKEN: 1}
    assert exceptions(registry) == {("_unmatched", "ZeroDivisionError"): 1}
    at_rest(registry)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()])
@pytest.mark.parametrize("before", [0, 1])
def test_a_worker_that_is_stopped_in_the_middle_of_a_body_has_counted_the_request(
    error: BaseException, before: int, measured: Measured, registry: CollectorRegistry
) -> None:
    """As gunicorn does with one that is over its time."""

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield from [b"x"] * before
        raise error

    with pytest.raises(type(error)):
        serve(measured(app))
    assert requests(registry) == {OK if before else BROKEN: 1}
    assert exceptions(registry) == {("_unmatched", type(error).__name__): 1}
    at_rest(registry)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("length", [None, 10])
def test_fault_02_a_body_that_fails_half_way_keeps_its_status_and_counts_its_exception(
    lazy: bool, length: int | None, measured: Measured, registry: CollectorRegistry
) -> None:
    app = broken_body(2, lazy=lazy, length=length)
    assert send(measured(app)).status_code == "200"
    assert requests(registry) == {OK: 1}
    assert exceptions(registry) == {("_unmatched", "ZeroDivisionError"): 1}
    at_rest(registry)


def test_fault_02_a_client_that_hangs_up_is_counted_with_the_status_it_got(
    measured: Measured, registry: CollectorRegistry, clock: Clock
) -> None:
    server = Server()

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        for _ in range(100):
            clock.go(0.25)
            yield b"x"

    server.run(measured(app), environ_of(), stop_after=3)
    assert requests(registry) == {OK: 1}
    assert exceptions(registry) == {}, "the application did nothing wrong"
    assert seconds(registry) == 0.75
    at_rest(registry)


def test_a_body_that_is_closed_without_being_read_is_finished(
    measured: Measured, registry: CollectorRegistry
) -> None:
    body: Any = measured(app_list)(environ_of(), Server().start_response)
    assert in_progress(registry) == 1
    body.close()
    assert requests(registry) == {OK: 1}
    at_rest(registry)


def test_a_close_that_raises_is_passed_on_and_the_request_counted(
    measured: Measured, registry: CollectorRegistry
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
            serve(measured(app, **options))
    assert requests(registry) == {OK: 2}
    at_rest(registry)


def test_a_start_response_that_refuses_is_a_500(measured: Measured, registry: CollectorRegistry) -> None:
    """The server refuses the status, the application lets that through, the client gets a 500."""

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("nonsense", PLAIN)
        return [b"x"]

    assert send(measured(app)).status_code == "500"
    assert sum(requests(registry).values()) == 1
    assert requests(registry) == {BROKEN: 1}


@pytest.mark.parametrize("status", [None, b"200 OK", 200, "", "2", "20x OK"])
def test_a_status_that_is_none_reaches_the_server_as_it_is(
    status: Any, measured: Measured, registry: CollectorRegistry
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response(status, PLAIN)
        return [b"x"]

    server = Server()
    assert server.run(measured(app), environ_of()) == b"x"
    assert server.status is status
    assert sum(requests(registry).values()) == 1
    assert {route for _, route, _ in requests(registry)} == {"_unmatched"}
    assert in_progress(registry) == 0


def test_statuses_that_an_application_invents_are_other_and_take_no_memory(
    measured: Measured, registry: CollectorRegistry
) -> None:
    statuses = iter(f"x{number:02} OK" for number in range(50))

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response(next(statuses), PLAIN)
        set_route(environ, "/kept" if environ["PATH_INFO"] == "/kept" else "/left")
        return [b"x"]

    wrapped = measured(app, exclude="/left")
    for number in range(50):
        serve(wrapped, "/kept" if number % 2 else "/left")
    assert requests(registry) == {("GET", "/kept", "_OTHER"): 25}
    assert len(wrapped.recorder.cells) == 0


def test_a_second_start_without_exc_info_is_refused_by_the_server_and_changes_nothing(
    measured: Measured, registry: CollectorRegistry
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("201 Created", PLAIN)
        with pytest.raises(AssertionError):
            start_response("404 Not Found", PLAIN)
        return [b"x"]

    serve(measured(app))
    assert requests(registry) == {("GET", "_unmatched", "201"): 1}


def test_a_restart_after_the_first_byte_raises_and_keeps_the_status(
    measured: Measured, registry: CollectorRegistry
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
        serve(measured(app))
    assert requests(registry) == {OK: 1}
    assert exceptions(registry) == {("_unmatched", "KeyError"): 1}


def test_a_restarted_response_has_the_second_status_and_length(
    measured: Measured, registry: CollectorRegistry
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "1")])
        try:
            raise KeyError
        except KeyError:
            start_response("503 Busy", [("Content-Length", "3")], sys.exc_info())
        yield b"a"
        assert in_progress(registry) == 1, "the first length is not the response's"
        yield b"bc"

    assert serve(measured(app)) == b"abc"
    assert requests(registry) == {("GET", "_unmatched", "503"): 1}


def test_an_application_that_returns_no_body_fails_as_it_would_without_us(
    measured: Measured, registry: CollectorRegistry
) -> None:
    def app(environ: Environ, start_response: Start) -> Any:
        start_response("200 OK", PLAIN)

    assert send(measured(app)).status_code == send(app).status_code == "500"
    assert requests(registry) == {BROKEN: 1}
    at_rest(registry)


def test_an_application_that_never_starts_a_response_is_a_500(
    measured: Measured, registry: CollectorRegistry
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        return [b"x"]

    assert send(measured(app)).status_code == "500"
    assert requests(registry) == {BROKEN: 1}
    at_rest(registry)


class Script:
    """An application that does what it is told, step by step, before and while its body is read."""

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
def test_whatever_an_application_does_the_status_counted_is_the_status_sent(
    eager: list[str], lazy: list[str], options: dict[str, Any], length: str | None
) -> None:
    """The server of wsgiref is the oracle: what the client got is what was counted, once."""
    headers = PLAIN if length is None else [*PLAIN, ("Content-Length", length)]
    app = Script(eager, lazy, headers)
    registry = CollectorRegistry()
    wire = send(PrometheusMiddleware(app, registry=registry, **options))
    assert wire.wire.getvalue() == send(app).wire.getvalue()
    assert {status for _, _, status in requests(registry)} == {wire.status_code}
    assert sum(requests(registry).values()) == 1
    at_rest(registry)


# Responses without a body, and files -----------------------------------------------------------------


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "304 Not Modified", "404 Not Found"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("body", [[], [b""], iter(())])
def test_fault_08_a_response_without_a_body_finishes_once(
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


def test_fault_08_a_head_request_whose_body_the_server_throws_away(
    measured: Measured, registry: CollectorRegistry
) -> None:
    body: Any = measured(hello)(environ_of(method="HEAD"), Server().start_response)
    body.close()
    assert requests(registry) == {("HEAD", "_unmatched", "200"): 1}
    at_rest(registry)


def test_finishing_twice_counts_once(measured: Measured, registry: CollectorRegistry) -> None:
    body: Any = measured(app_list)(environ_of(), Server().start_response)
    assert list(body) == [b"ab", b"cd"]
    body.close()
    body.close()
    list(body)
    assert requests(registry) == {OK: 1}
    at_rest(registry)


def test_a_client_that_has_the_announced_length_need_neither_read_on_nor_close(
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
def test_the_announced_length_is_found_wherever_it_stands(
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
def test_a_served_request_leaves_no_cycle_for_the_collector(
    options: dict[str, Any], measured: Measured
) -> None:
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
            gone = weakref.ref(environ[KEY])
            del environ
            assert gone() is None, app
    finally:
        gc.enable()


@pytest.mark.parametrize("length", ["abc", "", "-1", "1.5", " ", "1_0", "٣", "99999999999999999999"])
def test_a_broken_content_length_of_the_response_costs_nothing(
    length: str, measured: Measured, registry: CollectorRegistry
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", length)])
        return [b"ab", b"cd"]

    wrapped = measured(app, annotate=lambda recording: setattr(recording, "route", "/known"))
    assert serve(wrapped) == b"abcd"
    assert requests(registry) == {("GET", "/known", "200"): 1}
    at_rest(registry)


@pytest.mark.parametrize("length", ["abc", "-5", "", "99999999999999999999", "1e3"])
@pytest.mark.parametrize("options", OPTIONS)
def test_fault_34_a_broken_content_length_of_the_request_costs_nothing(
    length: str, options: dict[str, Any], measured: Measured, registry: CollectorRegistry
) -> None:
    assert serve(measured(hello, **options), CONTENT_LENGTH=length) == b"hello"
    assert requests(registry) == {OK: 1}
    at_rest(registry)


@pytest.fixture
def big_file(tmp_path: Path) -> Path:
    """Return a file of 20,000 bytes."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 2000)
    return path


def file_app(path: Path, opened: list[Any], length: int | None = 20000) -> App:
    def app(environ: Environ, start_response: Start) -> Any:
        start_response("200 OK", [] if length is None else [("Content-Length", str(length))])
        opened.append(path.open("rb"))
        return environ["wsgi.file_wrapper"](opened[-1])

    return app


@pytest.mark.parametrize("options", OPTIONS)
def test_fault_07_the_servers_file_wrapper_reaches_it_as_the_very_object_it_made(
    options: dict[str, Any], measured: Measured, registry: CollectorRegistry, big_file: Path, clock: Clock
) -> None:
    opened: list[Any] = []
    wrapped = measured(file_app(big_file, opened), **options)
    body: Any = wrapped(environ_of(**{"wsgi.file_wrapper": FileWrapper}), Server().start_response)
    assert type(body) is FileWrapper
    assert body.filelike is opened[0]
    assert in_progress(registry) == 1
    clock.go(2)
    body.close()
    assert opened[0].closed, "the wrapper's own close() is called"
    assert requests(registry) == {OK: 1}
    assert seconds(registry) == 2, "until the file is sent"
    body.close()
    assert requests(registry) == {OK: 1}
    at_rest(registry)


@pytest.mark.parametrize("options", OPTIONS)
def test_fault_07_the_servers_sendfile_path_still_works(
    options: dict[str, Any], measured: Measured, registry: CollectorRegistry, big_file: Path
) -> None:
    wire = send(measured(file_app(big_file, []), **options))
    assert wire.sent_by_kernel
    assert requests(registry) == {OK: 1}
    at_rest(registry)
    if options:
        assert samples(registry, "http_response_size_bytes_sum", "route") == {("_unmatched",): 20000}
        assert samples(registry, "http_response_first_byte_seconds_count", "route") == {("_unmatched",): 1}


def test_a_file_of_unknown_length_has_no_response_size(
    measured: Measured, registry: CollectorRegistry, big_file: Path
) -> None:
    send(measured(file_app(big_file, [], length=None), response_size=True))
    assert requests(registry) == {OK: 1}
    assert samples(registry, "http_response_size_bytes_count", "route") == {("_unmatched",): 0}


class Slotted:
    """A file wrapper that takes no attributes, as mod_wsgi's."""

    __slots__ = ("filelike",)

    def __init__(self, filelike: Any) -> None:
        self.filelike = filelike

    def __iter__(self) -> Iterator[bytes]:
        return iter([self.filelike.read()])

    def close(self) -> None:
        self.filelike.close()


@pytest.mark.parametrize("options", OPTIONS)
def test_a_file_wrapper_that_takes_no_attributes_is_watched_by_the_file_in_it(
    options: dict[str, Any], measured: Measured, registry: CollectorRegistry, big_file: Path, clock: Clock
) -> None:
    """The request ends when the server closes what it was given."""
    opened: list[Any] = []
    wrapped = measured(file_app(big_file, opened), **options)
    body: Any = wrapped(environ_of(**{"wsgi.file_wrapper": Slotted}), Server().start_response)
    assert type(body) is Slotted
    assert len(b"".join(body)) == 20000
    assert in_progress(registry) == 1
    clock.go(2)
    body.close()
    assert opened[0].closed
    assert requests(registry) == {OK: 1}
    assert seconds(registry) == 2
    at_rest(registry)


def test_a_file_wrapper_that_can_not_be_watched_at_all_is_left_alone_and_counted(
    measured: Measured, registry: CollectorRegistry, big_file: Path
) -> None:
    """Its end is not seen, so it counts at once."""

    class Closed:
        __slots__ = ("_file",)

        def __init__(self, file: Any) -> None:
            self._file = file

        def __iter__(self) -> Iterator[bytes]:
            return iter([self._file.read()])

        def close(self) -> None:
            self._file.close()

    opened: list[Any] = []
    environ = environ_of(**{"wsgi.file_wrapper": Closed})
    assert len(Server().run(measured(file_app(big_file, opened)), environ)) == 20000
    assert opened[0].closed
    assert requests(registry) == {OK: 1}
    at_rest(registry)


@pytest.mark.parametrize("options", OPTIONS)
def test_a_file_wrapper_that_is_a_function_gets_the_file_that_it_was_called_with(
    options: dict[str, Any], measured: Measured, registry: CollectorRegistry, big_file: Path, clock: Clock
) -> None:
    """That of uWSGI is built in, returns its argument, and looks for that very object."""
    opened: list[Any] = []
    wrapped = measured(file_app(big_file, opened), **options)
    body: Any = wrapped(environ_of(**{"wsgi.file_wrapper": iter}), Server().start_response)
    assert body is opened[0]
    assert in_progress(registry) == 1
    clock.go(2)
    body.close()
    assert body.closed
    assert requests(registry) == {OK: 1}
    assert seconds(registry) == 2
    at_rest(registry)


def test_beside_a_file_wrapper_that_is_a_function_other_bodies_are_followed(
    measured: Measured, registry: CollectorRegistry
) -> None:
    wrapped = measured(app_list)
    assert serve(wrapped, **{"wsgi.file_wrapper": iter}) == b"abcd"
    assert requests(registry) == {OK: 1}
    at_rest(registry)


def test_a_file_whose_body_nobody_closes_is_settled(
    measured: Measured, registry: CollectorRegistry, big_file: Path
) -> None:
    opened: list[Any] = []
    wrapped = measured(file_app(big_file, opened))
    body = wrapped(environ_of(**{"wsgi.file_wrapper": FileWrapper}), Server().start_response)
    del body
    gc.collect()
    opened.pop().close()
    serve(wrapped, "/metrics")
    assert requests(registry) == {OK: 1}
    at_rest(registry)


# Requests that nobody finishes -----------------------------------------------------------------------


@pytest.mark.parametrize("app", [app_list, app_generator, app_write])
@pytest.mark.parametrize("options", OPTIONS)
def test_an_abandoned_request_is_settled_at_the_next_one(
    app: App, options: dict[str, Any], measured: Measured, registry: CollectorRegistry, clock: Clock
) -> None:
    wrapped = measured(app, **options)
    body = wrapped(environ_of(), Server().start_response)
    clock.go(3)
    assert in_progress(registry) == 1
    del body
    gc.collect()
    clock.go(1000)
    serve(wrapped)
    status = "500" if app is app_generator else "200"  # the lazy one never started a response
    assert requests(registry) in ({OK: 2}, {OK: 1, ("GET", "_unmatched", status): 1})
    assert seconds(registry) == 3, "until nobody could finish it, not until it was noticed"
    at_rest(registry)


def test_an_abandoned_request_is_settled_at_the_next_scrape(
    measured: Measured, registry: CollectorRegistry
) -> None:
    wrapped = measured(app_list)
    body = wrapped(environ_of(), Server().start_response)
    del body
    gc.collect()
    text = serve(wrapped, "/metrics").decode()
    assert "\nhttp_requests_in_progress 0.0\n" in text
    assert '\nhttp_requests_total{method="GET",route="_unmatched",status="200"} 1.0\n' in text


def test_threads_that_settle_at_once_do_not_fail_each_other(measured: Measured) -> None:
    """Between the look and the taking another thread may have been faster."""

    class Emptied(list[Any]):
        def __bool__(self) -> bool:
            return True

        def popleft(self) -> Any:
            return self.pop(0)

    wrapped = measured(app_list)
    wrapped.recorder.abandoned = Emptied()  # type: ignore[assignment]
    wrapped.recorder.settle()
    assert serve(wrapped) == b"abcd"


# One request, one count ------------------------------------------------------------------------------


def test_nested_middlewares_on_one_registry_count_once(
    measured: Measured, registry: CollectorRegistry
) -> None:
    wrapped = measured(measured(measured(hello)))
    assert serve(wrapped) == b"hello"
    assert requests(registry) == {OK: 1}
    at_rest(registry)


def test_an_environ_that_is_used_twice_counts_twice(measured: Measured, registry: CollectorRegistry) -> None:
    wrapped, environ = measured(hello), environ_of()
    Server().run(wrapped, environ)
    Server().run(wrapped, environ)
    assert requests(registry) == {OK: 2}
    at_rest(registry)


def test_requests_in_flight_at_once_are_in_progress(measured: Measured, registry: CollectorRegistry) -> None:
    wrapped = measured(hello)
    bodies: list[Any] = [wrapped(environ_of(), Server().start_response) for _ in range(3)]
    for left, body in zip((2, 1, 0), bodies, strict=True):
        body.close()
        assert in_progress(registry) == left


# Labels ----------------------------------------------------------------------------------------------


def test_fault_11_invented_methods_make_one_series(measured: Measured, registry: CollectorRegistry) -> None:
    wrapped = measured(hello)
    for number in range(100):
        serve(wrapped, method=f"METHOD{number}")
    serve(wrapped, method="get")
    serve(wrapped, method="")
    serve(wrapped, method="\xff" * 1000)
    assert requests(registry) == {("_OTHER", "_unmatched", "200"): 103}


def test_methods_that_the_user_adds_are_told_apart(measured: Measured, registry: CollectorRegistry) -> None:
    wrapped = measured(hello, extra_methods="PROPFIND")
    serve(wrapped, method="PROPFIND")
    serve(wrapped, method="LOCK")
    assert {method for method, *_ in requests(registry)} == {"PROPFIND", "_OTHER"}


def test_fault_10_unknown_paths_make_one_series(measured: Measured, registry: CollectorRegistry) -> None:
    wrapped = measured(hello)
    for number in range(100):
        serve(wrapped, f"/{number}/" + "".join(map(chr, range(256))))
    assert requests(registry) == {OK: 100}


def test_fault_12_a_spoofed_host_makes_no_series(measured: Measured, registry: CollectorRegistry) -> None:
    wrapped = measured(hello)
    for number in range(10):
        serve(wrapped, HTTP_HOST=f"{number}.example")
    assert requests(registry) == {OK: 10}


def test_set_route_tells_the_template(measured: Measured, registry: CollectorRegistry) -> None:
    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        when = environ["PATH_INFO"]
        if when == "/before":
            set_route(environ, "/before")
        start_response("200 OK", PLAIN)
        if when == "/after":
            set_route(environ, "/after")
        yield b"x"
        if when == "/late":
            set_route(environ, "/late")

    wrapped = measured(app)
    for when in ("/before", "/after", "/late", "/never"):
        serve(wrapped, when)
    assert {route for _, route, _ in requests(registry)} == {"/before", "/after", "/late", "_unmatched"}


def test_set_route_without_a_measurement_does_nothing() -> None:
    environ = environ_of()
    set_route(environ, "/x")
    assert KEY not in environ


def test_fault_19_excluded_routes_are_not_measured_and_their_neighbours_are(
    measured: Measured, registry: CollectorRegistry
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        set_route(environ, environ["PATH_INFO"])
        if environ["PATH_INFO"] == "/foo/boom":
            raise ValueError
        return hello(environ, start_response)

    wrapped = measured(app, exclude="/foo,/foo/*")
    for path in ("/foo", "/foo/x", "/foobar", "/foo", "/foobar"):
        serve(wrapped, path)
    with pytest.raises(ValueError):  # noqa: PT011
        serve(wrapped, "/foo/boom")
    assert requests(registry) == {("GET", "/foobar", "200"): 2}
    assert exceptions(registry) == {}
    at_rest(registry)


def test_status_classes(measured: Measured, registry: CollectorRegistry) -> None:
    wrapped = measured(hello, status_classes=True, duration_status=True)
    serve(wrapped)
    assert requests(registry) == {("GET", "_unmatched", "2xx"): 1}
    assert samples(registry, "http_request_duration_seconds_count", "status") == {("2xx",): 1}


def extra(recording: Recording) -> None:
    """Play the adapter that hands a framework's request and response to the extra labels."""
    recording.annotate("request", "response")


def test_extra_labels_get_request_and_response(measured: Measured, registry: CollectorRegistry) -> None:
    wrapped = measured(
        hello,
        annotate=extra,
        constant_labels={"site": "north"},
        extra_labels={"tenant": lambda request, response: f"{request}/{response}"},
    )
    serve(wrapped)
    assert samples(registry, "http_requests_total", "tenant", "site") == {("request/response", "north"): 1}
    assert samples(registry, "http_request_duration_seconds_count", "tenant", "site") == {
        ("request/response", "north"): 1
    }
    assert samples(registry, "http_requests_in_progress", "site") == {("north",): 0}


@pytest.mark.parametrize("error", [ValueError, KeyError, RecursionError])
def test_fault_34_an_extra_label_that_raises_costs_its_value_and_no_request(
    error: type[Exception], measured: Measured, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(request: Any, response: Any) -> str:
        raise error("hush")

    wrapped = measured(hello, annotate=extra, extra_labels={"bad": broken, "good": lambda *_: "x"})
    for _ in range(3):
        assert serve(wrapped) == b"hello"
    assert samples(registry, "http_requests_total", "bad", "good") == {("", "x"): 3}
    assert errors(registry) == {("label bad",): 3}
    assert len(caplog.records) == 1, "one warning, not one for each request"
    assert "label bad" in caplog.records[0].getMessage()
    assert "web_prom_instrumentation_errors_total" in caplog.records[0].getMessage()


def test_fault_55_no_client_can_break_the_lines_of_a_scrape(registry: CollectorRegistry) -> None:
    """Some readers split lines as ``str.splitlines()`` does."""

    def careless(environ: Any, start_response: Any) -> Iterable[bytes]:
        set_route(environ, f"/{environ.get('HTTP_X_TENANT', '')}")
        return hello(environ, start_response)

    tenant = {"tenant": lambda environ, _: environ.get("HTTP_X_TENANT", "")}
    app = PrometheusMiddleware(careless, registry=registry, extra_labels=tenant)
    for character in map(chr, (*range(32), *range(0x7F, 0xA0), 0x2028, 0x2029)):
        serve(app, "/x", HTTP_X_TENANT=f"a{character}b")
    text = serve(app, "/metrics").decode()
    assert text.splitlines() == text.removesuffix("\n").split("\n")
    found = samples(registry, "http_requests_total", "route", "tenant")
    assert found == {("/a?b", "a?b"): 66, ("/a\nb", "a\nb"): 1}
    assert len(app.recorder.cells) == 2, "what a client invents is no key of a cache"


def test_an_extra_label_of_a_request_that_failed_early_is_empty(
    measured: Measured, registry: CollectorRegistry
) -> None:
    wrapped = measured(raising(ValueError()), annotate=extra, extra_labels={"a": lambda *_: "x"})
    with pytest.raises(ValueError):  # noqa: PT011
        serve(wrapped)
    assert samples(registry, "http_requests_total", "status", "a") == {("500", ""): 1}
    assert samples(registry, "http_request_exceptions_total", "exception", "a") == {("ValueError", ""): 1}
    at_rest(registry)


@pytest.mark.parametrize(
    "value", ["\ud800", "a\udcffb", '\n\r"\\\x00\x7f\u2028', "", 7, None, b"x", "é" * 10_000]
)
def test_no_value_of_an_extra_label_can_break_a_scrape(
    value: Any, measured: Measured, registry: CollectorRegistry
) -> None:
    """A lone surrogate cannot be encoded: once stored it would fail every scrape."""
    wrapped = measured(hello, annotate=extra, extra_labels={"a": lambda *_: value})
    serve(wrapped)
    server = Server()
    server.run(wrapped, environ_of("/metrics"))
    assert server.status == "200 OK"
    assert sum(requests(registry).values()) == 1


# Instrumentation that fails --------------------------------------------------------------------------


def boom(*_: Any, **__: Any) -> Any:
    raise OSError("no space left on device")


def test_a_counter_that_raises_costs_no_request(
    measured: Measured,
    registry: CollectorRegistry,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrapped = measured(hello)
    monkeypatch.setattr("web_prom.cells.LocalCells.write", boom)
    for _ in range(3):
        assert serve(wrapped) == b"hello"
    assert errors(registry) == {("finish",): 3}
    assert in_progress(registry) == 0
    assert len(caplog.records) == 1


def test_labels_that_raise_cost_no_request(
    measured: Measured, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = measured(hello)
    monkeypatch.setattr(wrapped.recorder.instruments.duration.metric, "labels", boom)
    assert serve(wrapped) == b"hello"
    assert errors(registry) == {("finish",): 1}
    assert in_progress(registry) == 0
    monkeypatch.undo()
    assert serve(wrapped) == b"hello"
    assert requests(registry) == {OK: 1}, "what failed once is tried again"


def test_a_gauge_that_raises_costs_no_request(
    measured: Measured, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = measured(hello)
    monkeypatch.setattr(wrapped.recorder.openings["GET"], "enter", boom)
    assert serve(wrapped) == b"hello"
    assert errors(registry) == {("start",): 1}
    monkeypatch.undo()
    assert serve(wrapped) == b"hello"
    assert requests(registry) == {OK: 1}
    assert in_progress(registry) == 0


def test_a_queue_histogram_that_raises_costs_no_request_and_no_count(
    measured: Measured, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = measured(hello, queue_time=True)
    monkeypatch.setattr("web_prom.exchange.queue_seconds", lambda *_: 1.0)
    monkeypatch.setattr(wrapped.recorder.queue, "observe", boom)
    assert serve(wrapped, HTTP_X_REQUEST_START="t=1") == b"hello"
    assert errors(registry) == {("queue",): 1}
    assert requests(registry) == {OK: 1}
    assert in_progress(registry) == 0


def test_an_adapter_that_raises_costs_no_request(measured: Measured, registry: CollectorRegistry) -> None:
    assert serve(measured(hello, annotate=boom)) == b"hello"
    assert errors(registry) == {("annotate",): 1}
    assert requests(registry) == {OK: 1}
    assert in_progress(registry) == 0


def test_a_body_that_cannot_be_followed_is_served_as_it_is(
    measured: Measured, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = measured(hello)
    monkeypatch.setattr("web_prom.exchange.SizedBody", boom)
    assert serve(wrapped) == b"hello"
    assert errors(registry) == {("follow",): 1}
    assert requests(registry) == {OK: 1}
    assert in_progress(registry) == 0


def test_an_error_counter_that_raises_too_costs_no_request(
    measured: Measured, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = measured(hello, annotate=boom)
    monkeypatch.setattr(wrapped.recorder.instruments.errors, "labels", boom)
    assert serve(wrapped) == b"hello"
    assert requests(registry) == {OK: 1}


def test_headers_that_are_no_list_reach_the_server_as_they_are(
    measured: Measured, registry: CollectorRegistry
) -> None:
    headers: list[Any] = [(None, None), ("Content-Length",), 7]

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", headers)
        return [b"x"]

    server = Server()
    assert server.run(measured(app), environ_of()) == b"x"
    assert server.headers is headers
    assert requests(registry) == {OK: 1}


# Times -----------------------------------------------------------------------------------------------


def test_fault_01_a_stream_is_timed_to_its_end(
    measured: Measured, registry: CollectorRegistry, clock: Clock
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        clock.go(0.5)
        start_response("200 OK", PLAIN)

        def body() -> Iterator[bytes]:
            for _ in range(3):
                clock.go(0.1)
                yield b"x"
            clock.go(0.2)

        return body()

    serve(measured(app))
    assert seconds(registry) == pytest.approx(1.0)


def test_durations_fall_into_the_buckets_that_upstream_would_choose(
    measured: Measured, registry: CollectorRegistry, clock: Clock
) -> None:
    """A bound belongs to its bucket, as with prometheus_client's own observe()."""
    took: list[float] = [0.0, 0.1, 0.1000001, 0.5, 0.6, 1.0, 99.0]

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        clock.now = 0.0  # differences of small numbers are exact
        start_response("200 OK", PLAIN)
        clock.now = float(environ["HTTP_X_TOOK"])
        return [b"x"]

    wrapped = measured(app, duration_buckets="0.1,0.5,1")
    clock.now = 0.0
    from prometheus_client import Histogram

    oracle = Histogram("oracle", "Help.", buckets=(0.1, 0.5, 1), registry=registry)
    for value in took:
        clock.now = 0.0
        serve(wrapped, HTTP_X_TOOK=repr(value))
        oracle.observe(value)
    ours = samples(registry, "http_request_duration_seconds_bucket", "le")
    assert ours == samples(registry, "oracle_bucket", "le") == {
        ("0.1",): 2, ("0.5",): 4, ("1.0",): 6, ("+Inf",): 7,
    }  # fmt: skip
    assert seconds(registry) == registry.get_sample_value("oracle_sum")


def test_the_first_byte_is_timed_at_the_first_chunk_that_has_one(
    measured: Measured, registry: CollectorRegistry, clock: Clock
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        clock.go(1)
        start_response("200 OK", PLAIN)
        yield b""
        clock.go(2)
        yield b"x"
        clock.go(4)
        yield b"y"

    serve(measured(app, first_byte=True))
    assert seconds(registry, "http_response_first_byte_seconds") == 3
    assert seconds(registry) == 7


def test_the_first_byte_of_write_is_timed(
    measured: Measured, registry: CollectorRegistry, clock: Clock
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        write = start_response("200 OK", PLAIN)
        clock.go(1)
        write(b"x")
        clock.go(1)
        return [b"y"]

    serve(measured(app, first_byte=True, response_size=True))
    assert seconds(registry, "http_response_first_byte_seconds") == 1
    assert seconds(registry, "http_response_size_bytes") == 2


def test_a_response_without_a_byte_has_no_first_one(measured: Measured, registry: CollectorRegistry) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("204 No Content", [])
        return []

    serve(measured(app, first_byte=True))
    assert samples(registry, "http_response_first_byte_seconds_count", "route") == {("_unmatched",): 0}


NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("header", "waited"),
    [
        ("t=1699999999.5", 0.5),
        ("1699999999.5", 0.5),
        (" t=1699999999.5 ", 0.5),
        ("t=1699999999500", 0.5),
        ("1699999999500", 0.5),
        ("t=1699999999500000", 0.5),
        ("t=1700000000", 0.0),
        ("t=1699996400", 3600.0),
        ("t=1699996399", None),  # more than an hour
        ("t=1700000001", None),  # in the future
        ("t=0", None),
        ("t=-1", None),
        ("", None),
        ("t=", None),
        ("yesterday", None),
        ("t=nan", None),
        ("t=inf", None),
        ("t=-inf", None),
        ("t=1e400", None),
        ("t=1699999999.5, t=1699999999.6", None),
        ("x" * 10_000, None),
    ],
)
def test_queue_times(header: str, waited: float | None) -> None:
    assert queue_seconds(header, NOW) == pytest.approx(waited)


@settings(deadline=None, max_examples=60, database=None)
@given(st.one_of(st.text(), st.floats().map(str), st.integers().map(str)))
def test_no_header_makes_an_absurd_queue_time(header: str) -> None:
    waited = queue_seconds(header, NOW)
    assert waited is None or 0 <= waited <= 3600


def test_the_queue_time_is_observed_once_for_each_request_that_tells_it(
    measured: Measured, registry: CollectorRegistry
) -> None:
    import time

    wrapped = measured(hello, queue_time=True, constant_labels={"site": "a"})
    serve(wrapped)
    serve(wrapped, HTTP_X_REQUEST_START="nonsense")
    serve(wrapped, HTTP_X_REQUEST_START=f"t={time.time() - 0.5}")
    assert samples(registry, "http_request_queue_seconds_count", "site") == {("a",): 1}


# Sizes -----------------------------------------------------------------------------------------------


class Stream(io.BytesIO):
    """A server's input stream."""


READERS: dict[str, Callable[[Any], Any]] = {
    "read all": lambda stream: stream.read(),
    "read in pieces": lambda stream: [stream.read(3) for _ in range(20)],
    "read to -1": lambda stream: stream.read(-1),
    "readline": lambda stream: [stream.readline() for _ in range(5)],
    "readline in pieces": lambda stream: [stream.readline(2) for _ in range(20)],
    "readlines": lambda stream: stream.readlines(),
    "iterate": list,
    "nothing": lambda stream: None,
}
BODY = b"first line\nsecond\nthird"


@pytest.mark.parametrize("how", READERS)
def test_request_bytes_are_those_that_were_read(
    how: str, measured: Measured, registry: CollectorRegistry
) -> None:
    seen: list[Any] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        seen.append(READERS[how](environ["wsgi.input"]))
        return hello(environ, start_response)

    serve(
        measured(app, request_size=True),
        method="POST",
        **{"wsgi.input": Stream(BODY), "CONTENT_LENGTH": "9999"},
    )
    assert seen == [READERS[how](Stream(BODY))]
    expected = 0 if how == "nothing" else len(BODY)
    assert samples(registry, "http_request_size_bytes_sum", "method") == {("POST",): expected}


def test_request_bytes_that_were_not_read_do_not_count(
    measured: Measured, registry: CollectorRegistry
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield environ["wsgi.input"].read(5)  # while the body is sent

    serve(measured(app, request_size=True), **{"wsgi.input": Stream(BODY), "CONTENT_LENGTH": str(len(BODY))})
    assert seconds(registry, "http_request_size_bytes") == 5


def test_what_else_a_servers_stream_can_do_it_still_can(measured: Measured) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        stream = environ["wsgi.input"]
        assert stream.tell() == 0
        assert stream.seekable()
        with pytest.raises(AttributeError):
            stream.no_such_method()
        return hello(environ, start_response)

    serve(measured(app, request_size=True), **{"wsgi.input": Stream(BODY)})


def test_the_input_is_left_alone_unless_it_is_measured(measured: Measured) -> None:
    stream = Stream(BODY)

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        assert environ["wsgi.input"] is stream
        return hello(environ, start_response)

    serve(measured(app, response_size=True), **{"wsgi.input": stream})


def test_response_bytes_are_those_that_were_handed_out(
    measured: Measured, registry: CollectorRegistry
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        for _ in range(10):
            yield b"x" * 1000

    wrapped = measured(app, response_size=True)
    Server().run(wrapped, environ_of(), stop_after=3)
    assert seconds(registry, "http_response_size_bytes") == 3000
    serve(wrapped)
    assert seconds(registry, "http_response_size_bytes") == 13000


def test_optional_families_are_not_there_unless_asked_for(
    measured: Measured, registry: CollectorRegistry
) -> None:
    serve(measured(hello))
    assert {family.name for family in registry.collect()} == {
        "http_requests",
        "http_request_duration_seconds",
        "http_request_exceptions",
        "http_requests_in_progress",
        "web_prom_instrumentation_errors",
        "web_prom_label_overflow",
    }


# Scrapes ---------------------------------------------------------------------------------------------


def test_a_scrape_is_answered_and_not_counted(measured: Measured, registry: CollectorRegistry) -> None:
    wrapped = measured(hello)
    serve(wrapped)
    for _ in range(3):
        assert b"http_requests_total" in serve(wrapped, "/metrics")
    assert requests(registry) == {OK: 1}
    at_rest(registry)


@pytest.mark.parametrize("path", ["/metrics//", "/metricsx", "/x/metrics", "/", "", "//metrics", "/Metrics"])
def test_other_paths_are_the_applications(path: str, measured: Measured) -> None:
    assert serve(measured(hello), path) == b"hello"


@pytest.mark.parametrize("path", ["", "/", "/metrics"])
def test_an_empty_path_answers_no_scrape_anywhere(path: str, measured: Measured) -> None:
    """An empty PATH_INFO is the root of an application that is mounted below another."""
    wrapped = measured(hello, path="")
    assert serve(wrapped, path) == b"hello"
    environ = environ_of(path)
    del environ["PATH_INFO"]
    assert Server().run(wrapped, environ) == b"hello"


def test_a_path_of_other_letters_is_found(measured: Measured) -> None:
    wrapped = measured(hello, path="/größen")
    assert b"http_requests" in serve(wrapped, "/größen".encode().decode("latin-1"))


def test_a_mounted_application_answers_below_its_mount(measured: Measured) -> None:
    assert b"http_requests" in serve(measured(hello), "/metrics", SCRIPT_NAME="/shop")


def test_a_mounted_scrape_is_not_counted(measured: Measured, registry: CollectorRegistry) -> None:
    """Whoever mounts the application below a measured one."""
    assert b"http_requests" in serve(measured(make_wsgi_app(registry), path=""))
    assert requests(registry) == {}
    assert in_progress(registry) == 0


# Switches --------------------------------------------------------------------------------------------


def test_disabled_means_not_there_at_all(measured: Measured, registry: CollectorRegistry) -> None:
    wrapped = measured(hello, enabled=False)
    environ = environ_of("/metrics")
    assert Server().run(wrapped, environ) == b"hello"
    assert KEY not in environ
    assert list(registry.collect()) == []


def test_settings_come_from_the_environment(
    measured: Measured, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROM_NAMESPACE", "shop")
    monkeypatch.setenv("PROM_PATH", "/m")
    wrapped = measured(hello, path="/option")
    serve(wrapped)
    assert samples(registry, "shop_http_requests_total", "status") == {("200",): 1}
    assert b"shop_http_requests_total" in serve(wrapped, "/option")


def test_a_config_and_options_together_are_refused(measured: Measured) -> None:
    with pytest.raises(TypeError, match="path"):
        measured(hello, config=Config(), path="/x")


def test_a_mistaken_option_is_refused_at_start(measured: Measured) -> None:
    with pytest.raises(ValueError, match="max_label_sets"):
        measured(hello, max_label_sets=0)
    with pytest.raises(ValueError, match="PROM_NAMESPACE"):
        measured(hello, namspace="x")


def test_extra_labels_without_an_adapter(registry: CollectorRegistry) -> None:
    """They are computed from the environ, the status line and the headers."""
    labels = {
        "tenant": lambda environ, response: environ["HTTP_X_TENANT"],
        "kind": lambda environ, response: dict(response[1])["Content-Type"],
    }

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hi"]

    webtest.TestApp(PrometheusMiddleware(app, registry=registry, extra_labels=labels)).get(
        "/", headers={"X-Tenant": "acme"}
    )
    told = {"method": "GET", "route": "_unmatched", "status": "200", "tenant": "acme", "kind": "text/plain"}
    assert registry.get_sample_value("http_requests_total", told) == 1


def test_an_emptied_registry_takes_an_application_with_other_settings(registry: CollectorRegistry) -> None:
    """What a test suite has thrown away does not have to be agreed with."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return []

    PrometheusMiddleware(app, registry=registry, namespace="one")
    for collector in list(registry._collector_to_names):
        registry.unregister(collector)
    middleware = PrometheusMiddleware(app, registry=registry, namespace="two")
    b"".join(middleware({"REQUEST_METHOD": "GET"}, lambda *_: None))
    told = {"method": "GET", "route": "_unmatched", "status": "200"}
    assert registry.get_sample_value("two_http_requests_total", told) == 1


@pytest.mark.parametrize("naming", ["prometheus", "opentelemetry"])
@pytest.mark.parametrize("more", [{}, {"HTTP_UPGRADE": "websocket"}])
def test_fault_95_an_environ_without_a_method_is_measured(
    registry: CollectorRegistry, naming: str, more: Any
) -> None:
    """As one of another method; it is no error of the instrumentation."""
    app = PrometheusMiddleware(hello, registry=registry, naming=naming)
    environ = environ_of("/", **more)
    del environ["REQUEST_METHOD"]
    assert Server().run(app, environ) == b"hello"
    assert "REQUEST_METHOD" not in environ
    assert errors(registry) == {}
    name, label = ("http_requests_total", "method")
    if naming == "opentelemetry":
        name, label = "http_server_request_duration_seconds_count", "http_request_method"
    assert samples(registry, name, label) == {("_OTHER",): 1}
