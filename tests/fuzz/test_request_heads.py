"""Fuzzer for request heads: each is read as by h11, or rejected.

pytest tries a fixed number of heads of a fixed seed. With ``FUZZ_SECONDS`` in the environment each test runs
for that many seconds, with a new seed each time; a failure shows the bytes that cause it.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import random
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

import h11
import pytest

from tests.web_prom.http_server.serving import RunningServer
from web_prom.exposition.http import Response
from web_prom.http_server.request_head import Head, HeadError, end_of_head, read_head

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
ANSWER_SECONDS = 60.0

METHODS = [b"GET", b"HEAD", b"POST", b"OPTIONS", b"CONNECT", b"get", b"G\xe9T", b"", b"GET ", b"G(T"]
TARGETS = [
    b"/metrics",
    b"/",
    b"//evil/metrics",
    b"/a%20b%00?name[]=x&y",
    b"*",
    b"http://host/m?q",
    b"http://[",
    b"x:1",
]
TARGETS += [
    b"",
    b"/a b",
    b"/a#b",
    b"/\xc3\xa9",
    b"/%zz%",
    b"https://[::1]:9/x",
    b"http://u@h/",
    b"/?a?b",
    b"?a",
]
VERSIONS = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.2", b"HTTP/1.1 ", b"http/1.1", b"HTTP/01.1", b""]
NAMES = [
    b"Host",
    b"host",
    b"Content-Length",
    b"content-length",
    b"Transfer-Encoding",
    b"Connection",
    b"Accept",
]
NAMES += [
    b"X-Forwarded-For",
    b"X_Forwarded_For",
    b"Expect",
    b"Content-Length ",
    b"Transfer-Encoding\t",
    b" Folded",
    b"",
]
VALUES = [
    b"x",
    b"host:80",
    b"a, b",
    b"0",
    b"5",
    b"+5",
    b"-1",
    b"0x5",
    b"5, 5",
    b"5 5",
    b"\xb2",
    b"00",
    b"9" * 30,
]
VALUES += [
    b"chunked",
    b"Chunked",
    b"gzip, chunked",
    b"chunked, identity",
    b"close",
    b"keep-alive",
    b"Close , x",
]
VALUES += [
    b"",
    b"a\rX-Forwarded-For: 10.1.1.1",
    b"a\nHost: y",
    b"a\r\n b",
    b"a\0b",
    b"\xe9",
    b"a\x0bb",
    b"\x7f",
]
SEPARATORS = [b": ", b":", b":\t ", b" : ", b"", b":: "]
ENDS = [b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n "]
BYTES = [bytes([number]) for number in range(256)] + [
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b"\t",
    b" ",
    b":",
    b",",
] * 20


def often(draw: random.Random, values: list[bytes]) -> bytes:
    """Return one of some values, mostly the first, which is valid."""
    return values[0] if draw.random() < 0.8 else draw.choice(values)


def head(draw: random.Random) -> bytes:
    """Return a head that is valid, or nearly so."""
    lines = [b" ".join((often(draw, METHODS), often(draw, TARGETS), often(draw, VERSIONS)))]
    fields = [b"Host" + often(draw, SEPARATORS) + often(draw, VALUES)] if draw.random() < 0.9 else []
    fields += [
        draw.choice(NAMES) + often(draw, SEPARATORS) + draw.choice(VALUES) for _ in range(draw.randrange(4))
    ]
    draw.shuffle(fields)
    text = b"".join(
        line + (draw.choice(ENDS) if draw.random() < 0.05 else b"\r\n") for line in lines + fields
    )
    text += b"\r\n" if draw.random() < 0.97 else draw.choice(ENDS)
    for _ in range(draw.choice([0, 0, 0, 1, 2])):
        at = draw.randrange(len(text) + 1)
        text = text[:at] + draw.choice([draw.choice(BYTES), b""]) + text[at + draw.randrange(3) :]
    return text


def heads(count: int) -> Iterator[bytes]:
    """Yield so many heads, or as many as fit into the time."""
    draw = random.Random(time.time_ns() if SECONDS else 76)
    end = time.monotonic() + SECONDS
    while count > 0 or time.monotonic() < end:
        count -= 1
        yield head(draw)


def ours(data: bytes, begin: int = 0) -> tuple[Head, bytes] | str | None:
    """Return what web-prom reads: head and rest, the status of a rejection, or None if incomplete."""
    try:
        end = end_of_head(data, begin)
        return None if end < 0 else (read_head(data[:end]), data[end:])
    except HeadError as error:
        return error.status


def theirs(data: bytes) -> tuple[h11.Request, bool, bytes] | None:
    """Return the result of h11: the request, whether a body follows, and the rest; None for an error."""
    connection = h11.Connection(h11.SERVER)
    try:
        connection.receive_data(data)
        request = connection.next_event()
        if not isinstance(request, h11.Request):
            return None
    except h11.RemoteProtocolError:
        return None
    with contextlib.suppress(h11.RemoteProtocolError):
        chunked = any(name == b"transfer-encoding" for name, _ in request.headers)
        if isinstance(connection.next_event(), h11.EndOfMessage) and not chunked:
            return request, False, connection.trailing_data[0]
    return request, True, b""


def path_and_query(target: bytes) -> tuple[str, str]:
    """Return path and query of a target by their definition, without the patterns of web-prom's reader."""
    if target == b"*":
        return "*", ""
    if not target.startswith(b"/"):
        rest = target.partition(b"://")[2]
        begin = min((rest.find(mark) for mark in (b"/", b"?") if mark in rest), default=len(rest))
        target = rest[begin:]
        target = target if target.startswith(b"/") else b"/" + target
    path, _, query = target.partition(b"?")
    return unquote_to_bytes(path).decode("latin-1"), query.decode("latin-1")


