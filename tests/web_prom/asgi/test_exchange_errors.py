"""ASGI applications that fail: the status and the exceptions that are counted."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom.asgi.asgi_server import (
    Message,
    Receive,
    Scope,
    Send,
    Server,
    chunk,
    scope_of,
    sending,
    serve,
    start,
)
from tests.web_prom.asgi.support import BROKEN, OK, OPTIONS, Measure, assert_idle, raises, refuse
from tests.web_prom.support import Clock, exceptions, in_progress, requests, seconds
from web_prom.asgi import set_route


@pytest.mark.parametrize("error", [ValueError("secret"), SystemExit(1), KeyboardInterrupt(), OSError("disk")])
@pytest.mark.parametrize("options", OPTIONS)
def test_exception_of_the_application_is_counted_with_status_500(
    error: BaseException, options: dict[str, Any], measure: Measure, registry: CollectorRegistry
) -> None:
    with pytest.raises(type(error)) as raised:
        Server().run(measure(sending(error=error), **options))
    assert raised.value is error
    assert requests(registry) == {BROKEN: 1}
    assert exceptions(registry) == {("_unmatched", type(error).__name__): 1}
    assert_idle(registry)


@pytest.mark.parametrize("before", [0, 1, 2])
def test_fault_02_exception_during_a_body_keeps_the_sent_status(
    before: int, measure: Measure, registry: CollectorRegistry
) -> None:
    raises(
        measure(sending(start(), *[chunk(b"x", more=True)] * before, error=ZeroDivisionError())),
        ZeroDivisionError,
    )
    assert requests(registry) == {OK: 1}
    assert exceptions(registry) == {("_unmatched", "ZeroDivisionError"): 1}
    assert_idle(registry)


def test_missing_response_is_counted_with_status_500(measure: Measure, registry: CollectorRegistry) -> None:
    Server().run(measure(sending()))
    assert requests(registry) == {BROKEN: 1}
    assert exceptions(registry) == {}
    assert_idle(registry)


def test_incomplete_body_finishes_the_request(measure: Measure, registry: CollectorRegistry) -> None:
    Server().run(measure(sending(start(206), chunk(b"a", more=True))))
    assert requests(registry) == {("GET", "_unmatched", "206"): 1}
    assert_idle(registry)


@pytest.mark.parametrize("swallowed", [False, True])
def test_response_start_that_the_server_rejects_is_a_500(
    swallowed: bool, measure: Measure, registry: CollectorRegistry
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(RuntimeError if swallowed else AssertionError):
            await send(start(201))

    server = Server(fail=refuse("http.response.start", RuntimeError("bad header")))
    with contextlib.suppress(RuntimeError):
        server.run(measure(app))
    assert server.status == 500
    assert requests(registry) == {BROKEN: 1}
    assert exceptions(registry) == ({} if swallowed else {("_unmatched", "RuntimeError"): 1})


def test_second_response_start_keeps_the_first_status(measure: Measure, registry: CollectorRegistry) -> None:
    """The server rejects a second start."""
    Server().run(measure(sending(start(201), start(404), chunk())))
    assert requests(registry) == {("GET", "_unmatched", "201"): 1}


def test_handled_exception_is_counted_if_the_status_is_a_server_error(
    measure: Measure, registry: CollectorRegistry
) -> None:
    """Frameworks send the response while the exception is handled."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            raise {"/key": KeyError, "/late": LookupError}.get(scope["path"], ValueError)
        except KeyError:
            await sending(start(503), chunk())(scope, receive, send)
        except ValueError:
            await sending(start(404), chunk())(scope, receive, send)
        except LookupError as error:
            await sending(start(500), chunk())(scope, receive, send)
            raise RuntimeError from error

    wrapped = measure(app)
    serve(wrapped, "/key")
    serve(wrapped, "/value")
    assert exceptions(registry) == {("_unmatched", "KeyError"): 1}
    raises(wrapped, RuntimeError, path="/late")
    assert {status for _, _, status in requests(registry)} == {"503", "404", "500"}
    assert_idle(registry)


