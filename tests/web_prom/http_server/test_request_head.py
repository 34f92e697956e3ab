"""The parser of request heads: ambiguous heads are rejected, and the connection is closed."""

from __future__ import annotations

import socket

import pytest

from tests.web_prom.http_server.serving import RunningServer, everything
from web_prom.config import Config
from web_prom.exposition.http import Exposition
from web_prom.http_server.request_head import HeadError, end_of_head, read_head

REFUSED = {
    "two lengths": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n",
    "two equal lengths": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
    "a list of lengths": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0, 0\r\n\r\n",
    "a signed length": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n",
    "digits beyond ASCII": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: \xb2\r\n\r\n",
    "an empty length": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\n",
    "a tab before the colon": b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding\t: chunked\r\n\r\n",
    "a line without a colon": b"GET / HTTP/1.1\r\nHost: x\r\nnonsense\r\nContent-Length: 5\r\n\r\n",
    "no name": b"GET / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n",
    "a folded line": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
    "a first line that is folded": b"GET / HTTP/1.1\r\n Host: x\r\nHost: x\r\n\r\n",
    "a bare CR": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rX-Forwarded-For: 10.1.1.1\r\n\r\n",
    "a bare LF": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\nX-Forwarded-For: 10.1.1.1\r\n\r\n",
    "lines that end with LF": b"GET / HTTP/1.1\nHost: x\n\n",
    "NUL": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
    "a vertical tab": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x0bc\r\n\r\n",
    "DEL": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x7fc\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: x\r\nhost: y\r\n\r\n",
    "a Host that is none": b"GET / HTTP/1.1\r\nHost: x y\r\n\r\n",
    "length and encoding": b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Length: 5\r\n\r\n",
    "an unknown encoding": b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n",
    "an encoding in HTTP/1.0": b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "an empty line first": b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tab for a space": b"GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "a target beyond ASCII": b"GET /\xe9 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a fragment": b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED.keys())
def test_fault_76_ambiguous_head_is_rejected(sent: bytes) -> None:
    with RunningServer() as serving, serving.client() as client:
        client.sendall(sent + b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n" * sent.endswith(b"\r\n\r\n"))
        answer = everything(client)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.count(b"HTTP/1.1") == 1
    assert b"smuggled" not in answer


def test_incomplete_head_is_rejected() -> None:
    with RunningServer() as serving, serving.client() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x")
        client.shutdown(socket.SHUT_WR)
        assert everything(client).startswith(b"HTTP/1.1 400 ")


def test_fault_76_header_inside_of_a_value_does_not_bypass_allowed_networks() -> None:
    """The proxy sends its own X-Forwarded-For, and passes the header of the client unchanged."""
    config = Config.load({"allowed_networks": "10.0.0.0/8", "trusted_proxies": "127.0.0.1"}, environ={})
    with RunningServer(Exposition(config=config).respond) as serving:
        for end in (b"\r", b"\n", b"\r\n ", b"\0"):
            with serving.client() as client:
                client.sendall(
                    b"GET / HTTP/1.0\r\nX-Forwarded-For: 192.0.2.1\r\nX: a"
                    + end
                    + b"X-Forwarded-For: 10.1.1.1\r\n\r\n"
                )
                assert b" 200 " not in everything(client).split(b"\r\n")[0]


@pytest.mark.parametrize(
    ("version", "connection", "stays"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: TE, Close\r\n", False),
        (b"1.1", b"Connection: TE\r\nConnection: close\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: Keep-Alive\r\n", True),
        (b"1.1", b"Content-Length: 5\r\n", True),
    ],
)
def test_keeps_alive_depends_on_version_and_connection_header(
    version: bytes, connection: bytes, stays: bool
) -> None:
    head = read_head(b"GET / HTTP/" + version + b"\r\nHost: x\r\n" + connection + b"\r\n")
    assert head.keeps_alive is stays
    assert head.has_body is (b"Length" in connection)


def test_head_size_is_limited() -> None:
    for sent in (b"GET /" + b"x" * 40_000, b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000 + b"\r\n\r\n"):
        with pytest.raises(HeadError, match="431"):
            end_of_head(sent)
