"""A loopback server that keeps a log of its requests, and readers of the family of outgoing requests."""

from __future__ import annotations

import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry

FAMILY = "http_client_request_duration_seconds"
LABELS = ("http_request_method", "server_address", "http_response_status_code", "error_type")


class Handler(BaseHTTPRequestHandler):
    """Answers ``/status/<code>``, ``/redirect/<number>``, ``/flaky/<number>``, ``/slow``, ``/stream`` etc."""

    protocol_version = "HTTP/1.1"
    server: Server

    def answer(self) -> None:
        """Answer one request and log it, before the client can have the answer."""
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        # A client of a proxy sends a whole URL.
        path = "/status/502" if self.command == "CONNECT" else urlsplit(self.path).path or "/"
        _, name, *rest = path.split("/")
        getattr(self, f"do_{name or 'ok'}")(*rest)

    do_GET = do_HEAD = do_POST = do_PUT = do_CONNECT = do_PURGE = answer

    def reply(self, status: int, body: bytes = b"ok", **headers: str) -> None:
        """Send a response of known length."""
        self.server.log.append((self.command, status))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_ok(self) -> None:
        """Answer 200."""
        self.reply(200)

    def do_status(self, code: str) -> None:
        """Answer with a status."""
        self.reply(int(code))

    def do_redirect(self, number: str) -> None:
        """Redirect a number of times, then answer 200."""
        if number == "0":
            self.reply(200)
        else:
            self.reply(302, Location=f"/redirect/{int(number) - 1}")

    def do_flaky(self, number: str) -> None:
        """Answer 503 to the first requests."""
        self.reply(503 if len(self.server.log) < int(number) else 200)

    def do_drop(self) -> None:
        """Close the connection without an answer."""
        self.server.log.append((self.command, None))
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def do_wait(self) -> None:
        """Answer when the test ends, or not at all."""
        self.server.log.append((self.command, None))
        self.server.ending.wait(30)
        self.close_connection = True

    def do_stream(self) -> None:
        """Send the headers, and the body when the test allows it."""
        self.server.log.append((self.command, 200))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.flush()
        self.server.body.wait(30)
        self.wfile.write(b"ok")

    def do_broken(self) -> None:
        """Close the connection in the middle of the body."""
        self.server.log.append((self.command, 200))
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"ok")
        self.close_connection = True

    def do_digest(self) -> None:
        """Ask for digest authentication."""
        if self.headers.get("Authorization"):
            self.reply(200)
        else:
            self.reply(401, WWW_Authenticate='Digest realm="test", nonce="abc", qop="auth"')

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


class Server(ThreadingHTTPServer):
    """A server on a free loopback port. ``log`` has method and status of each request, in order."""

    daemon_threads = False
    block_on_close = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.log: list[tuple[str, int | None]] = []
        self.ending = threading.Event()
        self.body = threading.Event()
        self._connections: list[socket.socket] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        """Keep the connection, and answer its requests in a thread."""
        self._connections.append(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing if a client resets its connection, as the tests of errors do."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def end(self) -> None:
        """End all waiting requests and all connections."""
        self.ending.set()
        self.body.set()
        self.shutdown()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving() -> Iterator[Server]:
    """Run a server in a thread."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.end()
        thread.join()


def free_port() -> int:
    """Return a port that refuses connections."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def calls(registry: CollectorRegistry, family: str = FAMILY) -> dict[tuple[str, str, str, str], int]:
    """Return how often each label set was observed: method, address, status and error."""
    return {
        tuple(sample.labels[name] for name in LABELS): int(sample.value)  # type: ignore[misc]
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == f"{family}_count"
    }


def total(registry: CollectorRegistry) -> int:
    """Return the number of requests that were counted."""
    return sum(calls(registry).values())


def seconds(registry: CollectorRegistry) -> float:
    """Return the sum of the durations."""
    return sum(
        sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == f"{FAMILY}_sum"
    )


def answered(server: Server) -> dict[tuple[str, str], int]:
    """Return the log of a server as counts by method and status."""
    return dict(Counter((method, str(status)) for method, status in server.log if status))


def counted(registry: CollectorRegistry) -> dict[tuple[str, str], int]:
    """Return the counted responses by method and status."""
    found: Counter[tuple[str, str]] = Counter()
    for (method, _, status, _), number in calls(registry).items():
        if status:
            found[method, status] += number
    return dict(found)
