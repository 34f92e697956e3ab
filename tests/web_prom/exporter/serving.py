"""An exporter server in a thread of the test's process, and clients of it."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from web_prom.exporter.connections import State
from web_prom.exporter.listening import listen
from web_prom.exporter.server import ExporterServer
from web_prom.exposition import Response
from web_prom.parsing import Address

PATIENCE_SECONDS = 20.0


def hello(environ: Mapping[str, Any]) -> Response:
    """Answer every request alike."""
    body = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}".encode()
    return Response("200 OK", [("Content-Length", str(len(body)))], body)


class Serving:
    """A server that runs in a thread, as a context manager."""

    def __init__(self, respond: Any = hello, **options: Any) -> None:
        self._listener = listen(Address("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.server = ExporterServer(self._listener, respond, **options)
        self._thread = threading.Thread(target=self.server.run)

    def __enter__(self) -> Serving:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()

    def wait_for_idle(self, count: int) -> None:
        """Wait until so many connections are between requests: their threads have noticed what was sent."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        connections = self.server._connections
        while sum(one.state is State.IDLE for one in set(connections._open)) != count:
            assert time.monotonic() < deadline, f"waited in vain for {count} idle connections"
            time.sleep(0.001)

    def wait_until_refused(self) -> None:
        """Wait until nobody listens any more."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        with contextlib.suppress(ConnectionRefusedError):
            while time.monotonic() < deadline:
                socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECONDS).close()
                time.sleep(0.001)
            raise AssertionError("somebody still listens")

    @contextlib.contextmanager
    def client(self) -> Iterator[socket.socket]:
        """Connect, and say nothing yet."""
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
        """Send one request on a connection of its own; return status, headers and body."""
        return ask(self.port, path, method, tls=tls, **headers)


def ask(
    port: int,
    path: str = "/metrics",
    method: str = "GET",
    *,
    tls: ssl.SSLContext | None = None,
    **headers: str,
) -> tuple[int, dict[str, str], bytes]:
    """Send one request on a connection of its own; return status, headers and body."""
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


def everything(client: socket.socket) -> bytes:
    """Read until the server has enough."""
    found = b""
    while chunk := client.recv(65_536):
        found += chunk
    return found
