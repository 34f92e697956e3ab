"""The time since a request's last bytes, from real sockets."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from web_prom.metrics.queue_time import QueueTime
from web_prom.runtime.tcp_info import milliseconds_since_last_data

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has TCP_INFO with this field")


class Recorded(QueueTime):
    """A queue time whose measurements are kept here."""

    def __init__(self) -> None:
        super().__init__(lambda: None, pytest.fail)
        self.seconds: list[float] = []

    def flush(self) -> None:
        milliseconds = milliseconds_since_last_data(self._pending_infos)
        self.seconds += [*self._pending_seconds, *(each / 1000 for each in milliseconds)]
        self.clear_pending()


def queue_seconds(environ: dict[str, Any]) -> float | None:
    recorded = Recorded()
    recorded.observe(environ)
    return recorded.seconds[0] if recorded.seconds else None


def environ(connection: Any) -> dict[str, Any]:
    return {"gunicorn.socket": connection, "REMOTE_ADDR": "127.0.0.1"}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_tcp_info_has_the_time_since_the_last_bytes(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with (
        socket.create_server((host, 0), family=family) as server,
        socket.create_connection(server.getsockname()[:2]) as client,
    ):
        begun = time.monotonic()
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        sent = time.monotonic()
        time.sleep(0.25)
        connection, _ = server.accept()
        with connection:
            before = time.monotonic() - sent
            waited = queue_seconds(environ(connection))
            after = time.monotonic() - begun
            assert waited is not None
            # The kernel's clock ticks every 4 ms, or every 10.
            assert before - 0.02 <= waited <= after + 0.02
            # The next request of the connection has a time of its own.
            begun = time.monotonic()
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            connection.recv(100)
            again = queue_seconds(environ(connection))
            assert again is not None
            assert again <= time.monotonic() - begun + 0.02


def test_tcp_info_is_missing_of_a_unix_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(f"{tmp_path}/sock")
        server.listen()
        client.connect(f"{tmp_path}/sock")
        connection, _ = server.accept()
        with connection:
            assert queue_seconds({"gunicorn.socket": connection, "REMOTE_ADDR": ""}) is None
            # PROXY protocol gives an address of a peer beyond the socket.
            assert queue_seconds(environ(connection)) is None


def test_tcp_info_is_missing_of_a_closed_socket() -> None:
    connection = socket.socket()
    connection.close()
    assert queue_seconds(environ(connection)) is None


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"REMOTE_ADDR": "127.0.0.1"},
        {"REMOTE_ADDR": "127.0.0.1", "gunicorn.socket": None},
        {"REMOTE_ADDR": "127.0.0.1", "gunicorn.socket": "text"},
        {"gunicorn.socket": None},
    ],
    ids=str,
)
def test_tcp_info_is_missing_without_a_socket(given: dict[str, Any]) -> None:
    assert queue_seconds(given) is None


def test_tcp_info_is_missing_on_another_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web_prom.metrics.queue_time.HAS_TCP_INFO", False)
    with socket.socket() as connection:
        assert queue_seconds(environ(connection)) is None


@pytest.mark.parametrize("size", [0, 40, 55])
def test_tcp_info_that_is_too_short_gives_no_time(size: int) -> None:
    assert milliseconds_since_last_data([bytes(size), bytes(56)]) == [0]
