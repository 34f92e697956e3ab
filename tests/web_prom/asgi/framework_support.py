"""Requests to applications of ASGI frameworks, for the tests of their routes."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse

from tests.web_prom.asgi.asgi_server import Server, websocket_of
from tests.web_prom.support import errors, in_progress, requests
from web_prom import exclude

Case = tuple[str, str, int, str]  # path, method, status and route


def request(app: Any, path: str, method: str = "GET", **options: Any) -> int:
    """Send a request through httpx, and return the status; an application that raises is a 500."""

    async def send() -> int:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            response = await client.request(method, path, **options)
            return int(response.status_code)

    return asyncio.run(send())


def route_of(
    app: Any, registry: CollectorRegistry, path: str, method: str = "GET", headers: Any = None
) -> tuple[int, str]:
    """Send one request, and return its status and the route under which it was counted."""
    before = requests(registry)
    status = request(app, path, method, headers=headers)
    after = requests(registry)
    (key,) = [key for key, count in after.items() if count != before.get(key, 0)]
    assert key[2] == str(status)
    assert errors(registry) == {}
    assert in_progress(registry) == 0
    return status, key[1]


def connect(app: Any, path: str, *messages: Any) -> None:
    """Open a WebSocket, and send messages; the application closes it."""
    server = Server([{"type": "websocket.connect"}, *messages])
    asyncio.run(server.serve(app, websocket_of(path)))


async def view(request: Any) -> Any:
    """Answer. Several routes share this view."""
    return PlainTextResponse("ok")


async def missing(request: Any) -> Any:
    """Answer 404 at a path that has a route."""
    raise HTTPException(404)


async def plain(scope: Any, receive: Any, send: Any) -> None:
    """Answer as an application without a framework."""
    await PlainTextResponse("ok")(scope, receive, send)


@exclude
def healthy() -> dict[str, str]:
    """Answer; excluded from the metrics."""
    return {}


async def failing() -> None:
    """Fail."""
    raise ZeroDivisionError


async def talk(websocket: Any) -> None:
    """Accept, and close."""
    await websocket.accept()
    await websocket.close()
