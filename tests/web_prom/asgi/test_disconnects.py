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
    HANG_UP,
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
from tests.web_prom.asgi.support import BROKEN, GONE, OK, Measured, at_rest, raises, refuse
from tests.web_prom.support import Clock, exceptions, in_progress, requests, seconds


class ClientDisconnect(Exception):
    """As Starlette names it."""


async def wait_for_the_end(receive: Receive) -> None:
    """Read until the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


@pytest.mark.parametrize("error", [None, ClientDisconnect(), asyncio.CancelledError(), OSError("gone")])
def test_disconnect_before_the_response_is_a_499_without_an_exception(
    error: BaseException | None, measured: Measured, registry: CollectorRegistry
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await wait_for_the_end(receive)
        if error is not None:
            raise error

    with contextlib.suppress(*[type(error)] if error else []):
        Server([{"type": "http.request"}, HANG_UP]).run(measured(app))
    assert requests(registry) == {GONE: 1}
    assert exceptions(registry) == {}
    at_rest(registry)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="has no groups of exceptions")
def test_exception_group_of_disconnects_is_a_disconnect(
    measured: Measured, registry: CollectorRegistry
) -> None:
    group = getattr(__import__("builtins"), "ExceptionGroup")  # noqa: B009

    def app(*errors: Exception) -> App:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await wait_for_the_end(receive)
            raise group("several", errors)

        return app

    raises(measured(app(ClientDisconnect(), OSError())), group, Server([HANG_UP]))
    assert exceptions(registry) == {}
    raises(measured(app(ClientDisconnect(), ValueError())), group, Server([HANG_UP]))
    assert exceptions(registry) == {("_unmatched", "ExceptionGroup"): 1}
    assert requests(registry) == {GONE: 2}


def test_exception_after_a_disconnect_is_counted(measured: Measured, registry: CollectorRegistry) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await wait_for_the_end(receive)
        raise ValueError

    raises(measured(app), ValueError, Server([HANG_UP]))
    assert requests(registry) == {GONE: 1}
    assert exceptions(registry) == {("_unmatched", "ValueError"): 1}


def test_response_after_a_disconnect_is_a_499(measured: Measured, registry: CollectorRegistry) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await wait_for_the_end(receive)
        await hello(scope, receive, send)

    Server([HANG_UP]).run(measured(app))
    assert requests(registry) == {GONE: 1}
    at_rest(registry)


@pytest.mark.parametrize("swallowed", [False, True])
def test_send_that_raises_oserror_is_a_499(
    swallowed: bool, measured: Measured, registry: CollectorRegistry
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(OSError if swallowed else AssertionError):
            await send(start())

    with contextlib.suppress(ConnectionResetError):
        Server(fail=refuse("http.response.start", ConnectionResetError())).run(measured(app))
    assert requests(registry) == {GONE: 1}
    assert exceptions(registry) == {}
    at_rest(registry)


@pytest.mark.parametrize("error", [None, ClientDisconnect(), ConnectionResetError()])
def test_fault_02_disconnect_during_a_body_keeps_the_sent_status(
    error: BaseException | None, measured: Measured, registry: CollectorRegistry, clock: Clock
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
        Server(fail=hang_up).run(measured(app))
    assert requests(registry) == {OK: 1}
    assert exceptions(registry) == {}, "the application did nothing wrong"
    assert seconds(registry) == 0.75
    at_rest(registry)


async def cancelled(app: App, scope: Scope, when: Callable[[Server], bool]) -> Server:
    """Serve a request, and cancel its task as soon as something is so."""
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
    started: bool, measured: Measured, registry: CollectorRegistry
) -> None:
    """Some servers do so when the client hangs up, all of them when they stop."""
    waiting: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if started:
            await send(start())
        waiting.append(1)
        await asyncio.Event().wait()

    asyncio.run(cancelled(measured(app), scope_of(), lambda server: bool(waiting)))
    assert requests(registry) == {OK if started else GONE: 1}
    assert exceptions(registry) == {}
    at_rest(registry)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="cannot tell who cancelled")
def test_cancellation_by_the_application_is_an_exception(
    measured: Measured, registry: CollectorRegistry
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    raises(measured(app), asyncio.CancelledError)
    assert requests(registry) == {BROKEN: 1}
    assert exceptions(registry) == {("_unmatched", "CancelledError"): 1}


def test_unresumed_request_is_finished_when_its_coroutine_is_closed(
    measured: Measured, registry: CollectorRegistry
) -> None:
    """The loop ended first."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(1)

    async def begin() -> Any:
        coroutine = Server([]).serve(measured(app), scope_of())
        coroutine.send(None)
        return coroutine

    coroutine = asyncio.run(begin())
    assert in_progress(registry) == 1
    coroutine.close()
    assert requests(registry) == {GONE: 1}
    assert exceptions(registry) == {}
    at_rest(registry)


async def cancelled_in_a_route(scope: Scope, receive: Receive, send: Send) -> None:
    """Find a route, and be cancelled by the server."""

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
    query: bytes, status: str, measured: Measured, registry: CollectorRegistry
) -> None:
    wrapped = measured(cancelled_in_a_route)

    async def main() -> None:
        task = asyncio.ensure_future(Server().serve(wrapped, scope_of(query_string=query)))
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())
    assert requests(registry) == {("GET", "/users/{id}", status): 1}
    assert exceptions(registry) == {}
    at_rest(registry)


@pytest.mark.parametrize(
    ("module", "knows", "status", "counted"),
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
    knows: bool | None,
    status: int,
    counted: str,
    measured: Measured,
    registry: CollectorRegistry,
) -> None:
    names = {"__module__": module, **({"disconnected": knows} if knows is not None else {})}
    server = type("Cycle", (Server,), names)()
    server.run(measured(sending(start(status), chunk())))
    assert requests(registry) == {("GET", "_unmatched", counted): 1}
    assert len(server.sent) == 2, "the application and the server are as they were"
    at_rest(registry)
