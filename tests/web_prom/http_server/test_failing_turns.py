"""The scrape server continues after failures: no descriptors, no threads, no memory, bad certificates."""

from __future__ import annotations

import contextlib
import errno
import logging
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.web_prom.http_server.serving import PATIENCE_SECONDS, RunningServer, everything, hello
from tests.web_prom.support import python
from web_prom.config.addresses import Address
from web_prom.http_server import server as server_module
from web_prom.http_server.listener import listen
from web_prom.http_server.server import ScrapeServer


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_HOUSEKEEPING_SECONDS", 0.05)


def failing(times: int, error: BaseException, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that raises an error a number of times and then calls the given function."""
    left = [times]

    def call(*args: Any, **options: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise error
        return function(*args, **options)

    return call


@pytest.mark.slow
@pytest.mark.parametrize("server", ["start_http_server", "exporter"])
def test_fault_68_scrape_is_answered_after_descriptors_were_exhausted(server: str) -> None:
    printed = python(
        """
        import logging, os, resource, socket, sys, tempfile, threading, time
        from pathlib import Path

        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        complained = threading.Event()
        notice = logging.Handler()
        notice.emit = lambda record: complained.set()
        logging.getLogger().addHandler(notice)
        resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))
        if sys.argv[1] == "start_http_server":
            from web_prom import start_http_server
            server, thread = start_http_server(0, "127.0.0.1")
            port = server.server_port
        else:
            from web_prom.config import Config
            from web_prom.http_server.listener import listen
            from web_prom.exporter.directory_app import DirectoryMetricsApp
            from web_prom.http_server.server import ScrapeServer
            from web_prom.config.addresses import Address
            listener = listen(Address("127.0.0.1", 0))
            port = listener.getsockname()[1]
            scrapes = DirectoryMetricsApp(Path(tempfile.gettempdir()) / "none", Config())
            thread = threading.Thread(target=ScrapeServer(listener, scrapes).run, daemon=True)
            thread.start()
        client = socket.socket()
        client.settimeout(60)
        time.sleep(1.2)  # more than one turn of the server
        taken = []
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            pass
        client.connect(("127.0.0.1", port))
        client.sendall(b"GET /metrics HTTP/1.0\\r\\n\\r\\n")
        complained.wait(60)
        time.sleep(1.5)  # more than one other turn
        for descriptor in taken:
            os.close(descriptor)
        print(client.recv(12).decode(), thread.is_alive())
        """,
        server,
    )
    *complaints, answer = printed.splitlines()
    assert answer.startswith("HTTP/1.1 ")
    assert answer.endswith(" True")
    assert [line.split(":")[0] for line in complaints if "accept" in line] == [
        "the metrics server cannot accept connections"
    ], printed


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENFILE, "as meant"), OSError(errno.ENOMEM, "as meant"), MemoryError(), ValueError()],
)
def test_fault_68_failing_turn_is_logged_once_and_retried(
    error: Exception, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = RunningServer()
    select = selectors.DefaultSelector.select
    monkeypatch.setattr(selectors.DefaultSelector, "select", failing(7, error, select))
    with serving:
        assert serving.get()[0] == 200
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_fault_68_selector_is_created_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    selector = selectors.DefaultSelector

    def counted() -> selectors.BaseSelector:
        made.append(1)
        return selector()

    monkeypatch.setattr(selectors, "DefaultSelector", counted)
    with RunningServer() as serving:
        for _ in range(5):
            assert serving.get()[0] == 200
    assert len(made) == 1


class Refusing(socket.socket):
    """A listening socket whose next accepts fail."""

    failures = 3

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection, or raise."""
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "as meant")
        return super().accept()


def test_fault_68_failing_accept_is_retried(caplog: pytest.LogCaptureFixture) -> None:
    with Refusing(fileno=listen(Address("127.0.0.1", 0)).detach()) as refusing:
        refusing.setblocking(False)
        port = refusing.getsockname()[1]
        server = ScrapeServer(refusing, hello)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as client:
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert everything(client).endswith(b"GET /")
        finally:
            server.stop()
            thread.join(PATIENCE_SECONDS)
    assert refusing.failures == 0
    assert len(caplog.records) == 1


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_fault_68_connection_is_kept_until_a_thread_can_be_started(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    serving = RunningServer()
    with serving, ThreadPoolExecutor(2) as pool:
        pool.submit(int).result()
        pool.submit(int).result()
        monkeypatch.setattr(server_module, "Thread", failing(5, error, threading.Thread))
        for answer in [pool.submit(serving.get, f"/{number}") for number in range(2)]:
            assert answer.result(PATIENCE_SECONDS)[0] == 200
        wait_for_no_connections(serving)
    assert len(caplog.records) == 1


def wait_for_no_connections(serving: RunningServer) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(serving.server._connections):
        assert time.monotonic() < deadline, "a place is lost"
        time.sleep(0.01)


class Unreadable:
    """Certificates that cannot be loaded at first."""

    def __init__(self) -> None:
        self.context = failing(3, ssl.SSLError("as meant"), lambda: None)


def test_fault_68_failing_tls_context_does_not_occupy_a_connection(caplog: pytest.LogCaptureFixture) -> None:
    certificates: Any = Unreadable()
    with RunningServer(certificates=certificates) as serving:
        assert serving.get()[0] == 200
        wait_for_no_connections(serving)
    assert len(caplog.records) == 1


def test_fault_68_server_that_cannot_start_threads_can_be_stopped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    monkeypatch.setattr(server_module, "Thread", failing(1_000_000, RuntimeError(), threading.Thread))
    with RunningServer() as serving, serving.client() as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        serving.server.stop()
        with contextlib.suppress(ConnectionError):
            assert everything(client) == b""
