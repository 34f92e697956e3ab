"""The test project behind a minimal ASGI server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import django
import pytest
from django.core.asgi import get_asgi_application

hears_disconnects = pytest.mark.skipif(
    django.VERSION < (5, 0), reason="Django 4.2 does not see that a client disconnects"
)


class ASGISite:
    """The project behind an ASGI server that serves one request at a time."""

    def __init__(self) -> None:
        self._app: Any = None
        self.status: str | None = None
        self.sent: list[bytes] = []
        self.headers: dict[str, str] = {}

    def __call__(self, path: str, method: str = "GET", **options: Any) -> str | None:
        """Serve one request in a new event loop. Return the status, or None if none was sent."""
        asyncio.run(self.serve(path, method, **options))
        return self.status

    async def serve(
        self,
        path: str,
        method: str = "GET",
        *,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        send: Callable[[Any], Awaitable[None]] | None = None,
        disconnect: asyncio.Event | None = None,
    ) -> None:
        """Serve one request.

        Args:
            path: Its path.
            method: Its method.
            body: Its body.
            headers: Its headers, in addition to the host.
            send: Called with each message, after the message is stored.
            disconnect: The client disconnects when it is set.
        """
        if self._app is None:
            self._app = get_asgi_application()
        self.status, self.sent = None, []
        fields = {"host": "testserver", **(headers or {})}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in fields.items()],
        }
        arrived = False

        async def receive() -> dict[str, Any]:
            nonlocal arrived
            if not arrived:
                arrived = True
                return {"type": "http.request", "body": body, "more_body": False}
            await (disconnect or asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        async def keep(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self.status = str(message["status"])
                self.headers = {
                    name.decode().lower(): value.decode("latin-1") for name, value in message["headers"]
                }
            else:
                self.sent.append(message.get("body", b""))
            if send is not None:
                await send(message)

        await self._app(scope, receive, keep)

    @property
    def text(self) -> str:
        """The body of the last response."""
        return b"".join(self.sent).decode()
