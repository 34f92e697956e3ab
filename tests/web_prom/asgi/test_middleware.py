"""The middleware for any ASGI application, seen from the server's side."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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
    serve,
    start,
)
from tests.web_prom.support import Clock, errors, exceptions, in_progress, requests, samples, seconds
from web_prom.asgi import PrometheusMiddleware, set_route
from web_prom.config import Config
from web_prom.errors import ConfigError
from web_prom.metrics.recording import KEY, Recording

OK = ("GET", "_unmatched", "200")
BROKEN = ("GET", "_unmatched", "500")
GONE = ("GET", "_unmatched", "499")


@pytest.fixture
def measured(registry: CollectorRegistry) -> Callable[..., PrometheusMiddleware]:
    """Return a function that wraps an application so that the test's registry measures it."""

    def wrap(app: App, **options: Any) -> PrometheusMiddleware:
        return PrometheusMiddleware(app, registry=registry, **options)

    return wrap


Measured = Callable[..., PrometheusMiddleware]


def at_rest(registry: CollectorRegistry) -> None:
    """Assert that nothing is in progress and that the instrumentation had no errors."""
    assert in_progress(registry) == 0
    assert errors(registry) == {}


def raises(app: App, error: type[BaseException], server: Server | None = None, **scope: Any) -> Server:
    """Serve a request whose application raises, and return the server."""
    server = server or Server()
    with pytest.raises(error):
        server.run(app, scope_of(**scope))
    return server


# Shapes of applications ------------------------------------------------------------------------------


app_whole = sending(start(), chunk(b"abcd"))
app_chunks = sending(start(), chunk(b"ab", more=True), chunk(b"cd", more=True), chunk())
app_short = sending(
    {"type": "http.response.start", "status": 200}, {"type": "http.response.body", "body": b"abcd"}
)


async def app_reading(scope: Scope, receive: Receive, send: Send) -> None:
    assert await receive() == {"type": "http.request"}
    await app_whole(scope, receive, send)


async def app_in_tasks(scope: Scope, receive: Receive, send: Send) -> None:
    """Listen for the client in a task, and answer from another, as frameworks do."""
    listening = asyncio.ensure_future(receive())
    await asyncio.ensure_future(app_chunks(scope, receive, send))
    await listening


