"""The memory of answers: clients that do not read them cannot fill it, nor keep others from theirs."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.web_prom.http_server.serving import PATIENCE_SECONDS, ask
from tests.web_prom.support import ROOT, Clock, python
from web_prom.exposition.http import Response
from web_prom.http_server.connections import Connection, Connections, State
from web_prom.http_server.handler import Handler

pytestmark = pytest.mark.slow

MEGABYTE = 1_000_000


class Pair:
    """Connections of a server, each with a client that reads nothing."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.connections = Connections(64)
        self._sockets: list[socket.socket] = []

    def sending(self, body: bytes) -> Connection:
        """Return a connection that sends a body since now."""
        ours, theirs = socket.socketpair()
        self._sockets += [ours, theirs]
        connection = Connection(ours, "", self.clock)
        connection.body = body
        connection.enter(State.WRITING)
        self.connections.add(connection)
        return connection

    def is_ended(self, connection: Connection) -> bool:
        """Return whether the server ended a connection."""
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
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def test_fault_71_there_is_room_for_a_body_that_many_share(pair: Pair) -> None:
    body = bytes(20 * MEGABYTE)
    for _ in range(60):
        pair.sending(body)
    pair.connections.wait_for_memory()


def test_fault_71_there_is_room_for_a_few_bodies_of_any_size(pair: Pair) -> None:
    """Two Prometheus servers that are slow to read are no attack."""
    held = [pair.sending(bytes(50 * MEGABYTE)) for _ in range(2)]
    pair.clock.go(20)
    pair.connections.wait_for_memory()
    assert not any(map(pair.is_ended, held))


def test_fault_71_without_room_slow_clients_are_ended_after_a_second(pair: Pair) -> None:
    slow = [pair.sending(bytes(8 * MEGABYTE)) for _ in range(4)]
    pair.clock.go(0.9)
    quick = pair.sending(bytes(8 * MEGABYTE))
    waiting = threading.Thread(target=pair.connections.wait_for_memory)
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    assert not any(map(pair.is_ended, [*slow, quick]))
    pair.clock.go(0.2)
    for connection in slow:
        connection.socket.settimeout(PATIENCE_SECONDS)
        assert connection.socket.recv(1) == b""
        pair.connections.remove(connection)
    waiting.join(PATIENCE_SECONDS)
    assert not waiting.is_alive()
    assert not pair.is_ended(quick)


class Recorder:
    """A socket that keeps what is sent."""

    def __init__(self, received: bytes) -> None:
        self.received = [received, b""]
        self.sent: list[Any] = []

    def recv(self, size: int) -> bytes:
        """Receive what there is."""
        return self.received.pop(0)

    def sendall(self, data: bytes) -> None:
        """Send."""
        self.sent.append(data)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_fault_71_a_large_body_is_sent_as_it_is_and_not_copied(method: str) -> None:
    body = bytes(MEGABYTE)
    recorder: Any = Recorder(f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    connection = Connection(recorder, "", Clock())
    response = Response("200 OK", [("Content-Length", str(len(body)))], body)
    Handler(connection, lambda _: response, lambda: True, lambda: None).run()
    assert recorder.sent[0].endswith(b"\r\n\r\n")
    assert [sent is body for sent in recorder.sent[1:]] == ([True] if method == "GET" else [])
    assert connection.body == b""


WRITES = """
    from web_prom.multiprocess.writing.activation import share_values

    share_values()
    from prometheus_client import Counter

    counter = Counter("http_requests_seen_total", "Help.", ["route", "status", "tenant"])
    for number in range(75_000):
        counter.labels(f"/api/v1/things/{number % 1000}", "200", f"tenant-{number // 1000}").inc(number)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_fault_71_sixty_four_clients_that_do_not_read_seven_megabytes(tmp_path: Path) -> None:
    """The exporter stays below 200 MB, and a Prometheus beside them has its answers."""
    python(WRITES, PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    with exporter(tmp_path) as (pid, port), contextlib.ExitStack() as stack:
        assert len(ask(port)[2]) > 6.9 * MEGABYTE
        for number in range(64):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(PATIENCE_SECONDS)
            client.connect(("127.0.0.1", port))
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            if number % 5 == 0:
                client.recv(1)  # so that they do not share one answer
            if number % 16 == 0:
                status, _, body = ask(port)
                assert (status, body[-1:]) == (200, b"\n")
        assert most_memory(pid) < 200 * MEGABYTE


@contextlib.contextmanager
def exporter(directory: Path) -> Iterator[tuple[int, int]]:
    command = [sys.executable, "-m", "web_prom", "serve", "--dir", str(directory), "--bind", "127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stderr is not None
            found = re.search(r":(\d+)/", process.stderr.readline())
            assert found
            yield process.pid, int(found[1])
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


def most_memory(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024
