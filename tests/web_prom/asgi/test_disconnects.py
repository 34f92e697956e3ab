"""ASGI clients that disconnect, and requests that the server cancels."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom.asgi.asgi_server import (
    DISCONNECT,
    App,
    Message,
    Receive,
    Scope,
    Send,
    Server,
    chunk,
    hello,
    scope_of,
    sending,
    start,
)
from tests.web_prom.asgi.support import BROKEN, GONE, OK, Measure, assert_idle, raises, refuse
from tests.web_prom.support import Clock, exceptions, in_progress, requests, seconds


class ClientDisconnect(Exception):
    """An exception with the name of Starlette's."""


async def wait_for_the_end(receive: Receive) -> None:
    """Receive until the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


@pytest.mark.parametrize(
    "error",
    [
        *(None, ClientDisconnect(), asyncio.CancelledError()),
        *(BrokenPipeError(), ConnectionResetError(), ConnectionAbortedError()),
    ],
)
def test_disconnect_before_the_response_is_a_499_without_an_exception(
    error: BaseException | None, measure: Measure, registry: CollectorRegistry
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await wait_for_the_end(receive)
        if error is not None:
            raise error

    with contextlib.suppress(*[type(error)] if error else []):
        Server([{"type": "http.request"}, DISCONNECT]).run(measure(app))
    assert requests(registry) == {GONE: 1}
    assert exceptions(registry) == {}
    assert_idle(registry)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="has no groups of exceptions")
def test_exception_group_of_disconnects_is_a_disconnect(
    measure: Measure, registry: CollectorRegistry
) -> None:
    group = getattr(__import__("builtins"), "ExceptionGroup")  # noqa: B009

    def app(*errors: Exception) -> App:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await wait_for_the_end(receive)
            raise group("several", errors)

        return app

    raises(measure(app(ClientDisconnect(), BrokenPipeError())), group, Server([DISCONNECT]))
    assert exceptions(registry) == {}
    raises(measure(app(ClientDisconnect(), ValueError())), group, Server([DISCONNECT]))
    assert exceptions(registry) == {("_unmatched", "ExceptionGroup"): 1}
    assert requests(registry) == {GONE: 2}


OF_THE_APPLICATION = [
    *(ValueError, asyncio.TimeoutError, TimeoutError, ConnectionRefusedError, FileNotFoundError, OSError)
]


@pytest.mark.parametrize("error", OF_THE_APPLICATION)
def test_exception_after_a_disconnect_is_counted(
    error: type[Exception], measure: Measure, registry: CollectorRegistry
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await wait_for_the_end(receive)
        raise error

    raises(measure(app), error, Server([DISCONNECT]))
    assert requests(registry) == {GONE: 1}
    assert exceptions(registry) == {("_unmatched", error.__name__): 1}


@pytest.mark.parametrize("raised_again", [False, True])
@pytest.mark.parametrize("error", OF_THE_APPLICATION)
def test_server_error_after_a_disconnect_keeps_its_status_and_its_exception(
    error: type[Exception], raised_again: bool, measure: Measure, registry: CollectorRegistry
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await wait_for_the_end(receive)
        try:
            raise error
        except Exception:
            await sending(start(500), chunk())(scope, receive, send)
            if raised_again:
                raise

    with contextlib.suppress(error):
        Server([DISCONNECT]).run(measure(app))
    assert requests(registry) == {BROKEN: 1}
    assert exceptions(registry) == {("_unmatched", error.__name__): 1}
    assert_idle(registry)


def test_server_error_without_an_exception_after_a_disconnect_keeps_its_status(
    measure: Measure, registry: CollectorRegistry
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await wait_for_the_end(receive)
        await sending(start(503), chunk())(scope, receive, send)

    Server([DISCONNECT]).run(measure(app))
    assert requests(registry) == {("GET", "_unmatched", "503"): 1}


@pytest.mark.parametrize("error", [ClientDisconnect, ConnectionResetError])
def test_server_error_that_answers_a_disconnect_is_a_499(
    error: type[Exception], measure: Measure, registry: CollectorRegistry
) -> None:
    """Frameworks answer a disconnect that they raised as any exception."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await wait_for_the_end(receive)
        try:
            raise error
        except Exception:
            await sending(start(500), chunk())(scope, receive, send)
            raise

    raises(measure(app), error, Server([DISCONNECT]))
    assert requests(registry) == {GONE: 1}
    assert exceptions(registry) == {}
    assert_idle(registry)


def test_response_after_a_disconnect_is_a_499(measure: Measure, registry: CollectorRegistry) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await wait_for_the_end(receive)
        await hello(scope, receive, send)

    Server([DISCONNECT]).run(measure(app))
    assert requests(registry) == {GONE: 1}
    assert_idle(registry)


