"""A scrape server in a thread of the test process, and clients for it."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from tests.web_prom.support import Clock
from web_prom.config.addresses import Address
from web_prom.exposition.http import Response
from web_prom.http_server.connections import State
from web_prom.http_server.listener import listen
from web_prom.http_server.server import ScrapeServer

# The timeout of every operation on a busy machine. No operation takes that long without a failure.
PATIENCE_SECONDS = 60.0


def hello(environ: Mapping[str, Any]) -> Response:
    """Answer every request with its method and path."""
    body = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}".encode()
    return Response("200 OK", [("Content-Length", str(len(body)))], body)


class RunningServer:
    """A server that runs in a thread, as a context manager.

    Attributes:
        clock: The server's: no client takes too long unless the test lets time pass.
        port: Where it listens.
    """

    def __init__(self, respond: Any = hello, **options: Any) -> None:
        self._listener = listen(Address("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.clock = Clock()
        self.server = ScrapeServer(self._listener, respond, clock=self.clock, **options)
        self._thread = threading.Thread(target=self.server.run)

    def __enter__(self) -> RunningServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()

    def wait_for(self, client: socket.socket, state: State) -> None:
        """Wait until a client's connection has entered a state, at what the clock says now.

        A client has its answer before the server's thread goes on to what comes next.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._has_entered(client, state):
            assert time.monotonic() < deadline, f"waited in vain for the state {state}"
            time.sleep(0.001)

    def _has_entered(self, client: socket.socket, state: State) -> bool:
        for one in set(self.server._connections._open):
            with contextlib.suppress(OSError):  # the connection has ended
                if one.socket.getpeername() == client.getsockname():
                    return one.state is state and one.since == self.clock()
        return False

    def wait_until_refused(self) -> None:
        """Wait until connections are refused."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        with contextlib.suppress(ConnectionRefusedError):
            while time.monotonic() < deadline:
                # A connection in the queue of a listener that closes is reset.
                with contextlib.suppress(ConnectionResetError):
                    socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECONDS).close()
                time.sleep(0.001)
            raise AssertionError("somebody still listens")

    @contextlib.contextmanager
    def client(self) -> Iterator[socket.socket]:
        """Connect without sending anything."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECONDS) as client:
            yield client

    def get(
        self,
        path: str = "/metrics",
        method: str = "GET",
        *,
        tls: ssl.SSLContext | None = None,
        **headers: str,
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request on a new connection; return status, headers and body."""
        return ask(self.port, path, method, tls=tls, **headers)


def ask(
    port: int,
    path: str = "/metrics",
    method: str = "GET",
    *,
    tls: ssl.SSLContext | None = None,
    **headers: str,
) -> tuple[int, dict[str, str], bytes]:
    """Send one request on a new connection; return status, headers and body."""
    connection = (
        http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS, context=tls)
        if tls
        else http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    )
    with contextlib.closing(connection):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=named)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()


def request(client: socket.socket, path: str) -> bytes:
    """Send one request on an open connection; return the body of the answer."""
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    with contextlib.closing(http.client.HTTPResponse(client)) as response:
        response.begin()
        return response.read()


def everything(client: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    found = b""
    while chunk := client.recv(65_536):
        found += chunk
    return found
