"""ASGI with a real uvicorn of one worker: requests are counted as sent, whatever the clients do."""

from __future__ import annotations

import contextlib
import http.client
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from types import TracebackType
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests import interpreters
from tests.servers.client import Account, Client, reset
from tests.servers.process import PATIENCE_SECONDS, Scratch, wait_until

pytestmark = pytest.mark.versions


class Uvicorn(Client):
    """A running uvicorn, as a context manager: ready at the start of the block, ended after it.

    Args:
        place: Where its log is.
        arguments: More of its command line.
        app: The application.
    """

    def __init__(self, place: Scratch, *arguments: str, app: str = "tests.servers.apps.asgi_app:app") -> None:
        self._place = place
        self._path = place.folder / "uvicorn.log"
        self._command = [sys.executable, "-m", "uvicorn", "--port=0", *arguments, app]

    def __enter__(self) -> Uvicorn:
        with self._path.open("wb") as log:
            self._process = interpreters.Popen(
                self._command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self._place.environ,
                cwd=self._place.folder,
            )
        try:
            told = wait_until(self._listening, "a server", shown=self.log)
            assert isinstance(told, re.Match), self.log()
            self.port = int(told[1])
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(PATIENCE_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()

    def _listening(self) -> object:
        told = re.search(r"running on http://127\.0\.0\.1:(\d+)", self.log())
        return told or self._process.poll() is not None

    def log(self) -> str:
        """Return what the server wrote so far."""
        return self._path.read_text("utf-8", "replace")


PROTOCOLS = ["h11", *(["httptools"] if find_spec("httptools") else [])]


@pytest.fixture(scope="module", params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    """Return each of uvicorn's HTTP implementations that is installed."""
    return str(request.param)


@pytest.fixture
def server(place: Scratch, protocol: str) -> Iterator[Uvicorn]:
    """Return a server."""
    with Uvicorn(place, f"--http={protocol}") as running:
        yield running


KINDS = [
    ("GET", "/", 200, "/"),
    ("HEAD", "/", 200, "/"),
    ("GET", "/items/{}", 200, "/items/{number:int}"),
    ("GET", "/items/0", 404, "/items/{number:int}"),
    ("GET", "/no/such/page/{}", 404, "_unmatched"),
    ("POST", "/", 405, "/"),
    ("PROPFIND", "/", 405, "/"),
    ("POST", "/orders", 201, "/orders"),
    ("GET", "/error", 500, "/error"),
    ("GET", "/stream", 200, "/stream"),
    ("GET", "/items/{}/", 307, "/items/{number:int}"),
]


def test_requests_are_counted_as_sent(server: Uvicorn) -> None:
    """Several concurrent clients, each with a persistent connection."""
    expected: Account = Counter()
    lock = threading.Lock()
    wrong: list[Any] = []

    def send(client: int) -> None:
        with server.connection() as opened:
            for number in range(1, 12):
                for method, path, status, route in KINDS:
                    body = b"x" * 100 if method == "POST" else None
                    try:
                        opened.request(method, path.format(client * 1000 + number), body)
                        response = opened.getresponse()
                        response.read()
                        if status == 500:  # Starlette raises on, and uvicorn hangs up
                            opened.close()
                    except Exception as error:
                        wrong.append(error)
                        return
                    if response.status != status:
                        wrong.append((method, path, response.status))
                    with lock:
                        expected["_OTHER" if method == "PROPFIND" else method, route, str(status)] += 1

    threads = [threading.Thread(target=send, args=(client,)) for client in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    server.settle(expected)
    assert sum(expected.values()) == 4 * 11 * len(KINDS)
    assert server.exceptions() == {("/error", "RuntimeError"): 44}
    counts = server.samples(
        "http_request_duration_seconds", "http_request_duration_seconds_count", "method", "route"
    )
    for method, route in {key[:2] for key in expected}:
        assert counts[method, route] == sum(n for key, n in expected.items() if key[:2] == (method, route))
    sizes = server.samples("http_response_size_bytes", "http_response_size_bytes_sum", "route")
    assert sizes["/stream",] == 44 * 10_000
    read = server.samples("http_request_size_bytes", "http_request_size_bytes_sum", "route")
    assert read == {("/orders",): 4400}


def test_fault_01_stream_is_in_progress_until_its_end(server: Uvicorn) -> None:
    with contextlib.closing(server.raw("GET /endless HTTP/1.1\nHost: x\n\n")) as opened:
        assert b"200 OK" in opened.recv(100)
        assert server.gauge("http_requests_in_progress") == 1
        assert server.requests() == {}
        reset(opened)
    server.settle(Counter({("GET", "/endless", "200"): 1}))
    assert server.exceptions() == {}


def test_fault_02_clients_that_disconnect_during_the_response_are_counted(server: Uvicorn) -> None:
    for number in range(10):
        opened = server.raw("GET /endless HTTP/1.1\nHost: x\n\n")
        assert b"200 OK" in opened.recv(100)
        if number % 2:
            reset(opened)
        opened.close()
    server.settle(Counter({("GET", "/endless", "200"): 10}))
    assert server.exceptions() == {}


def test_fault_02_body_that_fails_keeps_its_status(server: Uvicorn) -> None:
    with pytest.raises(http.client.IncompleteRead):
        server.get("/breaks-half-way")
    server.settle(Counter({("GET", "/breaks-half-way", "200"): 1}))
    ((route, _),) = server.exceptions()
    assert route == "/breaks-half-way"


def test_clients_that_disconnect_before_the_response_are_499(server: Uvicorn) -> None:
    """They disconnect in the middle of the request body, or while the application works."""
    waiting = server.raw("GET /patient HTTP/1.1\nHost: x\n\n")
    wait_until(lambda: server.gauge("http_requests_in_progress") == 1, "the request to arrive")
    waiting.close()
    asking = server.raw("POST /orders HTTP/1.1\nHost: x\nContent-Length: 100\n\nxyz")
    wait_until(lambda: server.gauge("http_requests_in_progress") >= 1, "the request to arrive")
    asking.close()
    server.settle(Counter({("GET", "/patient", "499"): 1, ("POST", "/orders", "499"): 1}))
    assert server.exceptions() == {}


def test_scrapes_are_answered_and_not_counted(server: Uvicorn) -> None:
    for path in ("/metrics", "/mounted/", "/mounted/anything"):
        for method, status in (("GET", 200), ("HEAD", 200), ("OPTIONS", 200), ("POST", 405)):
            answered, body = server.get(path, method)
            assert answered == status
            assert (b"http_requests_in_progress" in body) is (method == "GET")
    server.settle(Counter())


# WebSockets ------------------------------------------------------------------------------------------


WEBSOCKETS = ["websockets", "websockets-sansio"]
ROUTE = "/echo/{room}"


@pytest.fixture(params=WEBSOCKETS)
def chat(request: pytest.FixtureRequest, place: Scratch) -> Iterator[Uvicorn]:
    """Return a server with each of uvicorn's implementations on top of websockets."""
    with Uvicorn(place, "--http=h11", f"--ws={request.param}") as running:
        yield running


def url(server: Uvicorn, path: str) -> str:
    """Return the address of a WebSocket."""
    return f"ws://127.0.0.1:{server.port}{path}"


def ended(server: Uvicorn, expected: dict[tuple[str, str], int]) -> None:
    """Wait until so many connections have ended and none is open; fail with the difference."""
    with contextlib.suppress(AssertionError):
        wait_until(lambda: server.connections() == expected, "the connections to end")
    assert server.connections() == expected
    assert server.gauge("websocket_connections_in_progress") == 0
    server.settle(Counter())


def test_websocket_messages_and_closes_are_counted(chat: Uvicorn) -> None:
    for code in (1000, 1001, 3000, 4000):
        with connect(url(chat, f"/echo/{code}")) as websocket:
            for number in range(3):
                websocket.send(str(number))
                assert websocket.recv() == str(number)
            assert chat.gauge("websocket_connections_in_progress") == 1
            websocket.close(code)
    ended(chat, {(ROUTE, "1000"): 1, (ROUTE, "1001"): 1, (ROUTE, "_OTHER"): 2})
    name = "websocket_messages"
    assert chat.samples(name, f"{name}_total", "route", "direction") == {
        (ROUTE, "received"): 12,
        (ROUTE, "sent"): 12,
    }
    name = "websocket_connection_duration_seconds"
    assert chat.samples(name, f"{name}_count", "route") == {(ROUTE,): 4}


def test_websocket_close_and_failure_of_the_application_are_counted(chat: Uvicorn) -> None:
    for text in ("close", "raise"):
        with connect(url(chat, "/echo/1")) as websocket:
            websocket.send(text)
            with pytest.raises(ConnectionClosed):
                websocket.recv()
    ended(chat, {(ROUTE, "1008"): 1, (ROUTE, "1011"): 1})


def test_rejected_handshakes_are_counted(chat: Uvicorn) -> None:
    for path in ("/refused", "/no/such/room"):
        with pytest.raises(InvalidStatus), connect(url(chat, path)):
            pass
    ended(chat, {("/refused", "_rejected"): 1, ("_unmatched", "_rejected"): 1})


def test_lost_websocket_connections_are_counted(chat: Uvicorn) -> None:
    """The connection ends without a close frame; the code is the server's, which is not always 1006."""
    for _ in range(3):
        with connect(url(chat, "/echo/1")) as websocket:
            websocket.send("x")
            assert websocket.recv() == "x"
            reset(websocket.socket)
    wait_until(lambda: sum(chat.connections().values()) == 3, "the connections to end")
    assert set(chat.connections()) <= {(ROUTE, "1005"), (ROUTE, "1006")}
    assert chat.gauge("websocket_connections_in_progress") == 0
