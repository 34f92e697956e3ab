"""The memory for response bodies: clients that do not read them can neither use it up nor block others."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.web_prom.http_server.serving import PATIENCE_SECONDS
from tests.web_prom.support import Clock
from web_prom.exposition.http import Response
from web_prom.http_server.connections import Connection, Connections, State
from web_prom.http_server.handler import Handler

pytestmark = pytest.mark.slow

MEGABYTE = 1_000_000


class SlowClients:
    """The connections of a server, each with a client that reads nothing."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.connections = Connections(64)
        self._sockets: list[socket.socket] = []

    def sending(self, body: bytes) -> Connection:
        """Return a connection that starts to send a body now."""
        ours, theirs = socket.socketpair()
        self._sockets += [ours, theirs]
        connection = Connection(ours, "", self.clock)
        connection.body = body
        connection.enter(State.WRITING)
        self.connections.add(connection)
        return connection

    def is_ended(self, connection: Connection) -> bool:
        """Return whether the server closed a connection."""
        connection.socket.setblocking(False)
        try:
            return connection.socket.recv(1) == b""
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Close all sockets."""
        for one in self._sockets:
            one.close()


@pytest.fixture
def clients() -> Iterator[SlowClients]:
    made = SlowClients()
    yield made
    made.close()


def test_fault_71_body_that_many_connections_share_counts_once(clients: SlowClients) -> None:
    body = bytes(20 * MEGABYTE)
    for _ in range(60):
        clients.sending(body)
    clients.connections.wait_for_memory()


def test_fault_71_a_few_bodies_of_any_size_are_allowed(clients: SlowClients) -> None:
    """Two Prometheus servers that read slowly are not an attack."""
    held = [clients.sending(bytes(50 * MEGABYTE)) for _ in range(2)]
    clients.clock.go(20)
    clients.connections.wait_for_memory()
    assert not any(map(clients.is_ended, held))


def test_fault_71_slow_clients_are_disconnected_after_a_second_if_memory_is_short(
    clients: SlowClients,
) -> None:
    slow = [clients.sending(bytes(8 * MEGABYTE)) for _ in range(4)]
    clients.clock.go(0.9)
    quick = clients.sending(bytes(8 * MEGABYTE))
    waiting = threading.Thread(target=clients.connections.wait_for_memory)
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    assert not any(map(clients.is_ended, [*slow, quick]))
    clients.clock.go(0.2)
    for connection in slow:
        connection.socket.settimeout(PATIENCE_SECONDS)
        assert connection.socket.recv(1) == b""
        clients.connections.remove(connection)
    waiting.join(PATIENCE_SECONDS)
    assert not waiting.is_alive()
    assert not clients.is_ended(quick)


class RecordingSocket:
    """A socket that records the sent data."""

    def __init__(self, received: bytes) -> None:
        self.received = [received, b""]
        self.sent: list[Any] = []

    def recv(self, size: int) -> bytes:
        """Return the next received data."""
        return self.received.pop(0)

    def sendall(self, data: bytes) -> None:
        """Record the data."""
        self.sent.append(data)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_fault_71_large_body_is_sent_without_a_copy(method: str) -> None:
    body = bytes(MEGABYTE)
    recorder: Any = RecordingSocket(f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    connection = Connection(recorder, "", Clock())
    response = Response("200 OK", [("Content-Length", str(len(body)))], body)
    Handler(connection, lambda _: response, lambda: True, lambda: None).run()
    assert recorder.sent[0].endswith(b"\r\n\r\n")
    assert [sent is body for sent in recorder.sent[1:]] == ([True] if method == "GET" else [])
    assert connection.body == b""
