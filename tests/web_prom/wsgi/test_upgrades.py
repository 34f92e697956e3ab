"""WSGI requests that ask for a WebSocket: which of them are recorded as a WebSocket, and what is counted."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom.asgi.test_websocket import connections, open_now
from tests.web_prom.support import (
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
)
from tests.web_prom.wsgi.support import Measure
from web_prom import PrometheusMiddleware
from web_prom.metrics.recording import RECORDING_KEY
from web_prom.wsgi import set_route

UPGRADE = {"HTTP_UPGRADE": "websocket", "HTTP_CONNECTION": "Upgrade"}


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return a registry of the test's own."""
    return CollectorRegistry()


def connect(app: App, path: str = "/", **more: Any) -> Server:
    """Serve one request that asks for a WebSocket, and ignore exceptions, as a server does."""
    server = Server()
    with contextlib.suppress(BaseException):
        server.run(app, environ_of(path, **{**UPGRADE, **more}))
    return server


def raising(error: BaseException) -> App:
    """Return an application that raises."""

    def app(environ: Environ, _: Any) -> Iterable[bytes]:
        set_route(environ, "/ws")
        raise error

    return app


def returning(body: Any) -> App:
    """Return an application that starts no response."""

    def app(environ: Environ, _: Any) -> Iterable[bytes]:
        set_route(environ, "/ws")
        return body  # type: ignore[no-any-return]

    return app


def uwsgi_receive() -> OSError:
    """Return the exception that uWSGI raises after the end of a WebSocket."""
    return OSError("unable to receive websocket message")


def count(registry: CollectorRegistry) -> float:
    """Return the count of the duration histogram."""
    return sum(samples(registry, "http_request_duration_seconds_count", "route").values())


LEAVING = {
    "StopIteration": raising(StopIteration()),
    "ConnectionError": raising(ConnectionError()),
    "uWSGI's OSError": raising(uwsgi_receive()),
    "list": returning([]),
    "tuple": returning(()),
    "bytes": returning(b""),
    "text": returning(""),
    "empty chunks": returning([b"", b""]),
    "iterator": returning(iter([])),
    "object": returning(object()),
}


@pytest.mark.parametrize("app", LEAVING.values(), ids=LEAVING)
@pytest.mark.parametrize("sized", [False, True])
def test_fault_37_upgrade_without_a_response_is_a_websocket(
    measure: Measure, registry: CollectorRegistry, clock: Clock, app: App, sized: bool
) -> None:
    """It is no request, no exception, and not in the duration histogram."""
    found: list[tuple[float | None, float | None]] = []

    def timed(environ: Environ, start_response: Any) -> Iterable[bytes]:
        found.append((open_now(registry), in_progress(registry)))
        clock.go(4000)
        return app(environ, start_response)

    connect(measure(timed, response_size=sized, request_size=sized, first_byte=sized))
    assert found == [(1, 0)]
    assert connections(registry) == {("/ws", "_unknown"): 1}
    assert seconds(registry, "websocket_connection_duration_seconds") == 4000
    assert (open_now(registry), in_progress(registry), count(registry)) == (0, 0, 0)
    assert (requests(registry), exceptions(registry), errors(registry)) == ({}, {}, {})


@pytest.mark.parametrize("body", [[], (), b"", ""], ids=repr)
def test_fault_37_empty_body_is_returned_as_the_same_object(measure: Measure, body: Any) -> None:
    """Servers compare it with the object that means that the connection is taken."""
    assert measure(returning(body))(environ_of("/", **UPGRADE), Server().start_response) is body