@pytest.mark.parametrize("swallowed", [False, True])
def test_send_that_raises_oserror_is_a_499(
    swallowed: bool, measure: Measure, registry: CollectorRegistry
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(OSError if swallowed else AssertionError):
            await send(start())

    with contextlib.suppress(ConnectionResetError):
        Server(fail=refuse("http.response.start", ConnectionResetError())).run(measure(app))
    assert requests(registry) == {GONE: 1}
    assert exceptions(registry) == {}
    assert_idle(registry)


class Gone(OSError):
    """An error of a server without a name that is known."""


@pytest.mark.parametrize("own", [False, True])
def test_oserror_that_send_raised_is_a_disconnect_and_no_other_is(
    own: bool, measure: Measure, registry: CollectorRegistry
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        try:
            await asyncio.ensure_future(send(chunk(b"x", more=True)))
        except OSError:
            if not own:
                raise
        raise Gone

    raises(measure(app), Gone, Server(fail=refuse("http.response.body", Gone())))
    assert requests(registry) == {OK: 1}
    assert exceptions(registry) == ({("_unmatched", "Gone"): 1} if own else {})


@pytest.mark.parametrize("error", [None, ClientDisconnect(), ConnectionResetError()])
def test_fault_02_disconnect_during_a_body_keeps_the_sent_status(
    error: BaseException | None, measure: Measure, registry: CollectorRegistry, clock: Clock
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        try:
            for _ in range(100):
                clock.go(0.25)
                await send(chunk(b"x", more=True))
        except OSError:
            if error is not None:
                raise error from None

    left = [3]

    def hang_up(message: Message) -> None:
        if message["type"] == "http.response.body":
            left[0] -= 1
            if not left[0]:
                raise ConnectionResetError

    with contextlib.suppress(*[type(error)] if error else []):
        Server(fail=hang_up).run(measure(app))
    assert requests(registry) == {OK: 1}
    assert exceptions(registry) == {}, "a disconnect is no exception of the application"
    assert seconds(registry) == 0.75
    assert_idle(registry)


async def cancelled(app: App, scope: Scope, when: Callable[[Server], bool]) -> Server:
    """Serve a request, and cancel its task as soon as a condition is true."""
    server = Server([])
    task = asyncio.ensure_future(server.serve(app, scope))
    while not when(server):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return server


@pytest.mark.parametrize("started", [False, True])
def test_cancellation_by_the_server_is_no_exception(
    started: bool, measure: Measure, registry: CollectorRegistry
) -> None:
    """Some servers cancel a request when the client disconnects, all servers when they stop."""
    waiting: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if started:
            await send(start())
        waiting.append(1)
        await asyncio.Event().wait()

    asyncio.run(cancelled(measure(app), scope_of(), lambda server: bool(waiting)))
    assert requests(registry) == {OK if started else GONE: 1}
    assert exceptions(registry) == {}
    assert_idle(registry)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="cannot tell who cancelled")
def test_cancellation_by_the_application_is_an_exception(
    measure: Measure, registry: CollectorRegistry
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    raises(measure(app), asyncio.CancelledError)
    assert requests(registry) == {BROKEN: 1}
    assert exceptions(registry) == {("_unmatched", "CancelledError"): 1}


def test_unresumed_request_is_finished_when_its_coroutine_is_closed(
    measure: Measure, registry: CollectorRegistry
) -> None:
    """The event loop ended before the request."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(1)

    async def begin() -> Any:
        coroutine = Server([]).serve(measure(app), scope_of())
        coroutine.send(None)
        return coroutine

    coroutine = asyncio.run(begin())
    assert in_progress(registry) == 1
    coroutine.close()
    assert requests(registry) == {GONE: 1}
    assert exceptions(registry) == {}
    assert_idle(registry)


async def cancelled_in_a_route(scope: Scope, receive: Receive, send: Send) -> None:
    """Set a route; then the server cancels the task."""

    class Route:
        path, endpoint = "/users/{id}", hello

    scope["route"] = Route
    if scope["query_string"]:
        await send(start())
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(1)


@pytest.mark.parametrize(("query", "status"), [(b"", "499"), (b"started", "200")])
def test_fault_90_cancelled_request_has_its_route(
    query: bytes, status: str, measure: Measure, registry: CollectorRegistry
) -> None:
    wrapped = measure(cancelled_in_a_route)

    async def main() -> None:
        task = asyncio.ensure_future(Server().serve(wrapped, scope_of(query_string=query)))
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())
    assert requests(registry) == {("GET", "/users/{id}", status): 1}
    assert exceptions(registry) == {}
    assert_idle(registry)


@pytest.mark.parametrize(
    ("module", "disconnected", "status", "counted"),
    [
        ("uvicorn.protocols.http", True, 200, "499"),
        ("uvicorn.protocols.http", True, 404, "499"),
        ("uvicorn.protocols.http", True, 503, "503"),
        ("uvicorn.protocols.http", False, 200, "200"),
        ("uvicorn.protocols.http", None, 200, "200"),  # another release
        ("elsewhere", True, 200, "200"),
    ],
)
def test_fault_91_disconnect_attribute_of_each_known_server_is_read(  # noqa: PLR0917
    module: str,
    disconnected: bool | None,
    status: int,
    counted: str,
    measure: Measure,
    registry: CollectorRegistry,
) -> None:
    names = {"__module__": module, **({"disconnected": disconnected} if disconnected is not None else {})}
    server = type("Cycle", (Server,), names)()
    server.run(measure(sending(start(status), chunk())))
    assert requests(registry) == {("GET", "_unmatched", counted): 1}
    assert len(server.sent) == 2, "the messages are unchanged"
    assert_idle(registry)
