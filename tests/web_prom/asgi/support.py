"""ASGI applications of all shapes for the tests of the middleware."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
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
    chunk,
    scope_of,
    sending,
    start,
)
from tests.web_prom.support import errors, in_progress
from web_prom.asgi import PrometheusMiddleware

OK = ("GET", "_unmatched", "200")
BROKEN = ("GET", "_unmatched", "500")
GONE = ("GET", "_unmatched", "499")
Measure = Callable[..., PrometheusMiddleware]


def assert_idle(registry: CollectorRegistry) -> None:
    """Assert that nothing is in progress and that the instrumentation had no errors."""
    assert in_progress(registry) == 0
    assert errors(registry) == {}


def raises(app: App, error: type[BaseException], server: Server | None = None, **scope: Any) -> Server:
    """Serve a request whose application raises, and return the server."""
    server = server or Server()
    with pytest.raises(error):
        server.run(app, scope_of(**scope))
    return server


app_whole = sending(start(), chunk(b"abcd"))
app_chunks = sending(start(), chunk(b"ab", more=True), chunk(b"cd", more=True), chunk())
app_short = sending(
    {"type": "http.response.start", "status": 200}, {"type": "http.response.body", "body": b"abcd"}
)


async def app_reading(scope: Scope, receive: Receive, send: Send) -> None:
    assert await receive() == {"type": "http.request"}
    await app_whole(scope, receive, send)


async def app_in_tasks(scope: Scope, receive: Receive, send: Send) -> None:
    """Receive in one task and send in another, as frameworks do."""
    listening = asyncio.ensure_future(receive())
    await asyncio.ensure_future(app_chunks(scope, receive, send))
    await listening


class AppOfClass:
    """An object whose ``__call__`` is a coroutine function."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await app_whole(scope, receive, send)


def app_not_async(scope: Scope, receive: Receive, send: Send) -> Any:
    """Return an awaitable. A server needs no more."""
    return app_whole(scope, receive, send)


SHAPES = [app_whole, app_chunks, app_short, app_reading, app_in_tasks, AppOfClass(), app_not_async]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"request_size": True, "response_size": True, "first_byte": True, "queue_time": True},
]


def refuse(kind: str, error: BaseException) -> Callable[[Message], None]:
    """Return a function that raises for messages of one type."""

    def fail(message: Message) -> None:
        if message["type"] == kind:
            raise error

    return fail


def boom(*_: Any, **__: Any) -> Any:
    raise OSError("no space left on device")