ERRORS = [
    ValueError("x"),
    StopIteration(1),
    ConnectionError("the database is down"),
    ConnectionRefusedError(),
    ConnectionResetError(),
    BrokenPipeError(),
    OSError("no such file"),
    OSError("unable to complete websocket handshake"),
    SystemExit(),
]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_fault_37_exception_before_the_handshake_is_counted_with_status_500(
    measure: Measure, registry: CollectorRegistry, error: BaseException
) -> None:
    """A client cannot hide the error by asking for a WebSocket."""
    connect(measure(raising(error)))
    assert requests(registry) == {("GET", "/ws", "500"): 1}
    assert exceptions(registry) == {("/ws", type(error).__name__): 1}
    assert (open_now(registry), in_progress(registry), count(registry)) == (0, 0, 1)
    assert connections(registry) == {}


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "403 No", "426 Upgrade Required", "500 No"])
@pytest.mark.parametrize("sized", [False, True])
def test_fault_37_upgrade_with_a_response_is_a_request(
    measure: Measure, registry: CollectorRegistry, status: str, sized: bool
) -> None:
    """It is in progress as a request from the start of the response on."""
    found: list[tuple[float | None, float | None]] = []

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response(status, [("Content-Type", "text/plain")])
        found.append((open_now(registry), in_progress(registry)))
        return [b"answer"]

    assert connect(measure(app, response_size=sized)).sent == [b"answer"]
    assert found == [(0, 1)]
    assert requests(registry) == {("GET", "_unmatched", status[:3]): 1}
    assert (open_now(registry), in_progress(registry), count(registry)) == (0, 0, 1)
    assert connections(registry) == {}
    if sized:
        assert seconds(registry, "http_response_size_bytes") == 6


def test_fault_37_upgrade_with_status_101_is_a_websocket(
    measure: Measure, registry: CollectorRegistry
) -> None:
    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("101 Switching Protocols", [])
        return [b"frames"]

    assert connect(measure(app)).sent == [b"frames"]
    assert connections(registry) == {("_unmatched", "_unknown"): 1}
    assert requests(registry) == {}


def test_fault_37_response_started_by_the_body_is_a_request(
    measure: Measure, registry: CollectorRegistry
) -> None:
    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        yield b"late"

    assert connect(measure(app)).sent == [b"late"]
    assert requests(registry) == {("GET", "_unmatched", "200"): 1}
    assert connections(registry) == {}


@pytest.mark.parametrize("more", [{}, {"HTTP_UPGRADE": "h2c"}, {**UPGRADE, "REQUEST_METHOD": "POST"}])
@pytest.mark.parametrize("app", [raising(StopIteration()), returning([])], ids=["raises", "returns"])
def test_fault_37_missing_response_without_upgrade_is_counted_with_status_500(
    measure: Measure, registry: CollectorRegistry, app: App, more: Any
) -> None:
    environ = environ_of("/", **more)
    with contextlib.suppress(BaseException):
        Server().run(measure(app), environ)
    assert {key[1:]: value for key, value in requests(registry).items()} == {("/ws", "500"): 1}
    assert connections(registry) == {}
    assert open_now(registry) is None


@pytest.mark.parametrize("body", [[b"text"], (chunk for chunk in [b"text"])], ids=["list", "generator"])
def test_fault_37_body_without_start_response_is_counted_with_status_500(
    measure: Measure, registry: CollectorRegistry, body: Any
) -> None:
    """The server raises at the first chunk, and closes the body."""
    connect(measure(returning(body)))
    assert requests(registry) == {("GET", "/ws", "500"): 1}
    assert connections(registry) == {}


def test_fault_37_unread_body_of_a_websocket_is_counted(
    measure: Measure, registry: CollectorRegistry
) -> None:
    app = measure(returning(iter([])))
    app(environ_of("/", **UPGRADE), Server().start_response)
    gc.collect()
    Server().run(app, environ_of("/metrics"))
    assert connections(registry) == {("/ws", "_unknown"): 1}
    assert open_now(registry) == 0


# Reports of libraries ---------------------------------------------------------------------------------------


def accepting(act: Callable[[Any], object], answer: str | None = None) -> App:
    """Return an application whose library accepts a WebSocket, and that then calls a function."""

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        set_route(environ, "/ws")
        upgrade = environ[RECORDING_KEY]
        upgrade.accept("1006")
        act(upgrade)
        if answer is not None:
            start_response(answer, [("Content-Type", "text/plain")])
        return [b"not sent"] if answer else []

    return app