class AppOfClass:
    """An instance whose call is a coroutine."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await app_whole(scope, receive, send)


def app_not_async(scope: Scope, receive: Receive, send: Send) -> Any:
    """Return an awaitable, which is all that a server asks for."""
    return app_whole(scope, receive, send)


SHAPES = [app_whole, app_chunks, app_short, app_reading, app_in_tasks, AppOfClass(), app_not_async]
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
        server, plain = Server(), Server()
        assert server.run(wrapped) == b"abcd"
        plain.run(app)
        assert server.sent == plain.sent
        assert requests(registry) == {OK: number}
    assert samples(registry, "http_request_duration_seconds_count", "method", "route") == {OK[:2]: 3}
    at_rest(registry)


@pytest.mark.parametrize("options", OPTIONS)
def test_fault_35_a_request_stays_in_its_thread_and_its_task(
    options: dict[str, Any], measured: Measured
) -> None:
    """And in its context: what the server set the application sees, and the other way round."""
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
        await Server(fail=lambda message: seen.append(here()[:2])).serve(measured(app, **options), scope_of())
        assert seen[0] == (*here()[:2], "server's")
        assert variable.get() == "application's"
        assert seen[1:] == [here()[:2]] * 2

    asyncio.run(main())


def test_messages_are_the_very_objects(measured: Measured) -> None:
    messages = [start(), chunk(b"a", more=True), chunk(b"b")]
    before = copy.deepcopy(messages)
    for options in OPTIONS:
        server = Server()
        server.run(measured(sending(*messages), **options))
        assert all(sent is message for sent, message in zip(server.sent, messages, strict=True))
        assert messages == before


def test_a_message_is_not_held_back(measured: Measured, registry: CollectorRegistry) -> None:
    """A stream reaches the client chunk by chunk, and is in progress until its end."""
    server = Server()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for number, message in enumerate([start(), chunk(b"a", more=True), chunk(b"b")]):
            assert len(server.sent) == number
            assert in_progress(registry) == 1
            await send(message)
        assert in_progress(registry) == 0

    server.run(measured(app))


@pytest.mark.parametrize("kind", ["lifespan", "telepathy"])
def test_other_connections_pass_through_untouched(
    kind: str, measured: Measured, registry: CollectorRegistry
) -> None:
    seen: list[Any] = []

    async def app(*arguments: Any) -> None:
        seen.extend(arguments)

    scope = {"type": kind}
    server = Server()
    receive, send = server.receive, server.send
    asyncio.run(measured(app)(scope, receive, send))
    assert seen == [scope, receive, send]
    assert seen[0] is scope
    assert scope == {"type": kind}
    assert requests(registry) == {}


def test_a_lifespan_that_fails_fails_still(measured: Measured, registry: CollectorRegistry) -> None:
    with pytest.raises(ValueError, match="no"):
        asyncio.run(
            measured(sending(error=ValueError("no")))({"type": "lifespan"}, Server().receive, Server().send)
        )
    assert exceptions(registry) == {}


# Applications that fail ------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("secret"), SystemExit(1), KeyboardInterrupt(), OSError("disk")])
@pytest.mark.parametrize("options", OPTIONS)
def test_an_application_that_raises_is_a_500_with_its_exception(
    error: BaseException, options: dict[str, Any], measured: Measured, registry: CollectorRegistry
) -> None:
    with pytest.raises(type(error)) as raised:
        Server().run(measured(sending(error=error), **options))
    assert raised.value is error
    assert requests(registry) == {BROKEN: 1}
    assert exceptions(registry) == {("_unmatched", type(error).__name__): 1}
    at_rest(registry)


@pytest.mark.parametrize("before", [0, 1, 2])
def test_fault_02_a_body_that_fails_half_way_keeps_its_status_and_counts_its_exception(
    before: int, measured: Measured, registry: CollectorRegistry
) -> None:
    raises(
        measured(sending(start(), *[chunk(b"x", more=True)] * before, error=ZeroDivisionError())),
        ZeroDivisionError,
    )
    assert requests(registry) == {OK: 1}
    assert exceptions(registry) == {("_unmatched", "ZeroDivisionError"): 1}
    at_rest(registry)


def test_an_application_that_sends_nothing_is_a_500(measured: Measured, registry: CollectorRegistry) -> None:
    Server().run(measured(sending()))
    assert requests(registry) == {BROKEN: 1}
    assert exceptions(registry) == {}
    at_rest(registry)


def test_an_application_that_leaves_in_the_middle_has_finished(
    measured: Measured, registry: CollectorRegistry
) -> None:
    Server().run(measured(sending(start(206), chunk(b"a", more=True))))
    assert requests(registry) == {("GET", "_unmatched", "206"): 1}
    at_rest(registry)


def refuse(kind: str, error: BaseException) -> Callable[[Message], None]:
    """Return a server's check that refuses messages of a type."""

    def fail(message: Message) -> None:
        if message["type"] == kind:
            raise error

    return fail