@pytest.mark.parametrize("inside", [True, False])
def test_handled_exception_that_is_raised_again_is_counted_once(
    inside: bool, measure: Measure, registry: CollectorRegistry
) -> None:
    """Starlette's ServerErrorMiddleware raises it again inside the handler, others after it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            raise ValueError
        except ValueError as error:
            kept = error
            if inside:
                await sending(start(500), chunk(b"oops"))(scope, receive, send)
        if not inside:
            await sending(start(500), chunk(b"oops"))(scope, receive, send)
        raise kept

    raises(measure(app), ValueError)
    assert requests(registry) == {BROKEN: 1}
    assert exceptions(registry) == {("_unmatched", "ValueError"): 1}
    assert_idle(registry)


def test_exception_after_the_response_of_an_excluded_route_is_not_counted(
    measure: Measure, registry: CollectorRegistry
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        set_route(scope, "/health")
        await sending(start(500), chunk(), error=ValueError())(scope, receive, send)

    raises(measure(app, exclude="/health"), ValueError)
    assert requests(registry) == {}
    assert exceptions(registry) == {}


@pytest.mark.parametrize("status", [200, 404])
def test_background_task_is_not_included_in_the_request(
    status: int, measure: Measure, registry: CollectorRegistry, clock: Clock
) -> None:
    """Background tasks are not included in the request duration."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        clock.go(1)
        await sending(start(status), chunk(b"x"))(scope, receive, send)
        assert in_progress(registry) == 0
        clock.go(100)
        raise ValueError

    raises(measure(app), ValueError)
    assert requests(registry) == {("GET", "_unmatched", str(status)): 1}
    assert exceptions(registry) == {}
    assert seconds(registry) == 1
    assert_idle(registry)


@pytest.mark.parametrize("status", [None, "200", b"200", 99, 1000, 20.5])
def test_invalid_status_reaches_the_server_unchanged(
    status: Any, measure: Measure, registry: CollectorRegistry
) -> None:
    message = {"type": "http.response.start", "status": status}
    server = Server()
    server.run(measure(sending(message, chunk(b"x"))))
    assert server.sent[0] is message
    assert sum(requests(registry).values()) == 1
    assert {status for _, _, status in requests(registry)} <= {"_OTHER", "200"}
    assert in_progress(registry) == 0


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"type": None},
        {"type": "http.response.start"},
        [],
        None,
        7,
        {"type": "http.response.body", "body": None},
    ],
)
@pytest.mark.parametrize("options", OPTIONS)
def test_invalid_message_reaches_the_server_unchanged(
    message: Any, options: dict[str, Any], measure: Measure, registry: CollectorRegistry
) -> None:
    taken: list[Any] = []

    async def send(message: Message) -> None:
        taken.append(message)

    asyncio.run(measure(sending(message), **options)(scope_of(), Server().receive, send))
    assert taken == [message]
    assert sum(requests(registry).values()) == 1
    assert in_progress(registry) == 0


@pytest.mark.parametrize(
    "message",
    [
        {"type": "http.response.trailers", "headers": [], "more_trailers": False},
        {"type": "http.response.push", "path": "/x", "headers": []},
        {"type": "http.response.early_hint", "links": []},
        {"type": "http.response.debug", "info": {}},
    ],
)
def test_messages_of_extensions_reach_the_server_unchanged(
    message: Message, measure: Measure, registry: CollectorRegistry
) -> None:
    for place in range(4):
        messages = [start(), chunk(b"a", more=True), chunk(b"b")]
        messages.insert(place, message)
        server = Server()
        server.run(measure(sending(*messages)))
        assert server.sent == messages
    assert requests(registry) == {OK: 4}
    assert_idle(registry)


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_exception_that_was_handled_before_the_call_is_not_counted(
    layers: int, measure: Measure, registry: CollectorRegistry
) -> None:
    """A middleware calls its application in an ``except`` block. The application answers 503 itself."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/bug":
            try:
                raise ZeroDivisionError
            except ZeroDivisionError:
                await sending(start(500), chunk())(scope, receive, send)
                raise
        await sending(start(503), chunk())(scope, receive, send)

    def falling_back(wrapped: Any) -> Any:
        async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                raise LookupError
            except LookupError:
                await wrapped(scope, receive, send)

        return middleware

    wrapped: Any = falling_back(measure(app))
    for _ in range(layers):
        wrapped = falling_back(measure(wrapped))
    Server().run(wrapped)
    assert exceptions(registry) == {}
    raises(wrapped, ZeroDivisionError, path="/bug")
    assert exceptions(registry) == {("_unmatched", "ZeroDivisionError"): 1}
    assert requests(registry) == {("GET", "_unmatched", "503"): 1, BROKEN: 1}
    assert_idle(registry)


def test_answered_exception_without_a_traceback_is_counted(
    measure: Measure, registry: CollectorRegistry
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            raise ValueError
        except ValueError as error:
            error.__traceback__ = None
            await sending(start(500), chunk())(scope, receive, send)

    serve(measure(app))
    assert exceptions(registry) == {("_unmatched", "ValueError"): 1}
