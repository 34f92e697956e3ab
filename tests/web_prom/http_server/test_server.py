"""The scrape server: valid and invalid requests, clients that try to block it, and its end."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.web_prom.http_server.serving import (
    PATIENCE_SECONDS,
    RunningServer,
    ask,
    everything,
    hello,
    request,
)
from web_prom.config.addresses import Address
from web_prom.exposition.http import Response
from web_prom.http_server.connections import State
from web_prom.http_server.listener import listen
from web_prom.http_server.server import ScrapeServer


class BlockingRespond:
    """Answers requests only after an event is set."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.let = threading.Event()

    def __call__(self, environ: Mapping[str, Any]) -> Response:
        self.asked.release()
        assert self.let.wait(PATIENCE_SECONDS)
        return hello(environ)


# Requests ----------------------------------------------------------------------------------------------


def test_connection_serves_many_requests() -> None:
    with (
        RunningServer() as serving,
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", serving.port)) as one,
    ):
        for number in range(3):
            one.request("GET", f"/{number}")
            response = one.getresponse()
            assert (response.status, response.version) == (200, 11)
            assert response.getheader("Connection") == "keep-alive"
            assert response.read() == f"GET /{number}".encode()
            if number == 0:
                used = one.sock
            assert one.sock is used


def test_pipelined_requests_are_answered_in_order() -> None:
    with RunningServer() as serving, serving.client() as client:
        client.sendall(
            b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        answers = everything(client)
        assert answers.index(b"GET /1") < answers.index(b"GET /2")


def test_head_request_is_answered_without_a_body() -> None:
    with RunningServer() as serving, serving.client() as client:
        client.sendall(b"HEAD /1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = everything(client)
        assert b"Content-Length: 7\r\n" in answer
        assert answer.endswith(b"\r\n\r\n")


def test_http_1_0_connection_is_closed_after_the_answer() -> None:
    with RunningServer() as serving, serving.client() as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert everything(client).endswith(b"Connection: close\r\n\r\nGET /")


def test_request_body_is_not_parsed_as_a_request() -> None:
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    for length in (b"Content-Length: %d" % len(smuggled), b"Transfer-Encoding: chunked"):
        with RunningServer() as serving, serving.client() as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n" + length + b"\r\n\r\n" + smuggled)
            answer = everything(client)
            assert b"POST /" in answer
            assert b"smuggled" not in answer


def test_environ_is_that_of_wsgi() -> None:
    seen: dict[str, Any] = {}

    def respond(environ: Mapping[str, Any]) -> Response:
        seen.update(environ)
        return hello(environ)

    with RunningServer(respond) as serving, serving.client() as client:
        client.sendall(
            b"GET http://host/a%20b?name[]=x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Accept: a\r\nAccept: b\r\nX_Forwarded_For: 10.0.0.1\r\n\r\n"
        )
        everything(client)
    assert seen["PATH_INFO"] == "/a b"
    assert seen["QUERY_STRING"] == "name[]=x"
    assert seen["REMOTE_ADDR"] == "127.0.0.1"
    assert seen["HTTP_ACCEPT"] == "a,b"
    assert "HTTP_X_FORWARDED_FOR" not in seen


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x00\xff\r\n\r\n", b"400"),
        (b"GET / HTTP/9\r\n\r\n", b"400"),
        (b"GET http://[ HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"431"),
    ],
)
def test_invalid_request_is_answered_and_closed(sent: bytes, status: bytes) -> None:
    with RunningServer() as serving, serving.client() as client:
        client.sendall(sent)
        answer = everything(client)
        assert answer.startswith(b"HTTP/1.1 " + status), answer
        assert b"Connection: close" in answer
        assert serving.get()[0] == 200


def test_disconnecting_client_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with RunningServer() as serving:
        for sent in (b"", b"GET", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
            with serving.client() as client:
                client.sendall(sent)
        assert serving.get()[0] == 200
    assert caplog.records == []


def test_failing_answer_ends_only_its_connection(caplog: pytest.LogCaptureFixture) -> None:
    def respond(environ: Mapping[str, Any]) -> Response:
        if environ["PATH_INFO"] == "/bad":
            raise RuntimeError("as meant")
        return hello(environ)

    with RunningServer(respond) as serving:
        with serving.client() as client:
            client.sendall(b"GET /bad HTTP/1.1\r\nHost: x\r\n\r\n")
            assert everything(client) == b""
        assert serving.get()[0] == 200
    assert [record.levelname for record in caplog.records] == ["ERROR"]


# Clients that would hold the server ----------------------------------------------------------------------


def test_slow_request_is_ended_and_blocks_no_other() -> None:
    """Slow loris: each byte arrives in time, but the request never ends."""
    with RunningServer() as serving, serving.client() as slow:
        serving.wait_for(slow, State.READING)
        serving.clock.go(1)
        slow.sendall(b"G")
        serving.wait_for(slow, State.READING)  # from its first byte, not from the connection
        for byte in b"ET / HTTP/1.1\r\n":
            slow.sendall(bytes([byte]))
            serving.clock.go(0.5)
            assert serving.get()[0] == 200
        serving.clock.go(5)
        assert serving.get()[0] == 200
        assert everything(slow) == b""


def test_idle_connection_has_a_longer_limit() -> None:
    with RunningServer() as serving, serving.client() as client:
        assert request(client, "/1") == b"GET /1"
        serving.wait_for(client, State.IDLE)
        serving.clock.go(120)
        assert serving.get()[0] == 200
        assert request(client, "/2") == b"GET /2"
        serving.wait_for(client, State.IDLE)
        serving.clock.go(151)
        assert serving.get()[0] == 200
        assert everything(client) == b""


def test_client_that_does_not_read_its_answer_is_ended() -> None:
    sending = threading.Event()

    def respond(environ: Mapping[str, Any]) -> Response:
        if environ["PATH_INFO"] != "/large":
            return hello(environ)
        sending.set()
        return Response("200 OK", [], b"x" * 50_000_000)

    with RunningServer(respond) as serving, serving.client() as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sending.wait(PATIENCE_SECONDS)
        assert client.recv(1)
        serving.clock.go(31)
        assert serving.get()[0] == 200
        with contextlib.suppress(ConnectionError):
            assert len(everything(client)) < 50_000_000


def test_longest_waiting_connection_is_evicted_at_the_limit() -> None:
    with RunningServer(limit=3) as serving, contextlib.ExitStack() as stack:
        waiting = []
        for _ in range(3):
            client = stack.enter_context(serving.client())
            waiting.append(client)
            assert request(client, "/1") == b"GET /1"
            serving.wait_for(client, State.IDLE)
            serving.clock.go(1)
        assert serving.get()[0] == 200
        assert everything(waiting[0]) == b""
        for client in waiting[1:]:
            assert request(client, "/2") == b"GET /2"


def test_new_connection_is_not_evicted_within_a_second() -> None:
    with RunningServer(limit=1) as serving, serving.client() as first, serving.client() as second:
        serving.wait_for(first, State.READING)
        second.sendall(b"GET /2 HTTP/1.0\r\n\r\n")
        second.settimeout(0.2)
        with pytest.raises(TimeoutError):
            second.recv(1)
        serving.clock.go(1.5)
        second.settimeout(PATIENCE_SECONDS)
        assert everything(second).endswith(b"GET /2")
        assert everything(first) == b""


def test_client_waits_while_all_connections_are_processing() -> None:
    held = BlockingRespond()
    with RunningServer(held, limit=2) as serving, ThreadPoolExecutor(3) as clients:
        answers = [clients.submit(serving.get, f"/{number}") for number in range(3)]
        for _ in range(2):
            assert held.asked.acquire(timeout=PATIENCE_SECONDS)
        assert not held.asked.acquire(timeout=0.2)
        held.let.set()
        assert [answer.result()[0] for answer in answers] == [200, 200, 200]


def test_forty_concurrent_clients_are_answered() -> None:
    with RunningServer() as serving, ThreadPoolExecutor(40) as clients:
        answers = [clients.submit(serving.get, f"/{number}") for number in range(200)]
        assert [answer.result()[2] for answer in answers] == [
            f"GET /{number}".encode() for number in range(200)
        ]


# The end -------------------------------------------------------------------------------------------------


def test_stop_answers_current_requests_and_frees_the_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("web_prom.http_server.server._GRACE_SECONDS", PATIENCE_SECONDS)
    held = BlockingRespond()
    with RunningServer(held, limit=1) as serving, ThreadPoolExecutor(1) as clients:
        answer = clients.submit(serving.get)
        assert held.asked.acquire(timeout=PATIENCE_SECONDS)
        with serving.client() as queued:
            queued.sendall(b"GET /queued HTTP/1.1\r\nHost: x\r\n\r\n")
            serving.server.stop()
            assert held.asked.acquire(timeout=PATIENCE_SECONDS)
            serving.wait_until_refused()
            held.let.set()
            assert everything(queued).endswith(b"Connection: close\r\n\r\nGET /queued")
        status, headers, _ = answer.result()
        assert (status, headers["Connection"]) == (200, "close")


def test_stop_closes_idle_connections_at_once() -> None:
    with RunningServer() as serving, serving.client() as client:
        assert request(client, "/") == b"GET /"
        serving.server.stop()
        assert everything(client) == b""


class Rush(socket.socket):
    """A listening socket with a new client at every accept."""

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection after a new client has connected."""
        socket.create_connection(self.getsockname(), PATIENCE_SECONDS).close()
        self.accepted = getattr(self, "accepted", 0) + 1
        assert self.accepted < 1000, "it does not end"
        return super().accept()


def test_stop_does_not_wait_for_new_clients() -> None:
    with Rush(fileno=listen(Address("127.0.0.1", 0)).detach()) as rush:
        rush.setblocking(False)
        server = ScrapeServer(rush, hello)
        server.stop()
        server.run()
    assert rush.accepted > 1


def test_run_ends_when_keep_running_returns_false() -> None:
    serving = RunningServer()
    serving.server.run(lambda: False)
    with pytest.raises(ConnectionRefusedError):
        ask(serving.port)