def fail(error: BaseException) -> Callable[[Any], object]:
    """Return a function that raises."""

    def act(_: Any) -> None:
        raise error

    return act


def close_and_fail(upgrade: Any) -> None:
    """Record a close frame, then raise."""
    upgrade.record_close_frame(1000)
    raise ValueError


ENDS = {
    "returns": (accepting(bool), "1006"),
    "answers 200 afterwards": (accepting(bool, "200 OK"), "1006"),  # Flask-Sock under Werkzeug
    "answers 500 afterwards": (accepting(bool, "500 No"), "1011"),
    "StopIteration": (accepting(fail(StopIteration())), "1006"),
    "ConnectionError": (accepting(fail(ConnectionError())), "1006"),
    "peer has disconnected": (accepting(fail(ConnectionResetError(104, "reset"))), "1006"),
    "worker exits": (accepting(fail(SystemExit())), "1006"),
    "handler fails": (accepting(fail(ValueError("x"))), "1011"),
    "closes": (accepting(lambda upgrade: upgrade.record_close_frame(4000)), "_OTHER"),
    "closes, then the peer does": (
        accepting(lambda upgrade: (upgrade.record_close_frame(1001), upgrade.record_close_frame(1000))),
        "1001",
    ),
    "closes, then fails": (accepting(close_and_fail), "1000"),
}


@pytest.mark.parametrize(("app", "code"), ENDS.values(), ids=ENDS)
def test_fault_37_accepted_websocket_has_the_close_code_of_its_end(
    measure: Measure, registry: CollectorRegistry, app: App, code: str
) -> None:
    """The kind does not change after that. The close code describes the end."""
    connect(measure(app))
    assert connections(registry) == {("/ws", code): 1}
    assert (requests(registry), exceptions(registry), errors(registry)) == ({}, {}, {})
    assert (open_now(registry), in_progress(registry), count(registry)) == (0, 0, 0)


def test_fault_37_messages_are_counted_until_the_end(measure: Measure, registry: CollectorRegistry) -> None:
    late: list[Any] = []

    def act(upgrade: Any) -> None:
        upgrade.count_message("received")
        upgrade.count_message("sent")
        upgrade.count_message("sent")
        late.append(upgrade)

    connect(measure(accepting(act)))
    late[0].count_message("sent")  # by another thread of the library, after the end
    assert samples(registry, "websocket_messages_total", "route", "direction") == {
        ("/ws", "received"): 1,
        ("/ws", "sent"): 2,
    }


# Labels -----------------------------------------------------------------------------------------------------


def test_fault_37_excluded_routes_are_not_counted(measure: Measure, registry: CollectorRegistry) -> None:
    connect(measure(returning([]), exclude=["/ws"]))
    assert connections(registry) == {}
    assert open_now(registry) == 0


def test_fault_37_extra_labels_of_a_websocket_get_status_101(
    measure: Measure, registry: CollectorRegistry
) -> None:
    labels = {"host": lambda environ, response: f"{environ['HTTP_HOST']} {response[0][:3]}"}
    app = measure(returning([]), extra_labels=labels)
    connect(app, HTTP_HOST="shop")
    assert samples(registry, "websocket_connections_total", "route", "host") == {("/ws", "shop 101"): 1}


@pytest.mark.parametrize("name", ["code", "direction"])
def test_fault_37_extra_label_with_a_reserved_name_disables_websockets(
    measure: Measure, registry: CollectorRegistry, name: str
) -> None:
    """The WebSocket metrics have labels with these names. Requests are still measured."""
    connect(measure(hello, extra_labels={name: lambda *_: "x"}))
    assert requests(registry) == {("GET", "_unmatched", "200"): 1}
    assert errors(registry) == {}


def test_fault_37_inner_middleware_sets_the_route(registry: CollectorRegistry) -> None:
    def resolve_route(recording: Any) -> None:
        recording.route = "/inner"

    inner = PrometheusMiddleware(lambda *_: [], registry=registry, resolve_route=resolve_route)
    connect(PrometheusMiddleware(inner, registry=registry))
    assert connections(registry) == {("/inner", "_unknown"): 1}
