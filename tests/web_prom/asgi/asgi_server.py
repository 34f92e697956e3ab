"""An ASGI server for tests: scopes, messages, and the response that a client would get."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

Message = Any
Scope = Any
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

DISCONNECT = {"type": "http.disconnect"}


def scope_of(path: str = "/", method: str = "GET", **more: Any) -> Scope:
    """Return the scope of a request, with the given items."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"testserver")],
        "client": ("192.0.2.1", 50000),
        "server": ("testserver", 80),
        **more,
    }


def websocket_of(path: str = "/ws", **more: Any) -> Scope:
    """Return the scope of a WebSocket, with the given items."""
    scope = scope_of(path, type="websocket", scheme="ws", subprotocols=[], **more)
    del scope["method"]
    return scope


class Server:
    """One connection as its server sees it.

    Args:
        incoming: The messages that ``receive`` returns, in order; by default an empty request.
        fail: Called with each message before it is accepted; may raise.

    Attributes:
        sent: The messages that were accepted, as the same objects.
    """

    def __init__(
        self, incoming: Iterable[Message] | None = None, fail: Callable[[Message], object] | None = None
    ) -> None:
        self.incoming = deque([{"type": "http.request"}] if incoming is None else incoming)
        self.sent: list[Message] = []
        self._fail = fail

    async def receive(self) -> Message:
        """Return the next message. If none is left, the test is wrong."""
        await asyncio.sleep(0)
        return self.incoming.popleft()

    async def send(self, message: Message) -> None:
        """Accept a message."""
        if self._fail is not None:
            self._fail(message)
        await asyncio.sleep(0)
        self.sent.append(message)

    async def serve(self, app: App, scope: Scope) -> None:
        """Serve one connection."""
        await app(scope, self.receive, self.send)

    def run(self, app: App, scope: Scope | None = None) -> bytes:
        """Serve one connection in a new event loop, and return the body."""
        asyncio.run(self.serve(app, scope_of() if scope is None else scope))
        return self.body

    @property
    def body(self) -> bytes:
        """The bytes that were sent."""
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def status(self) -> int:
        """The status that was sent; 500 if the application sent none, as a server does."""
        for message in self.sent:
            if message["type"] == "http.response.start":
                return int(message["status"])
        return 500

    @property
    def headers(self) -> dict[str, str]:
        """The headers that were sent; a name that comes twice is an error."""
        pairs = [(name.decode(), value.decode()) for name, value in self.sent[0]["headers"]]
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)


def serve(app: App, path: str = "/", method: str = "GET", **more: Any) -> bytes:
    """Serve one request and return the body."""
    return Server().run(app, scope_of(path, method, **more))


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> Message:
    """Return the message that starts a response."""
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def chunk(body: bytes = b"", *, more: bool = False) -> Message:
    """Return a part of a response's body, the last one unless there is more."""
    return {"type": "http.response.body", "body": body, "more_body": more}


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with a short text."""
    await send(start(200, (b"content-type", b"text/plain"), (b"content-length", b"5")))
    await send(chunk(b"hello"))


def sending(*messages: Message, error: BaseException | None = None) -> App:
    """Return an application that sends messages, and then raises an error if one is given."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        if error is not None:
            raise error

    return app
