"""Durations, queue times and body sizes of ASGI requests."""

from __future__ import annotations

import time
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom.asgi.asgi_server import (
    Message,
    Receive,
    Scope,
    Send,
    Server,
    chunk,
    hello,
    scope_of,
    sending,
    serve,
    start,
)
from tests.web_prom.asgi.support import OK, OPTIONS, Measure, assert_idle, raises
from tests.web_prom.support import Clock, requests, samples, seconds


def test_fault_01_duration_includes_the_whole_body(
    measure: Measure, registry: CollectorRegistry, clock: Clock
) -> None:
    def slowly(message: Message) -> None:
        clock.go(0.1)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        clock.go(0.5)
        await send(start())
        for more in (True, True, False):
            clock.go(0.1)
            await send(chunk(b"x", more=more))

    Server(fail=slowly).run(measure(app))
    assert seconds(registry) == pytest.approx(1.2), "until the server has accepted the last message"


def test_first_byte_is_timed_at_the_first_nonempty_chunk(
    measure: Measure, registry: CollectorRegistry, clock: Clock
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        clock.go(1)
        await send(start())
        await send(chunk(b"", more=True))
        clock.go(2)
        await send(chunk(b"x", more=True))
        clock.go(4)
        await send(chunk(b"y"))

    serve(measure(app, first_byte=True))
    assert seconds(registry, "http_response_first_byte_seconds") == 3
    assert seconds(registry) == 7


def test_queue_time_is_observed_once_per_request_with_the_header(
    measure: Measure, registry: CollectorRegistry
) -> None:
    wrapped = measure(hello, queue_time=True, constant_labels={"site": "a"})
    for headers in (
        [],
        [(b"X-Request-Start", b"nonsense")],
        [(b"x-request-start", b"t=%f" % (time.time() - 0.5))],
    ):
        serve(wrapped, headers=headers)
    assert samples(registry, "http_request_queue_seconds_count", "site") == {("a",): 1}


@pytest.mark.parametrize("read", [0, 1, 2, 3])
def test_request_size_is_the_number_of_bytes_received(
    read: int, measure: Measure, registry: CollectorRegistry
) -> None:
    parts = [
        {"type": "http.request", "body": b"abc", "more_body": True},
        {"type": "http.request", "more_body": True},
        {"type": "http.request", "body": b"de"},
    ]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for part in parts[:read]:
            assert await receive() is part
        await hello(scope, receive, send)

    scope = scope_of(method="POST", headers=[(b"content-length", b"9999")])
    Server(parts).run(measure(app, request_size=True), scope)
    assert samples(registry, "http_request_size_bytes_sum", "method") == {("POST",): (0, 3, 3, 5)[read]}


def test_response_size_is_the_number_of_bytes_sent(measure: Measure, registry: CollectorRegistry) -> None:
    def hang_up(message: Message) -> None:
        if len(server.sent) == 4:
            raise ConnectionResetError

    server = Server(fail=hang_up)
    app = sending(start(), *[chunk(b"x" * 1000, more=True)] * 9, chunk(b"x" * 1000))
    raises(measure(app, response_size=True), ConnectionResetError, server)
    assert seconds(registry, "http_response_size_bytes") == 3000
    serve(measure(app, response_size=True))
    assert seconds(registry, "http_response_size_bytes") == 13000


PATHSEND = {"type": "http.response.pathsend", "path": "/srv/file"}


@pytest.mark.parametrize("options", OPTIONS)
def test_pathsend_finishes_the_request(
    options: dict[str, Any], measure: Measure, registry: CollectorRegistry, clock: Clock
) -> None:
    messages = [start(200, (b"Content-Length", b"20000")), PATHSEND]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await sending(*messages)(scope, receive, send)
        clock.go(100)

    server = Server(fail=lambda message: clock.go(1))
    server.run(measure(app, **options))
    assert all(sent is message for sent, message in zip(server.sent, messages, strict=True))
    assert requests(registry) == {OK: 1}
    assert seconds(registry) == 2
    if options:
        assert seconds(registry, "http_response_size_bytes") == 20000
        assert seconds(registry, "http_response_first_byte_seconds") == 2
    assert_idle(registry)


def test_pathsend_without_content_length_has_no_response_size(
    measure: Measure, registry: CollectorRegistry
) -> None:
    serve(measure(sending(start(), PATHSEND), response_size=True))
    assert samples(registry, "http_response_size_bytes_count", "route") == {("_unmatched",): 0}


def test_zerocopysend_is_counted_until_the_last_part(measure: Measure, registry: CollectorRegistry) -> None:
    part = {"type": "http.response.zerocopysend", "file": 7, "count": 100, "more_body": True}
    server = Server()
    server.run(measure(sending(start(), part, chunk(b"xyz")), response_size=True))
    assert server.sent[1] is part
    assert requests(registry) == {OK: 1}
    assert seconds(registry, "http_response_size_bytes") == 103
    serve(measure(sending(start(), {**part, "more_body": False}), response_size=True))
    assert seconds(registry, "http_response_size_bytes") == 203
    assert_idle(registry)


def file_part(count: Any = None, *, more: bool = False) -> Message:
    """Return a part of a file that the server sends."""
    part = {"type": "http.response.zerocopysend", "file": 7, "more_body": more}
    return part if count is None else {**part, "count": count}


@pytest.mark.parametrize(
    ("announced", "parts", "size"),
    [
        (b"", [file_part(100, more=True), file_part(20, more=True), file_part(3)], 123),
        (b"", [chunk(b"x" * 5, more=True), file_part(100, more=True), chunk(b"xyz")], 108),
        (b"", [file_part(100, more=True), file_part(0)], 100),
        (b"2000", [file_part()], 2000),
        (b"2000", [file_part(100, more=True), file_part()], 2000),
        (b"2000", [chunk(b"xyz", more=True), file_part(more=True), chunk(b"xyz")], 2000),
        (b"2000", [file_part(more=True), file_part(100, more=True), chunk(b"xyz")], 2000),
        (b"", [file_part(100, more=True), file_part()], None),
        (b"", [file_part(more=True), chunk(b"xyz")], None),
        (b"", [file_part(100, more=True), {**PATHSEND}], None),
        (b"2000", [file_part(-1)], 2000),
    ],
)
def test_parts_of_files_add_up(  # noqa: PLR0917
    announced: bytes,
    parts: list[Message],
    size: int | None,
    measure: Measure,
    registry: CollectorRegistry,
    clock: Clock,
) -> None:
    headers = [(b"content-length", announced)] if announced else []
    server = Server(fail=lambda message: clock.go(1))
    server.run(measure(sending(start(200, *headers), *parts), response_size=True, first_byte=True))
    name = "http_response_size_bytes"
    counted = samples(registry, f"{name}_count", "route") == {("_unmatched",): 1}
    assert (seconds(registry, name) if counted else None) == size
    assert seconds(registry, "http_response_first_byte_seconds") == 2
    assert_idle(registry)
