"""An ASGI request between server and application: messages are unchanged, and the end is recorded."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import threading
from contextvars import ContextVar
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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
    serve,
    start,
)
from tests.web_prom.asgi.support import OK, OPTIONS, SHAPES, Measure, assert_idle
from tests.web_prom.support import exceptions, in_progress, requests, samples, seconds
from web_prom.asgi import PrometheusMiddleware


@pytest.mark.parametrize("app", SHAPES)
@pytest.mark.parametrize("options", OPTIONS)
def test_exchange_counts_a_request_once_and_leaves_the_response_unchanged(
    app: App, options: dict[str, Any], measure: Measure, registry: CollectorRegistry
) -> None:
    wrapped = measure(app, **options)
    for number in (1, 2, 3):
        server, plain = Server(), Server()
        assert server.run(wrapped) == b"abcd"
        plain.run(app)
        assert server.sent == plain.sent
        assert requests(registry) == {OK: number}
    assert samples(registry, "http_request_duration_seconds_count", "method", "route") == {OK[:2]: 3}
    assert_idle(registry)


@pytest.mark.parametrize("options", OPTIONS)
def test_fault_35_application_runs_in_the_thread_and_task_of_the_server(
    options: dict[str, Any], measure: Measure
) -> None:
    """Also in its context: the application and the server see each other's context variables."""
    seen: list[Any] = []
    variable: ContextVar[str] = ContextVar("variable", default="")

    def here() -> Any:
        return (threading.current_thread(), asyncio.current_task(), variable.get())

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(here())
        variable.set("application's")
        await hello(scope, receive, send)

    async def main() -> None:
        variable.set("server's")
        await Server(fail=lambda message: seen.append(here()[:2])).serve(measure(app, **options), scope_of())
        assert seen[0] == (*here()[:2], "server's")
        assert variable.get() == "application's"
        assert seen[1:] == [here()[:2]] * 2

    asyncio.run(main())


def test_messages_are_passed_as_the_same_objects(measure: Measure) -> None:
    messages = [start(), chunk(b"a", more=True), chunk(b"b")]
    before = copy.deepcopy(messages)
    for options in OPTIONS:
        server = Server()
        server.run(measure(sending(*messages), **options))
        assert all(sent is message for sent, message in zip(server.sent, messages, strict=True))
        assert messages == before


def test_messages_are_sent_without_delay(measure: Measure, registry: CollectorRegistry) -> None:
    """Each chunk of a stream is sent at once. The request is in progress until the last one."""
    server = Server()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for number, message in enumerate([start(), chunk(b"a", more=True), chunk(b"b")]):
            assert len(server.sent) == number
            assert in_progress(registry) == 1
            await send(message)
        assert in_progress(registry) == 0

    server.run(measure(app))


@pytest.mark.parametrize("kind", ["lifespan", "telepathy"])
def test_other_connection_types_are_not_measured(
    kind: str, measure: Measure, registry: CollectorRegistry
) -> None:
    seen: list[Any] = []

    async def app(*arguments: Any) -> None:
        seen.extend(arguments)

    scope = {"type": kind}
    server = Server()
    receive, send = server.receive, server.send
    asyncio.run(measure(app)(scope, receive, send))
    assert seen == [scope, receive, send]
    assert seen[0] is scope
    assert scope == {"type": kind}
    assert requests(registry) == {}


def test_exception_of_a_lifespan_is_raised(measure: Measure, registry: CollectorRegistry) -> None:
    with pytest.raises(ValueError, match="no"):
        asyncio.run(
            measure(sending(error=ValueError("no")))({"type": "lifespan"}, Server().receive, Server().send)
        )
    assert exceptions(registry) == {}


class Refusing(Server):
    """A server that rejects messages in an order that the specification forbids, as all servers do."""

    async def send(self, message: Message) -> None:
        begun = bool(self.sent)
        ended = begun and self.sent[-1]["type"] == "http.response.body" and not self.sent[-1]["more_body"]
        if ended or (message["type"] == "http.response.start") is begun:
            raise RuntimeError("unexpected message")
        await super().send(message)


STEPS = st.lists(
    st.sampled_from(["200", "404", "503", "more", "last", "read", "raise", "swallow", "leave"]), max_size=7
)


@settings(deadline=None, max_examples=200, database=None)
@given(steps=STEPS, options=st.sampled_from(OPTIONS), client_disconnects=st.booleans())
def test_random_applications_are_counted_with_the_status_that_was_sent(
    steps: list[str], options: dict[str, Any], client_disconnects: bool
) -> None:
    """The status that the client gets is counted once. The messages are unchanged."""
    disconnects: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        swallow = False
        for step in steps:
            if step == "swallow":
                swallow = True
            elif step == "leave":
                return
            elif step == "raise":
                raise ValueError
            elif step == "read":
                if (await receive())["type"] == "http.disconnect":
                    disconnects.append("before" if not server.sent else "after")
            else:
                message = start(int(step)) if step.isdecimal() else chunk(b"x", more=step == "more")
                with contextlib.suppress(RuntimeError if swallow else AssertionError):
                    await send(message)

    def incoming() -> list[Message]:
        return [{"type": "http.request"}] * 7 if not client_disconnects else [DISCONNECT] * 7

    server = Refusing(incoming())
    with contextlib.suppress(ValueError, RuntimeError):
        server.run(app)
    plain = server.sent
    registry = CollectorRegistry()
    disconnects.clear()
    server = Refusing(incoming())
    with contextlib.suppress(ValueError, RuntimeError):
        server.run(PrometheusMiddleware(app, registry=registry, **options))
    assert server.sent == plain
    failed = server.sent and server.status >= 500  # a server error stays one
    expected = "499" if "before" in disconnects and not failed else str(server.status)
    assert {status for _, _, status in requests(registry)} == {expected}
    assert sum(requests(registry).values()) == 1
    assert_idle(registry)


@pytest.mark.parametrize("status", [200, 204, 304, 404])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("body", [[chunk()], [chunk(more=True), chunk()], [{"type": "http.response.body"}]])
def test_fault_08_empty_body_finishes_the_request_once(
    status: int, method: str, body: list[Message], measure: Measure, registry: CollectorRegistry
) -> None:
    assert serve(measure(sending(start(status), *body), **OPTIONS[1]), method=method) == b""
    assert requests(registry) == {(method, "_unmatched", str(status)): 1}
    assert samples(registry, "http_response_size_bytes_sum", "method") == {(method,): 0}
    assert samples(registry, "http_response_first_byte_seconds_count", "method") == {(method,): 0}
    assert_idle(registry)


def test_fault_08_body_of_a_head_request_has_no_size(measure: Measure, registry: CollectorRegistry) -> None:
    """The server discards it."""
    serve(measure(hello, **OPTIONS[1]), method="HEAD")
    assert requests(registry) == {("HEAD", "_unmatched", "200"): 1}
    assert seconds(registry, "http_response_size_bytes") == 0
