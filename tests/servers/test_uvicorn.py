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
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from types import TracebackType
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests import interpreters
from tests.servers.client import Account, Client, reset
from tests.servers.process import PATIENCE_SECONDS, Scratch, scratch, wait_until

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
def server(request: pytest.FixtureRequest) -> Iterator[Uvicorn]:
    """Return a server with each of uvicorn's HTTP implementations that is installed. Its tests share it."""
    with scratch() as place, Uvicorn(place, f"--http={request.param}") as running:
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


def sizes(server: Uvicorn, name: str) -> Counter[str]:
    """Return the sums of a histogram of sizes by route."""
    found = server.samples(f"http_{name}_size_bytes", f"http_{name}_size_bytes_sum", "route")
    return Counter({route: int(total) for (route,), total in found.items()})


def raised(server: Uvicorn, before: Mapping[tuple[str, ...], float]) -> Counter[tuple[str, ...]]:
    """Return the exceptions since those before by route and type."""
    found = Counter({key: int(count) for key, count in server.exceptions().items()})
    found.subtract({key: int(count) for key, count in before.items()})
    return +found


def test_requests_are_counted_as_sent(server: Uvicorn) -> None:
    """Several concurrent clients, each with a persistent connection."""
    before, exceptions = server.rest(), server.exceptions()
    sent, read = sizes(server, "response"), sizes(server, "request")
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
    server.settle(before + expected)
    assert sum(expected.values()) == 4 * 11 * len(KINDS)
    assert raised(server, exceptions) == {("/error", "RuntimeError"): 44}
    counts = server.samples(
        "http_request_duration_seconds", "http_request_duration_seconds_count", "method", "route"
    )
    counted = before + expected
    for method, route in {key[:2] for key in counted}:
        assert counts[method, route] == sum(n for key, n in counted.items() if key[:2] == (method, route))
    assert sizes(server, "response")["/stream"] == sent["/stream"] + 44 * 10_000
    assert sizes(server, "request") == read + Counter({"/orders": 4400})


def test_fault_01_stream_is_in_progress_until_its_end(server: Uvicorn) -> None:
    before, exceptions = server.rest(), server.exceptions()
    with contextlib.closing(server.raw("GET /endless HTTP/1.1\nHost: x\n\n")) as opened:
        assert b"200 OK" in opened.recv(100)
        assert server.gauge("http_requests_in_progress") == 1
        assert server.requests() == before
        reset(opened)
    server.settle(before + Counter({("GET", "/endless", "200"): 1}))
    assert server.exceptions() == exceptions


def test_fault_02_clients_that_disconnect_during_the_response_are_counted(server: Uvicorn) -> None:
    before, exceptions = server.rest(), server.exceptions()
    for number in range(10):
        opened = server.raw("GET /endless HTTP/1.1\nHost: x\n\n")
        assert b"200 OK" in opened.recv(100)
        if number % 2:
            reset(opened)
        opened.close()
    server.settle(before + Counter({("GET", "/endless", "200"): 10}))
    assert server.exceptions() == exceptions


def test_fault_02_body_that_fails_keeps_its_status(server: Uvicorn) -> None:
    before, exceptions = server.rest(), server.exceptions()
    with pytest.raises(http.client.IncompleteRead):
        server.get("/breaks-half-way")
    server.settle(before + Counter({("GET", "/breaks-half-way", "200"): 1}))
    ((route, _),) = raised(server, exceptions)
    assert route == "/breaks-half-way"


def test_clients_that_disconnect_before_the_response_are_499(server: Uvicorn) -> None:
    """They disconnect in the middle of the request body, or while the application works."""
    before, exceptions = server.rest(), server.exceptions()
    waiting = server.raw("GET /patient HTTP/1.1\nHost: x\n\n")
    wait_until(lambda: server.gauge("http_requests_in_progress") == 1, "the request to arrive")
    waiting.close()
    asking = server.raw("POST /orders HTTP/1.1\nHost: x\nContent-Length: 100\n\nxyz")
    wait_until(lambda: server.gauge("http_requests_in_progress") >= 1, "the request to arrive")
    asking.close()
    server.settle(before + Counter({("GET", "/patient", "499"): 1, ("POST", "/orders", "499"): 1}))
    assert server.exceptions() == exceptions


