"""WebSockets, seen from the server's side."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom.asgi.asgi_server import (
    App,
    Message,
    Receive,
    Scope,
    Send,
    Server,
    hello,
    sending,
    serve,
    websocket_of,
)
from tests.web_prom.asgi.support import Measured
from tests.web_prom.support import Clock, errors, exceptions, requests, samples, seconds
from web_prom.asgi import set_route
from web_prom.metrics.recording import RECORDING_KEY

CONNECT = {"type": "websocket.connect"}
ACCEPT = {"type": "websocket.accept"}
PING = {"type": "websocket.receive", "text": "ping"}
PONG = {"type": "websocket.send", "text": "pong"}


def close(code: int | None = None) -> Message:
    """Return the message with which the application closes."""
    return {"type": "websocket.close", **({} if code is None else {"code": code})}


def disconnect(code: int = 1005) -> Message:
    """Return the message that tells of the client's close."""
    return {"type": "websocket.disconnect", "code": code}


def connections(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """Return ``websocket_connections_total`` by route and code."""
    return samples(registry, "websocket_connections_total", "route", "code")


def messages(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """Return ``websocket_messages_total`` by route and direction."""
    return samples(registry, "websocket_messages_total", "route", "direction")


def open_now(registry: CollectorRegistry) -> float | None:
    """Return ``websocket_connections_in_progress``."""
    return registry.get_sample_value("websocket_connections_in_progress")


def connect(app: App, incoming: Iterable[Message], **scope: Any) -> Server:
    """Serve one connection."""
    server = Server(incoming)
    asyncio.run(server.serve(app, websocket_of(**scope)))
    return server


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept, answer each message, and go when the client goes."""
    assert (await receive())["type"] == "websocket.connect"
    await send(ACCEPT)
    while (await receive())["type"] != "websocket.disconnect":
        await send(PONG)


def test_websocket_is_counted_once_and_messages_are_unchanged(
    measured: Measured, registry: CollectorRegistry, clock: Clock
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        set_route(scope, "/ws/{room}")
        assert open_now(registry) == 1
        clock.go(90)
        await echo(scope, receive, send)
        assert open_now(registry) == 0, "it is over with the disconnect, and not when the application is"
        clock.go(1000)

    wrapped = measured(app)
    incoming = [CONNECT, PING, PING, disconnect(1001)]
    server = connect(wrapped, incoming)
    assert server.sent == [ACCEPT, PONG, PONG]
    assert connections(registry) == {("/ws/{room}", "1001"): 1}
    assert messages(registry) == {("/ws/{room}", "received"): 2, ("/ws/{room}", "sent"): 2}
    assert seconds(registry, "websocket_connection_duration_seconds") == 90
    assert requests(registry) == {}
    assert errors(registry) == {}


def test_websocket_metrics_are_registered_at_the_first_connection(
    measured: Measured, registry: CollectorRegistry
) -> None:
    wrapped = measured(hello)
    serve(wrapped)
    before = {family.name for family in registry.collect()}
    connect(measured(echo), [CONNECT, disconnect()])
    after = {family.name for family in registry.collect()}
    assert after - before == {
        "websocket_connections",
        "websocket_connections_in_progress",
        "websocket_connection_duration_seconds",
    }
    connect(measured(echo), [CONNECT, PING, disconnect()])
    assert "websocket_messages" in {family.name for family in registry.collect()}


def test_messages_are_counted_before_the_websocket_ends(
    measured: Measured, registry: CollectorRegistry
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        for number in range(1, 4):
            await send(PONG)
            assert messages(registry)["_unmatched", "sent"] == number
        await send(close())

    connect(measured(app), [])


def test_messages_are_counted_under_the_route_at_that_time(
    measured: Measured, registry: CollectorRegistry
) -> None:
    """An application may learn it from the first of them."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await receive()
        set_route(scope, "/known")
        await send(PONG)
        await send(close())

    connect(measured(app), [PING])
    assert messages(registry)["_unmatched", "received"] == messages(registry)["/known", "sent"] == 1
    assert connections(registry) == {("/known", "1000"): 1}


@pytest.mark.parametrize(
    ("code", "label"),
    [(None, "1000"), *[(code, str(code)) for code in (1000, 1001, 1002, 1008, 1011, 1012, 1013)]],
)
def test_close_code_of_the_application_is_counted(
    code: int | None, label: str, measured: Measured, registry: CollectorRegistry
) -> None:
    connect(measured(sending(ACCEPT, close(code))), [])
    assert connections(registry) == {("_unmatched", label): 1}


@pytest.mark.parametrize("code", [3000, 4000, 4401, 4999, 0, 999, 1004, 1016, 65535, -1, "1000", None])
def test_unregistered_close_codes_share_one_label(
    code: Any, measured: Measured, registry: CollectorRegistry
) -> None:
    wrapped = measured(echo)
    connect(wrapped, [CONNECT, {"type": "websocket.disconnect", "code": code}])
    connect(measured(sending(ACCEPT, {"type": "websocket.close", "code": code})), [])
    assert connections(registry) == {("_unmatched", "_OTHER"): 2}


def test_disconnect_without_a_code_is_a_1005(measured: Measured, registry: CollectorRegistry) -> None:
    connect(measured(echo), [CONNECT, {"type": "websocket.disconnect"}])
    assert connections(registry) == {("_unmatched", "1005"): 1}


def test_first_close_code_is_counted(measured: Measured, registry: CollectorRegistry) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await send(close(1008))
        await receive()
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        connect(measured(app), [disconnect(1006)])
    assert connections(registry) == {("_unmatched", "1008"): 1}
    assert open_now(registry) == 0


RESPONSE = [
    {"type": "websocket.http.response.start", "status": 404, "headers": []},
    {"type": "websocket.http.response.body", "body": b"x", "more_body": True},
    {"type": "websocket.http.response.body", "body": b"y"},
]


@pytest.mark.parametrize("answer", [[close()], [close(1008)], RESPONSE])
def test_rejected_handshake_is_counted(
    answer: list[Message], measured: Measured, registry: CollectorRegistry
) -> None:
    assert connect(measured(sending(*answer)), []).sent == answer
    assert connections(registry) == {("_unmatched", "_rejected"): 1}
    assert open_now(registry) == 0
    assert messages(registry) == {}


def test_lost_connection_is_a_1006(measured: Measured, registry: CollectorRegistry) -> None:
    """The server says so itself, or refuses to send; the application may not notice."""

    def gone(message: Message) -> None:
        if message is PONG:
            raise ConnectionResetError

    connect(measured(echo), [CONNECT, disconnect(1006)])
    for error in (None, ConnectionResetError):
        with contextlib.suppress(ConnectionResetError):
            Server([CONNECT, PING], fail=gone).run(measured(echo if error else tolerant), websocket_of())
    assert connections(registry) == {("_unmatched", "1006"): 3}
    assert messages(registry) == {("_unmatched", "received"): 2, ("_unmatched", "sent"): 0}
    assert open_now(registry) == 0


async def tolerant(scope: Scope, receive: Receive, send: Send) -> None:
    """Echo, and ignore that nobody listens."""
    with contextlib.suppress(OSError):
        await echo(scope, receive, send)


@pytest.mark.parametrize("accepted", [False, True])
def test_exception_of_the_application_is_a_1011(
    accepted: bool, measured: Measured, registry: CollectorRegistry
) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        connect(measured(sending(*[ACCEPT] * accepted, error=ValueError())), [])
    assert connections(registry) == {("_unmatched", "1011"): 1}
    assert open_now(registry) == 0
    assert exceptions(registry) == {}


def test_application_that_returns_without_a_close_is_counted(
    measured: Measured, registry: CollectorRegistry
) -> None:
    """Without an answer the server's is 500; after the handshake it hangs up."""
    connect(measured(sending()), [])
    assert connections(registry) == {("_unmatched", "1011"): 1}
    connect(measured(sending(ACCEPT)), [])
    assert connections(registry) == {("_unmatched", "1011"): 1, ("_unmatched", "1006"): 1}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="cannot tell who cancelled")
def test_cancellation_by_the_server_is_a_1006(measured: Measured, registry: CollectorRegistry) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await asyncio.Event().wait()

    async def main() -> None:
        server = Server([])
        task = asyncio.ensure_future(server.serve(measured(app), websocket_of()))
        while not server.sent:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert connections(registry) == {("_unmatched", "1006"): 1}


def test_extra_and_constant_labels_are_on_websocket_metrics(
    measured: Measured, registry: CollectorRegistry
) -> None:
    wrapped = measured(
        echo,
        namespace="shop",
        constant_labels={"site": "north"},
        extra_labels={"kind": lambda scope, message: f"{scope['type']} {message['type']}"},
    )
    connect(wrapped, [CONNECT, PING, disconnect()])
    told = ("websocket websocket.accept", "north")
    assert samples(registry, "shop_websocket_connections_total", "kind", "site") == {told: 1}
    assert samples(registry, "shop_websocket_messages_total", "kind", "site", "direction") == {
        (*told, "received"): 1,
        (*told, "sent"): 1,
    }
    assert samples(registry, "shop_websocket_connections_in_progress", "site") == {("north",): 0}


def test_fault_10_websocket_label_sets_are_limited(measured: Measured, registry: CollectorRegistry) -> None:
    """And leaves the labels alone that nobody can add to."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        set_route(scope, scope["path"])
        await echo(scope, receive, send)

    wrapped = measured(app, max_label_sets=2)
    for number in range(5):
        connect(wrapped, [CONNECT, PING, disconnect()], path=f"/{number}")
    assert connections(registry) == {("/0", "1005"): 1, ("/1", "1005"): 1, ("_overflow", "1005"): 3}
    assert messages(registry)["_overflow", "sent"] == 4


@pytest.mark.parametrize("exclude", ["/ws", "/*"])
def test_fault_19_excluded_route_is_not_measured(
    exclude: str, measured: Measured, registry: CollectorRegistry
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        set_route(scope, "/ws")
        await echo(scope, receive, send)

    connect(measured(app, exclude=exclude), [CONNECT, PING, disconnect()])
    assert connections(registry) == messages(registry) == {}
    assert open_now(registry) == 0


def test_nested_middlewares_on_one_registry_count_a_websocket_once(
    measured: Measured, registry: CollectorRegistry
) -> None:
    connect(measured(measured(echo)), [CONNECT, PING, disconnect()])
    assert connections(registry) == {("_unmatched", "1005"): 1}
    assert messages(registry)["_unmatched", "sent"] == 1


def boom(*_: Any, **__: Any) -> Any:
    raise OSError("no space left on device")


@pytest.mark.parametrize("what", ["labels", "annotate", "gauge"])
def test_failing_instrumentation_does_not_affect_the_websocket(
    what: str, measured: Measured, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = measured(echo, resolve_route=boom if what == "annotate" else None)
    if what == "labels":
        monkeypatch.setattr(wrapped.recorder, "child_for", boom)
    if what == "gauge":
        monkeypatch.setattr(wrapped.recorder, "constant_child", boom)
    server = connect(wrapped, [CONNECT, PING, disconnect()])
    assert server.sent == [ACCEPT, PONG]
    assert sum(errors(registry).values()) > 0
    assert open_now(registry) in (0, None)


@pytest.mark.parametrize("message", [{}, {"type": None}, None, 7, {"type": "websocket.telepathy"}])
def test_invalid_message_reaches_the_server_unchanged(
    message: Any, measured: Measured, registry: CollectorRegistry
) -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert RECORDING_KEY in scope
        seen.append(await receive())
        await send(message)

    server = connect(measured(app), [message])
    assert server.sent == seen == [message]
    assert sum(connections(registry).values()) == 1