def comparable(name: str, value: str) -> tuple[bytes, bytes]:
    """Return a field as h11 gives it: its name, and the value of Transfer-Encoding, in lower case."""
    lowered = name.lower()
    return lowered.encode(), (value.lower() if lowered == "transfer-encoding" else value).encode("latin-1")


def agree(data: bytes) -> bool:
    """Check one head; return whether it was accepted."""
    found = ours(data)
    if not isinstance(found, tuple):
        assert found in (None, "400 Bad Request"), (found, data)
        return False
    accepted, rest = found
    wanted = theirs(data)
    assert wanted is not None, f"h11 refuses {data!r}"
    request, has_body, left = wanted
    assert accepted.method.encode() == request.method, data
    assert (accepted.path, accepted.query) == path_and_query(request.target), data
    assert accepted.version.encode() == b"HTTP/" + request.http_version, data
    assert [comparable(*field) for field in accepted.fields] == list(request.headers), data
    assert accepted.has_body == has_body, data
    assert has_body or rest == left, data
    return True


def test_fault_76_request_head_is_read_as_by_h11_or_rejected() -> None:
    tried = accepted = 0
    for data in heads(20_000):
        tried += 1
        accepted += agree(data + b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n") if tried % 4 == 0 else agree(data)
    assert tried // 10 < accepted < tried * 9 // 10, "the heads are too odd or too tame to prove anything"


def test_fault_76_request_head_is_read_the_same_in_any_chunks() -> None:
    draw = random.Random(76)
    for data in heads(5000):
        whole = ours(data)
        seen = 0
        while seen < len(data):
            arrived = min(len(data), seen + draw.choice([1, 1, 2, 5, 50]))
            found = ours(data[:arrived], seen)
            if found is not None:
                break
            seen = arrived
        if isinstance(whole, tuple):
            assert isinstance(found, tuple), data
            assert found[0] == whole[0], data
        else:
            assert found == whole, data


@pytest.mark.parametrize("ended", [True, False])
def test_fault_76_server_answers_each_head_once_or_rejects_it(
    ended: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """No byte of one request is read as another request, and the server neither hangs nor raises."""
    seen: list[Mapping[str, Any]] = []

    def respond(environ: Mapping[str, Any]) -> Response:
        seen.append(environ)
        return Response("200 OK", [("Content-Length", "2")], b"ok")

    following = b"GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with RunningServer(respond) as serving:
        for data in heads(1000):
            sent = data if ended else data + following
            seen.clear()
            with socket.create_connection(("127.0.0.1", serving.port), ANSWER_SECONDS) as client:
                client.sendall(sent)
                client.shutdown(socket.SHUT_WR)
                statuses = list(answers(client, lambda: [one["REQUEST_METHOD"] for one in seen]))
            expected = meanings(sent)
            assert [(one["REQUEST_METHOD"], one["PATH_INFO"]) for one in seen] == expected, sent
            refused = statuses[len(expected) :]
            assert statuses[: len(expected)] == [200] * len(expected), sent
            assert refused in ([], [400]), sent
    # A thread of an earlier test may have logged something else.
    assert [record for record in caplog.records if "http_server" in record.pathname] == []


def meanings(sent: bytes) -> list[tuple[str, str]]:
    """Return the requests in some bytes until one ends the connection."""
    found = []
    while sent:
        read = ours(sent)
        if not isinstance(read, tuple):
            break
        agree(sent)
        one, sent = read
        found.append((one.method, one.path))
        if one.has_body or not one.keeps_alive:
            break
    return found


def answers(client: socket.socket, methods: Callable[[], list[str]]) -> Iterator[int]:
    """Yield the status of each response on a connection until it is closed."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while chunk := client.recv(65_536):
            received += chunk
    for method in [*methods(), "GET"]:
        if not received:
            return
        head, _, rest = received.partition(b"\r\n\r\n")
        length = int(http.client.parse_headers(_lines(head)).get("Content-Length", "0"))
        received = rest if method == "HEAD" else rest[length:]
        yield int(head.split(b" ")[1])
    assert not received


def _lines(head: bytes) -> io.BytesIO:
    return io.BytesIO(head.partition(b"\r\n")[2] + b"\r\n\r\n")
