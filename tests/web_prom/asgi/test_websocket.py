"""The exchange of an ASGI WebSocket: its messages, its close code and its route."""

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
from tests.web_prom.asgi.support import Measure
from tests.web_prom.support import Clock, errors, exceptions, requests, samples, seconds
from web_prom.asgi import set_route
from web_prom.metrics.recording import RECORDING_KEY

CONNECT = {"type": "websocket.connect"}
ACCEPT = {"type": "websocket.accept"}
PING = {"type": "websocket.receive", "text": "ping"}
PONG = {"type": "websocket.send", "text": "pong"}


def close(code: int | None = None) -> Message:
    """Return the message that closes the WebSocket, from the application."""
    return {"type": "websocket.close", **({} if code is None else {"code": code})}


def disconnect(code: int = 1005) -> Message:
    """Return the message that reports a close by the client."""
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
    """Accept, answer each message, and return when the client disconnects."""
    assert (await receive())["type"] == "websocket.connect"
    await send(ACCEPT)
    while (await receive())["type"] != "websocket.disconnect":
        await send(PONG)


def test_websocket_is_counted_once_and_messages_are_unchanged(
    measure: Measure, registry: CollectorRegistry, clock: Clock
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        set_route(scope, "/ws/{room}")
        assert open_now(registry) == 1
        clock.go(90)
        await echo(scope, receive, send)
        assert open_now(registry) == 0, (
            "the WebSocket ends at the disconnect, not when the application returns"
        )
        clock.go(1000)

    wrapped = measure(app)
    incoming = [CONNECT, PING, PING, disconnect(1001)]
    server = connect(wrapped, incoming)
    assert server.sent == [ACCEPT, PONG, PONG]
    assert connections(registry) == {("/ws/{room}", "1001"): 1}
    assert messages(registry) == {("/ws/{room}", "received"): 2, ("/ws/{room}", "sent"): 2}
    assert seconds(registry, "websocket_connection_duration_seconds") == 90
    assert requests(registry) == {}
    assert errors(registry) == {}


def test_websocket_metrics_are_registered_at_the_first_connection(
    measure: Measure, registry: CollectorRegistry
) -> None:
    wrapped = measure(hello)
    serve(wrapped)
    before = {family.name for family in registry.collect()}
    connect(measure(echo), [CONNECT, disconnect()])
    after = {family.name for family in registry.collect()}
    assert after - before == {
        "websocket_connections",
        "websocket_connections_in_progress",
        "websocket_connection_duration_seconds",
    }
    connect(measure(echo), [CONNECT, PING, disconnect()])
    assert "websocket_messages" in {family.name for family in registry.collect()}


def test_messages_are_counted_before_the_websocket_ends(
    measure: Measure, registry: CollectorRegistry
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        for number in range(1, 4):
            await send(PONG)
            assert messages(registry)["_unmatched", "sent"] == number
        await send(close())

    connect(measure(app), [])


def test_messages_are_counted_under_the_route_at_that_time(
    measure: Measure, registry: CollectorRegistry
) -> None:
    """An application may set the route after the first message."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await receive()
        set_route(scope, "/known")
        await send(PONG)
        await send(close())

    connect(measure(app), [PING])
    assert messages(registry)["_unmatched", "received"] == messages(registry)["/known", "sent"] == 1
    assert connections(registry) == {("/known", "1000"): 1}


@pytest.mark.parametrize(
    ("code", "label"),
    [(None, "1000"), *[(code, str(code)) for code in (1000, 1001, 1002, 1008, 1011, 1012, 1013)]],
)
def test_close_code_of_the_application_is_counted(
    code: int | None, label: str, measure: Measure, registry: CollectorRegistry
) -> None:
    connect(measure(sending(ACCEPT, close(code))), [])
    assert connections(registry) == {("_unmatched", label): 1}


@pytest.mark.parametrize("code", [3000, 4000, 4401, 4999, 0, 999, 1004, 1016, 65535, -1, "1000", None])
def test_unregistered_close_codes_share_one_label(
    code: Any, measure: Measure, registry: CollectorRegistry
) -> None:
    wrapped = measure(echo)
    connect(wrapped, [CONNECT, {"type": "websocket.disconnect", "code": code}])
    connect(measure(sending(ACCEPT, {"type": "websocket.close", "code": code})), [])
    assert connections(registry) == {("_unmatched", "_OTHER"): 2}


def test_disconnect_without_a_code_is_a_1005(measure: Measure, registry: CollectorRegistry) -> None:
    connect(measure(echo), [CONNECT, {"type": "websocket.disconnect"}])
    assert connections(registry) == {("_unmatched", "1005"): 1}


def test_first_close_code_is_counted(measure: Measure, registry: CollectorRegistry) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await send(close(1008))
        await receive()
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        connect(measure(app), [disconnect(1006)])
    assert connections(registry) == {("_unmatched", "1008"): 1}
    assert open_now(registry) == 0


RESPONSE = [
    {"type": "websocket.http.response.start", "status": 404, "headers": []},
    {"type": "websocket.http.response.body", "body": b"x", "more_body": True},
    {"type": "websocket.http.response.body", "body": b"y"},
]


@pytest.mark.parametrize("answer", [[close()], [close(1008)], RESPONSE])
def test_rejected_handshake_is_counted(
    answer: list[Message], measure: Measure, registry: CollectorRegistry
) -> None:
    assert connect(measure(sending(*answer)), []).sent == answer
    assert connections(registry) == {("_unmatched", "_rejected"): 1}
    assert open_now(registry) == 0
    assert messages(registry) == {}


def test_lost_connection_is_a_1006(measure: Measure, registry: CollectorRegistry) -> None:
    """The server reports it, or send raises. The application may ignore it."""

    def fail(message: Message) -> None:
        if message is PONG:
            raise ConnectionResetError

    connect(measure(echo), [CONNECT, disconnect(1006)])
    for error in (None, ConnectionResetError):
        with contextlib.suppress(ConnectionResetError):
            Server([CONNECT, PING], fail=fail).run(measure(echo if error else tolerant), websocket_of())
    assert connections(registry) == {("_unmatched", "1006"): 3}
    assert messages(registry) == {("_unmatched", "received"): 2, ("_unmatched", "sent"): 0}
    assert open_now(registry) == 0


async def tolerant(scope: Scope, receive: Receive, send: Send) -> None:
    """Echo, and ignore a disconnect."""
    with contextlib.suppress(OSError):
        await echo(scope, receive, send)


@pytest.mark.parametrize("accepted", [False, True])
def test_exception_of_the_application_is_a_1011(
    accepted: bool, measure: Measure, registry: CollectorRegistry
) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        connect(measure(sending(*[ACCEPT] * accepted, error=ValueError())), [])
    assert connections(registry) == {("_unmatched", "1011"): 1}
    assert open_now(registry) == 0
    assert exceptions(registry) == {}


def test_application_that_returns_without_a_close_is_counted(
    measure: Measure, registry: CollectorRegistry
) -> None:
    """Before the handshake the server answers 500. After it, the server closes the connection."""
    connect(measure(sending()), [])
    assert connections(registry) == {("_unmatched", "1011"): 1}
    connect(measure(sending(ACCEPT)), [])
    assert connections(registry) == {("_unmatched", "1011"): 1, ("_unmatched", "1006"): 1}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="cannot tell who cancelled")
def test_cancellation_by_the_server_is_a_1006(measure: Measure, registry: CollectorRegistry) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await asyncio.Event().wait()

    async def main() -> None:
        server = Server([])
        task = asyncio.ensure_future(server.serve(measure(app), websocket_of()))
        while not server.sent:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert connections(registry) == {("_unmatched", "1006"): 1}


def test_extra_and_constant_labels_are_on_websocket_metrics(
    measure: Measure, registry: CollectorRegistry
) -> None:
    wrapped = measure(
        echo,
        namespace="shop",
        constant_labels={"site": "north"},
        extra_labels={"kind": lambda scope, message: f"{scope['type']} {message['type']}"},
    )
    connect(wrapped, [CONNECT, PING, disconnect()])
    labels = ("websocket websocket.accept", "north")
    assert samples(registry, "shop_websocket_connections_total", "kind", "site") == {labels: 1}
    assert samples(registry, "shop_websocket_messages_total", "kind", "site", "direction") == {
        (*labels, "received"): 1,
        (*labels, "sent"): 1,
    }
    assert samples(registry, "shop_websocket_connections_in_progress", "site") == {("north",): 0}


def test_fault_10_websocket_label_sets_are_limited(measure: Measure, registry: CollectorRegistry) -> None:
    """The close code and the direction are not limited, because clients cannot add values."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        set_route(scope, scope["path"])
        await echo(scope, receive, send)

    wrapped = measure(app, max_label_sets=2)
    for number in range(5):
        connect(wrapped, [CONNECT, PING, disconnect()], path=f"/{number}")
    assert connections(registry) == {("/0", "1005"): 1, ("/1", "1005"): 1, ("_overflow", "1005"): 3}
    assert messages(registry)["_overflow", "sent"] == 4


@pytest.mark.parametrize("exclude", ["/ws", "/*"])
def test_fault_19_excluded_route_is_not_measured(
    exclude: str, measure: Measure, registry: CollectorRegistry
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        set_route(scope, "/ws")
        await echo(scope, receive, send)

    connect(measure(app, exclude=exclude), [CONNECT, PING, disconnect()])
    assert connections(registry) == messages(registry) == {}
    assert open_now(registry) == 0


def test_nested_middlewares_on_one_registry_count_a_websocket_once(
    measure: Measure, registry: CollectorRegistry
) -> None:
    connect(measure(measure(echo)), [CONNECT, PING, disconnect()])
    assert connections(registry) == {("_unmatched", "1005"): 1}
    assert messages(registry)["_unmatched", "sent"] == 1


def boom(*_: Any, **__: Any) -> Any:
    raise OSError("no space left on device")


@pytest.mark.parametrize("what", ["labels", "annotate", "gauge"])
def test_failing_instrumentation_does_not_affect_the_websocket(
    what: str, measure: Measure, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = measure(echo, resolve_route=boom if what == "annotate" else None)
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
    message: Any, measure: Measure, registry: CollectorRegistry
) -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert RECORDING_KEY in scope
        seen.append(await receive())
        await send(message)

    server = connect(measure(app), [message])
    assert server.sent == seen == [message]
    assert sum(connections(registry).values()) == 1


def test_extra_label_of_a_websocket_without_an_answer_is_computed(
    measure: Measure, registry: CollectorRegistry
) -> None:
    async def app(*_: Any) -> None:
        raise ValueError

    wrapped = measure(app, extra_labels={"a": lambda scope, message: f"{scope['type']} {message}"})
    with pytest.raises(ValueError):  # noqa: PT011
        connect(wrapped, [CONNECT])
    assert samples(registry, "websocket_connections_total", "code", "a") == {("1011", "websocket None"): 1}