def test_scrapes_are_answered_and_not_counted(server: Uvicorn) -> None:
    before = server.rest()
    for path in ("/metrics", "/mounted/", "/mounted/anything"):
        for method, status in (("GET", 200), ("HEAD", 200), ("OPTIONS", 200), ("POST", 405)):
            answered, body = server.get(path, method)
            assert answered == status
            assert (b"http_requests_in_progress" in body) is (method == "GET")
    server.settle(before)


# WebSockets ------------------------------------------------------------------------------------------


WEBSOCKETS = ["websockets", "websockets-sansio"]
ROUTE = "/echo/{room}"


@pytest.fixture(scope="module", params=WEBSOCKETS)
def chat(request: pytest.FixtureRequest) -> Iterator[Uvicorn]:
    """Return a server with each of uvicorn's implementations on top of websockets. Its tests share it."""
    with scratch() as place, Uvicorn(place, "--http=h11", f"--ws={request.param}") as running:
        yield running


def url(server: Uvicorn, path: str) -> str:
    """Return the address of a WebSocket."""
    return f"ws://127.0.0.1:{server.port}{path}"


def ended(server: Uvicorn, before: Mapping[tuple[str, ...], float], more: dict[tuple[str, ...], int]) -> None:
    """Wait until so many more connections have ended and none is open; fail with the difference."""
    expected = Counter(before) + Counter(more)
    with contextlib.suppress(AssertionError):
        wait_until(lambda: server.connections() == expected, "the connections to end")
    assert server.connections() == expected
    assert server.gauge("websocket_connections_in_progress") == 0
    server.settle(Counter())


def test_websocket_messages_and_closes_are_counted(chat: Uvicorn) -> None:
    before, messages, timed = chat.connections(), moved(chat), durations(chat)
    for code in (1000, 1001, 3000, 4000):
        with connect(url(chat, f"/echo/{code}")) as websocket:
            for number in range(3):
                websocket.send(str(number))
                assert websocket.recv() == str(number)
            assert chat.gauge("websocket_connections_in_progress") == 1
            websocket.close(code)
    ended(chat, before, {(ROUTE, "1000"): 1, (ROUTE, "1001"): 1, (ROUTE, "_OTHER"): 2})
    assert moved(chat) == messages + Counter({(ROUTE, "received"): 12, (ROUTE, "sent"): 12})
    assert durations(chat) == timed + Counter({(ROUTE,): 4})


def moved(server: Uvicorn) -> Counter[tuple[str, ...]]:
    """Return the messages by route and direction."""
    name = "websocket_messages"
    found = server.samples(name, f"{name}_total", "route", "direction")
    return Counter({key: int(count) for key, count in found.items()})


def durations(server: Uvicorn) -> Counter[tuple[str, ...]]:
    """Return how many connections were timed by route."""
    name = "websocket_connection_duration_seconds"
    found = server.samples(name, f"{name}_count", "route")
    return Counter({key: int(count) for key, count in found.items()})


def test_websocket_close_and_failure_of_the_application_are_counted(chat: Uvicorn) -> None:
    before = chat.connections()
    for text in ("close", "raise"):
        with connect(url(chat, "/echo/1")) as websocket:
            websocket.send(text)
            with pytest.raises(ConnectionClosed):
                websocket.recv()
    ended(chat, before, {(ROUTE, "1008"): 1, (ROUTE, "1011"): 1})


def test_rejected_handshakes_are_counted(chat: Uvicorn) -> None:
    before = chat.connections()
    for path in ("/refused", "/no/such/room"):
        with pytest.raises(InvalidStatus), connect(url(chat, path)):
            pass
    ended(chat, before, {("/refused", "_rejected"): 1, ("_unmatched", "_rejected"): 1})


def test_lost_websocket_connections_are_counted(chat: Uvicorn) -> None:
    """The connection ends without a close frame; the code is the server's, which is not always 1006."""
    before = Counter(chat.connections())
    ended_before = sum(before.values())
    for _ in range(3):
        with connect(url(chat, "/echo/1")) as websocket:
            websocket.send("x")
            assert websocket.recv() == "x"
            reset(websocket.socket)
    wait_until(lambda: sum(chat.connections().values()) == ended_before + 3, "the connections to end")
    assert set(Counter(chat.connections()) - before) <= {(ROUTE, "1005"), (ROUTE, "1006")}
    assert chat.gauge("websocket_connections_in_progress") == 0