@pytest.mark.parametrize("swallowed", [False, True])
def test_a_start_that_the_server_refuses_is_a_500(
    swallowed: bool, measured: Measured, registry: CollectorRegistry
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(RuntimeError if swallowed else AssertionError):
            await send(start(201))

    server = Server(fail=refuse("http.response.start", RuntimeError("bad header")))
    with contextlib.suppress(RuntimeError):
        server.run(measured(app))
    assert server.status == 500
    assert requests(registry) == {BROKEN: 1}
    assert exceptions(registry) == ({} if swallowed else {("_unmatched", "RuntimeError"): 1})


def test_the_first_start_counts(measured: Measured, registry: CollectorRegistry) -> None:
    """A second one is the server's to refuse."""
    Server().run(measured(sending(start(201), start(404), chunk())))
    assert requests(registry) == {("GET", "_unmatched", "201"): 1}


def test_an_exception_that_a_handler_answers_is_counted_where_it_is_a_server_error(
    measured: Measured, registry: CollectorRegistry
) -> None:
    """As frameworks do: the answer is sent while the exception is handled."""

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

    wrapped = measured(app)
    serve(wrapped, "/key")
    serve(wrapped, "/value")
    assert exceptions(registry) == {("_unmatched", "KeyError"): 1}
    raises(wrapped, RuntimeError, path="/late")
    assert {status for _, _, status in requests(registry)} == {"503", "404", "500"}
    at_rest(registry)


@pytest.mark.parametrize("inside", [True, False])
def test_an_exception_that_is_answered_and_raised_on_counts_once(
    inside: bool, measured: Measured, registry: CollectorRegistry
) -> None:
    """Starlette's ServerErrorMiddleware does so, inside; others do it after the handler."""

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

    raises(measured(app), ValueError)
    assert requests(registry) == {BROKEN: 1}
    assert exceptions(registry) == {("_unmatched", "ValueError"): 1}
    at_rest(registry)


def test_a_late_exception_of_an_excluded_route_does_not_count(
    measured: Measured, registry: CollectorRegistry
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        set_route(scope, "/health")
        await sending(start(500), chunk(), error=ValueError())(scope, receive, send)

    raises(measured(app, exclude="/health"), ValueError)
    assert requests(registry) == {}
    assert exceptions(registry) == {}


@pytest.mark.parametrize("status", [200, 404])
def test_what_runs_after_the_last_message_is_neither_timed_nor_counted(
    status: int, measured: Measured, registry: CollectorRegistry, clock: Clock
) -> None:
    """A background task."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        clock.go(1)
        await sending(start(status), chunk(b"x"))(scope, receive, send)
        assert in_progress(registry) == 0
        clock.go(100)
        raise ValueError

    raises(measured(app), ValueError)
    assert requests(registry) == {("GET", "_unmatched", str(status)): 1}
    assert exceptions(registry) == {}
    assert seconds(registry) == 1
    at_rest(registry)


@pytest.mark.parametrize("status", [None, "200", b"200", 99, 1000, 20.5])
def test_a_status_that_is_none_reaches_the_server_as_it_is(
    status: Any, measured: Measured, registry: CollectorRegistry
) -> None:
    message = {"type": "http.response.start", "status": status}
    server = Server()
    server.run(measured(sending(message, chunk(b"x"))))
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
def test_a_message_that_is_none_reaches_the_server_as_it_is(
    message: Any, options: dict[str, Any], measured: Measured, registry: CollectorRegistry
) -> None:
    taken: list[Any] = []

    async def send(message: Message) -> None:
        taken.append(message)

    asyncio.run(measured(sending(message), **options)(scope_of(), Server().receive, send))
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
def test_messages_of_extensions_pass(
    message: Message, measured: Measured, registry: CollectorRegistry
) -> None:
    for place in range(4):
        messages = [start(), chunk(b"a", more=True), chunk(b"b")]
        messages.insert(place, message)
        server = Server()
        server.run(measured(sending(*messages)))
        assert server.sent == messages
    assert requests(registry) == {OK: 4}
    at_rest(registry)


# Clients that go away --------------------------------------------------------------------------------


class ClientDisconnect(Exception):
    """As Starlette names it."""


async def wait_for_the_end(receive: Receive) -> None:
    """Read until the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


@pytest.mark.parametrize("error", [None, ClientDisconnect(), asyncio.CancelledError(), OSError("gone")])
def test_a_client_that_hangs_up_before_the_response_is_a_499_without_an_exception(
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
def test_a_group_of_disconnects_is_one(measured: Measured, registry: CollectorRegistry) -> None:
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


def test_an_error_of_the_applications_own_counts_when_the_client_is_gone(
    measured: Measured, registry: CollectorRegistry
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await wait_for_the_end(receive)
        raise ValueError

    raises(measured(app), ValueError, Server([HANG_UP]))
    assert requests(registry) == {GONE: 1}
    assert exceptions(registry) == {("_unmatched", "ValueError"): 1}


def test_an_answer_that_nobody_gets_is_a_499(measured: Measured, registry: CollectorRegistry) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await wait_for_the_end(receive)
        await hello(scope, receive, send)

    Server([HANG_UP]).run(measured(app))
    assert requests(registry) == {GONE: 1}
    at_rest(registry)


@pytest.mark.parametrize("swallowed", [False, True])
def test_a_send_that_says_that_the_client_is_gone_is_a_499(
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
def test_fault_02_a_client_that_hangs_up_is_counted_with_the_status_it_got(
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
def test_a_request_that_the_server_cancels_has_no_exception(
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
def test_a_cancellation_of_the_applications_own_is_an_exception(
    measured: Measured, registry: CollectorRegistry
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    raises(measured(app), asyncio.CancelledError)
    assert requests(registry) == {BROKEN: 1}
    assert exceptions(registry) == {("_unmatched", "CancelledError"): 1}


def test_a_request_that_is_never_resumed_is_finished(measured: Measured, registry: CollectorRegistry) -> None:
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


# Whatever an application does ------------------------------------------------------------------------


class Refusing(Server):
    """A server that refuses what the specification does not allow, as all of them do."""

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
@given(steps=STEPS, options=st.sampled_from(OPTIONS), hangs_up=st.booleans())
def test_whatever_an_application_does_the_status_counted_is_the_status_sent(
    steps: list[str], options: dict[str, Any], hangs_up: bool
) -> None:
    """What the client got is what was counted, once; what it sees does not depend on us."""
    known_gone: list[str] = []

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
                    known_gone.append("before" if not server.sent else "after")
            else:
                message = start(int(step)) if step.isdecimal() else chunk(b"x", more=step == "more")
                with contextlib.suppress(RuntimeError if swallow else AssertionError):
                    await send(message)

    def incoming() -> list[Message]:
        return [{"type": "http.request"}] * 7 if not hangs_up else [HANG_UP] * 7

    server = Refusing(incoming())
    with contextlib.suppress(ValueError, RuntimeError):
        server.run(app)
    plain = server.sent
    registry = CollectorRegistry()
    known_gone.clear()
    server = Refusing(incoming())
    with contextlib.suppress(ValueError, RuntimeError):
        server.run(PrometheusMiddleware(app, registry=registry, **options))
    assert server.sent == plain
    expected = "499" if "before" in known_gone else str(server.status)
    assert {status for _, _, status in requests(registry)} == {expected}
    assert sum(requests(registry).values()) == 1
    at_rest(registry)


@pytest.mark.parametrize("status", [200, 204, 304, 404])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("body", [[chunk()], [chunk(more=True), chunk()], [{"type": "http.response.body"}]])
def test_fault_08_a_response_without_a_body_finishes_once(
    status: int, method: str, body: list[Message], measured: Measured, registry: CollectorRegistry
) -> None:
    assert serve(measured(sending(start(status), *body), **OPTIONS[1]), method=method) == b""
    assert requests(registry) == {(method, "_unmatched", str(status)): 1}
    assert samples(registry, "http_response_size_bytes_sum", "method") == {(method,): 0}
    assert samples(registry, "http_response_first_byte_seconds_count", "method") == {(method,): 0}
    at_rest(registry)


def test_fault_08_the_body_of_a_head_request_is_not_sent(
    measured: Measured, registry: CollectorRegistry
) -> None:
    """The server throws it away."""
    serve(measured(hello, **OPTIONS[1]), method="HEAD")
    assert requests(registry) == {("HEAD", "_unmatched", "200"): 1}
    assert seconds(registry, "http_response_size_bytes") == 0


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
def test_fault_90_a_cancelled_request_keeps_its_route(
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
def test_fault_91_what_a_known_server_knows_of_its_client(  # noqa: PLR0917
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


@pytest.mark.parametrize("kind", ["http", "websocket", "lifespan", "disabled", "nested"])
def test_fault_95_the_server_gets_what_the_application_returned(kind: str, measured: Measured) -> None:
    """Uvicorn logs an error for a value that is not None."""

    async def app(scope: Scope, receive: Receive, send: Send) -> Any:
        return scope["type"]

    wrapped = measured(measured(app) if kind == "nested" else app, enabled=kind != "disabled")
    scope = scope_of(type=kind if kind in ("websocket", "lifespan") else "http")
    server = Server()
    assert asyncio.run(wrapped(scope, server.receive, server.send)) == scope["type"]


# One request, one count ------------------------------------------------------------------------------


def test_nested_middlewares_on_one_registry_count_once(
    measured: Measured, registry: CollectorRegistry
) -> None:
    assert serve(measured(measured(measured(hello)))) == b"hello"
    assert requests(registry) == {OK: 1}
    at_rest(registry)


def test_a_middleware_below_a_copied_scope_tells_the_route(
    measured: Measured, registry: CollectorRegistry
) -> None:
    class Route:
        path, endpoint = "/users/{id}", hello

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = Route
        await hello(scope, receive, send)

    inner = measured(app)

    async def copying(scope: Scope, receive: Receive, send: Send) -> None:
        await inner(dict(scope), receive, send)

    assert serve(measured(copying)) == b"hello"
    assert requests(registry) == {("GET", "/users/{id}", "200"): 1}
    at_rest(registry)


def test_a_scope_that_is_used_twice_counts_twice(measured: Measured, registry: CollectorRegistry) -> None:
    wrapped, scope = measured(hello), scope_of()
    before = dict(scope)
    Server().run(wrapped, scope)
    assert scope == before, "nothing is left in it"
    Server().run(wrapped, scope)
    assert requests(registry) == {OK: 2}
    at_rest(registry)


def test_requests_in_flight_at_once_are_in_progress(measured: Measured, registry: CollectorRegistry) -> None:
    """All of them on one middleware, which has no state for any."""

    async def main() -> None:
        doors = [asyncio.Event() for _ in range(3)]

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            set_route(scope, scope["path"])
            await send(start(200 + int(scope["path"][1:])))
            await doors[int(scope["path"][1:])].wait()
            await send(chunk())

        wrapped = measured(app)
        tasks = [asyncio.ensure_future(Server().serve(wrapped, scope_of(f"/{n}"))) for n in range(3)]
        await asyncio.sleep(0.01)
        for left, number in zip((3, 2, 1), (1, 0, 2), strict=True):
            assert in_progress(registry) == left
            doors[number].set()
            await tasks[number]

    asyncio.run(main())
    assert requests(registry) == {("GET", f"/{n}", f"20{n}"): 1 for n in range(3)}
    at_rest(registry)


@pytest.mark.parametrize("options", OPTIONS)
def test_a_served_request_leaves_no_cycle_for_the_collector(
    options: dict[str, Any], measured: Measured
) -> None:
    """Servers' cycles keep the scope, and the scope would keep what measures the request."""

    class Cycle(Server):
        scope: Scope = None

    kept: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        kept.append(weakref.ref(scope[KEY]))
        await hello(scope, receive, send)

    wrapped = measured(app, **options)

    async def one() -> None:
        server = Cycle()
        server.scope = scope_of()
        await server.serve(wrapped, server.scope)

    async def main() -> None:
        gc.collect()
        gc.disable()
        try:
            await one()
            assert kept[0]() is None
        finally:
            gc.enable()

    asyncio.run(main())


# Labels ----------------------------------------------------------------------------------------------


def test_fault_11_invented_methods_make_one_series(measured: Measured, registry: CollectorRegistry) -> None:
    wrapped = measured(hello, extra_methods="PROPFIND")
    for number in range(100):
        serve(wrapped, method=f"METHOD{number}")
    for method in ("get", "", "\xff" * 1000, "PROPFIND"):
        serve(wrapped, method=method)
    assert requests(registry) == {
        ("_OTHER", "_unmatched", "200"): 103,
        ("PROPFIND", "_unmatched", "200"): 1,
    }


def test_fault_10_unknown_paths_make_one_series(measured: Measured, registry: CollectorRegistry) -> None:
    wrapped = measured(hello)
    for number in range(100):
        serve(wrapped, f"/{number}/" + "".join(map(chr, range(256))))
    assert requests(registry) == {OK: 100}


def test_fault_12_a_spoofed_host_makes_no_series(measured: Measured, registry: CollectorRegistry) -> None:
    wrapped = measured(hello)
    for number in range(10):
        serve(wrapped, headers=[(b"host", b"%d.example" % number)])
    assert requests(registry) == {OK: 10}


def test_set_route_tells_the_template(measured: Measured, registry: CollectorRegistry) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        when = scope["path"]
        if when == "/before":
            set_route(scope, "/before")
        await send(start())
        if when == "/after":
            set_route(scope, "/after")
        await send(chunk(b"x", more=True))
        if when == "/late":
            set_route(scope, "/late")
        await send(chunk())

    wrapped = measured(app)
    for when in ("/before", "/after", "/late", "/never"):
        serve(wrapped, when)
    assert {route for _, route, _ in requests(registry)} == {"/before", "/after", "/late", "_unmatched"}


def test_set_route_wins_over_what_the_scope_tells(measured: Measured, registry: CollectorRegistry) -> None:
    class Route:
        path, endpoint = "/catch-all/{path:path}", hello

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = Route
        set_route(scope, "/chosen")
        await hello(scope, receive, send)

    serve(measured(app))
    assert requests(registry) == {("GET", "/chosen", "200"): 1}


def test_set_route_without_a_measurement_does_nothing() -> None:
    scope = scope_of()
    set_route(scope, "/x")
    assert KEY not in scope


def test_fault_19_excluded_routes_are_not_measured_and_their_neighbours_are(
    measured: Measured, registry: CollectorRegistry
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        set_route(scope, scope["path"])
        if scope["path"] == "/foo/boom":
            raise ValueError
        await hello(scope, receive, send)

    wrapped = measured(app, exclude="/foo,/foo/*")
    for path in ("/foo", "/foo/x", "/foobar", "/foo", "/foobar"):
        serve(wrapped, path)
    raises(wrapped, ValueError, path="/foo/boom")
    assert requests(registry) == {("GET", "/foobar", "200"): 2}
    assert exceptions(registry) == {}
    at_rest(registry)


def test_status_classes(measured: Measured, registry: CollectorRegistry) -> None:
    serve(measured(hello, status_classes=True, duration_status=True))
    assert requests(registry) == {("GET", "_unmatched", "2xx"): 1}
    assert samples(registry, "http_request_duration_seconds_count", "status") == {("2xx",): 1}


def test_extra_labels_get_the_scope_and_the_start_of_the_response(
    measured: Measured, registry: CollectorRegistry
) -> None:
    labels = {
        "tenant": lambda scope, start: dict(scope["headers"])[b"x-tenant"].decode(),
        "kind": lambda scope, start: dict(start["headers"])[b"content-type"].decode(),
    }
    wrapped = measured(hello, extra_labels=labels, constant_labels={"site": "north"})
    serve(wrapped, headers=[(b"x-tenant", b"acme")])
    told = {("acme", "text/plain", "north"): 1}
    assert samples(registry, "http_requests_total", "tenant", "kind", "site") == told
    assert samples(registry, "http_request_duration_seconds_count", "tenant", "kind", "site") == told
    assert samples(registry, "http_requests_in_progress", "site") == {("north",): 0}


@pytest.mark.parametrize("error", [ValueError, KeyError, RecursionError])
def test_fault_34_an_extra_label_that_raises_costs_its_value_and_no_request(
    error: type[Exception], measured: Measured, registry: CollectorRegistry
) -> None:
    def broken(scope: Any, start: Any) -> str:
        raise error("hush")

    wrapped = measured(hello, extra_labels={"bad": broken, "good": lambda *_: "x"})
    for _ in range(3):
        assert serve(wrapped) == b"hello"
    assert samples(registry, "http_requests_total", "bad", "good") == {("", "x"): 3}
    assert errors(registry) == {("label bad",): 3}


def test_an_extra_label_of_a_request_that_failed_early_is_empty(
    measured: Measured, registry: CollectorRegistry
) -> None:
    raises(measured(sending(error=ValueError()), extra_labels={"a": lambda *_: "x"}), ValueError)
    assert samples(registry, "http_requests_total", "status", "a") == {("500", ""): 1}
    assert samples(registry, "http_request_exceptions_total", "exception", "a") == {("ValueError", ""): 1}
    at_rest(registry)


@pytest.mark.parametrize("length", [b"abc", b"-5", b"", b"99999999999999999999", b"\xff"])
@pytest.mark.parametrize("options", OPTIONS)
def test_fault_34_a_broken_content_length_costs_nothing(
    length: bytes, options: dict[str, Any], measured: Measured, registry: CollectorRegistry
) -> None:
    header = (b"content-length", length)
    wrapped = measured(sending(start(200, header), chunk(b"abcd")), **options)
    assert serve(wrapped, headers=[header]) == b"abcd"
    assert requests(registry) == {OK: 1}
    at_rest(registry)


# Instrumentation that fails --------------------------------------------------------------------------


def boom(*_: Any, **__: Any) -> Any:
    raise OSError("no space left on device")


def test_a_counter_that_raises_costs_no_request(
    measured: Measured, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = measured(hello)
    monkeypatch.setattr("web_prom.metrics.writers.LocalCells.write", boom)
    for _ in range(3):
        assert serve(wrapped) == b"hello"
    assert errors(registry) == {("finish",): 3}
    assert in_progress(registry) == 0


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
    monkeypatch.setattr(wrapped.recorder.queue, "observe", boom)
    header = (b"x-request-start", b"t=%f" % (time.time() - 1))
    assert serve(wrapped, headers=[header]) == b"hello"
    assert errors(registry) == {("queue",): 1}
    assert requests(registry) == {OK: 1}


def test_an_adapter_that_raises_costs_no_request(measured: Measured, registry: CollectorRegistry) -> None:
    assert serve(measured(hello, annotate=boom)) == b"hello"
    raises(measured(sending(error=ValueError()), annotate=boom), ValueError)
    assert errors(registry) == {("annotate",): 2}
    assert requests(registry) == {OK: 1, BROKEN: 1}
    assert exceptions(registry) == {("_unmatched", "ValueError"): 1}
    assert in_progress(registry) == 0


def test_an_adapter_has_the_scope(measured: Measured, registry: CollectorRegistry) -> None:
    def annotate(recording: Recording) -> None:
        recording.route = recording.scope["template"]  # type: ignore[attr-defined]

    serve(measured(hello, annotate=annotate), template="/x/<y>")
    assert requests(registry) == {("GET", "/x/<y>", "200"): 1}


@pytest.mark.parametrize(
    "route", [object(), 7, "text", {"path": "/x"}, boom, type("R", (), {"path": property(boom)})()]
)
@pytest.mark.parametrize("router", [None, object(), boom, type("R", (), {"routes": [object()]})()])
def test_a_scope_that_means_something_else_costs_nothing(
    route: Any, router: Any, measured: Measured, registry: CollectorRegistry
) -> None:
    """Any framework may call its own things route and router."""
    assert serve(measured(hello), route=route, router=router, endpoint=boom) == b"hello"
    assert requests(registry) == {OK: 1}
    assert in_progress(registry) == 0


def test_a_scope_without_what_the_specification_asks_for_is_the_applications(
    measured: Measured, registry: CollectorRegistry
) -> None:
    server = Server()
    asyncio.run(server.serve(measured(hello), {"type": "http"}))
    assert server.body == b"hello"
    assert errors(registry) == {("start",): 1}


# Times -----------------------------------------------------------------------------------------------


def test_fault_01_a_stream_is_timed_to_its_end(
    measured: Measured, registry: CollectorRegistry, clock: Clock
) -> None:
    def slowly(message: Message) -> None:
        clock.go(0.1)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        clock.go(0.5)
        await send(start())
        for more in (True, True, False):
            clock.go(0.1)
            await send(chunk(b"x", more=more))

    Server(fail=slowly).run(measured(app))
    assert seconds(registry) == pytest.approx(1.2), "until the server has taken the last message"


def test_the_first_byte_is_timed_at_the_first_chunk_that_has_one(
    measured: Measured, registry: CollectorRegistry, clock: Clock
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        clock.go(1)
        await send(start())
        await send(chunk(b"", more=True))
        clock.go(2)
        await send(chunk(b"x", more=True))
        clock.go(4)
        await send(chunk(b"y"))

    serve(measured(app, first_byte=True))
    assert seconds(registry, "http_response_first_byte_seconds") == 3
    assert seconds(registry) == 7


def test_the_queue_time_is_observed_once_for_each_request_that_tells_it(
    measured: Measured, registry: CollectorRegistry
) -> None:
    wrapped = measured(hello, queue_time=True, constant_labels={"site": "a"})
    for headers in (
        [],
        [(b"X-Request-Start", b"nonsense")],
        [(b"x-request-start", b"t=%f" % (time.time() - 0.5))],
    ):
        serve(wrapped, headers=headers)
    assert samples(registry, "http_request_queue_seconds_count", "site") == {("a",): 1}


# Sizes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [0, 1, 2, 3])
def test_request_bytes_are_those_that_were_received(
    read: int, measured: Measured, registry: CollectorRegistry
) -> None:
    parts = [
        {"type": "http.request", "body": b"abc", "more_body": True},
        {"type": "http.request", "more_body": True},
        {"type": "http.request", "body": b"de"},
    ]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for part in parts[:read]:
            assert await receive() is part
        await hello(scope, receive, send)

    scope = scope_of(method="POST", headers=[(b"content-length", b"9999")])
    Server(parts).run(measured(app, request_size=True), scope)
    assert samples(registry, "http_request_size_bytes_sum", "method") == {("POST",): (0, 3, 3, 5)[read]}


def test_response_bytes_are_those_that_the_server_took(
    measured: Measured, registry: CollectorRegistry
) -> None:
    def hang_up(message: Message) -> None:
        if len(server.sent) == 4:
            raise ConnectionResetError

    server = Server(fail=hang_up)
    app = sending(start(), *[chunk(b"x" * 1000, more=True)] * 9, chunk(b"x" * 1000))
    raises(measured(app, response_size=True), ConnectionResetError, server)
    assert seconds(registry, "http_response_size_bytes") == 3000
    serve(measured(app, response_size=True))
    assert seconds(registry, "http_response_size_bytes") == 13000


PATHSEND = {"type": "http.response.pathsend", "path": "/srv/file"}


@pytest.mark.parametrize("options", OPTIONS)
def test_a_file_that_the_server_sends_by_its_path_ends_the_response(
    options: dict[str, Any], measured: Measured, registry: CollectorRegistry, clock: Clock
) -> None:
    messages = [start(200, (b"Content-Length", b"20000")), PATHSEND]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await sending(*messages)(scope, receive, send)
        clock.go(100)

    server = Server(fail=lambda message: clock.go(1))
    server.run(measured(app, **options))
    assert all(sent is message for sent, message in zip(server.sent, messages, strict=True))
    assert requests(registry) == {OK: 1}
    assert seconds(registry) == 2
    if options:
        assert seconds(registry, "http_response_size_bytes") == 20000
        assert seconds(registry, "http_response_first_byte_seconds") == 2
    at_rest(registry)


def test_a_file_of_unknown_length_has_no_response_size(
    measured: Measured, registry: CollectorRegistry
) -> None:
    serve(measured(sending(start(), PATHSEND), response_size=True))
    assert samples(registry, "http_response_size_bytes_count", "route") == {("_unmatched",): 0}


def test_a_file_that_the_server_sends_by_its_descriptor_passes(
    measured: Measured, registry: CollectorRegistry
) -> None:
    part = {"type": "http.response.zerocopysend", "file": 7, "count": 100, "more_body": True}
    server = Server()
    server.run(measured(sending(start(), part, chunk(b"xyz")), response_size=True))
    assert server.sent[1] is part
    assert requests(registry) == {OK: 1}
    assert seconds(registry, "http_response_size_bytes") == 103
    serve(measured(sending(start(), {**part, "more_body": False}), response_size=True))
    assert seconds(registry, "http_response_size_bytes") == 203
    at_rest(registry)


# Switches --------------------------------------------------------------------------------------------


def test_disabled_means_not_there_at_all(measured: Measured, registry: CollectorRegistry) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert KEY not in scope
        await hello(scope, receive, send)

    wrapped = measured(app, enabled=False)
    assert serve(wrapped, "/metrics") == b"hello"
    assert serve(wrapped, type="websocket") == b"hello"
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


def test_mistakes_are_refused_at_start(measured: Measured) -> None:
    with pytest.raises(TypeError, match="path"):
        measured(hello, config=Config(), path="/x")
    with pytest.raises(ValueError, match="max_label_sets"):
        measured(hello, max_label_sets=0)
    for name in ("code", "direction"):
        with pytest.raises(ConfigError, match=name):
            measured(hello, constant_labels={name: "x"})
        with pytest.raises(ConfigError, match=name):
            measured(hello, extra_labels={name: lambda *_: "x"})


def test_wsgi_and_asgi_applications_share_a_registry(measured: Measured, registry: CollectorRegistry) -> None:
    from tests.web_prom import support
    from web_prom import wsgi

    support.serve(wsgi.PrometheusMiddleware(support.hello, registry=registry))
    serve(measured(hello))
    assert requests(registry) == {OK: 2}


def test_optional_families_are_not_there_unless_asked_for(
    measured: Measured, registry: CollectorRegistry
) -> None:
    serve(measured(hello))
    assert not [family.name for family in registry.collect() if "websocket" in family.name]
