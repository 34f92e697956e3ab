"""The labels of ASGI requests: methods, routes, statuses and extra labels."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom.asgi.asgi_server import (
    Receive,
    Scope,
    Send,
    chunk,
    hello,
    scope_of,
    sending,
    serve,
    start,
)
from tests.web_prom.asgi.support import OK, OPTIONS, Measure, assert_idle, raises
from tests.web_prom.support import errors, exceptions, requests, samples
from web_prom.asgi import set_route
from web_prom.metrics.recording import RECORDING_KEY


def test_fault_11_unknown_methods_share_one_series(measure: Measure, registry: CollectorRegistry) -> None:
    wrapped = measure(hello, extra_methods="PROPFIND")
    for number in range(100):
        serve(wrapped, method=f"METHOD{number}")
    for method in ("get", "", "\xff" * 1000, "PROPFIND"):
        serve(wrapped, method=method)
    assert requests(registry) == {
        ("_OTHER", "_unmatched", "200"): 103,
        ("PROPFIND", "_unmatched", "200"): 1,
    }


def test_fault_10_unknown_paths_share_one_series(measure: Measure, registry: CollectorRegistry) -> None:
    wrapped = measure(hello)
    for number in range(100):
        serve(wrapped, f"/{number}/" + "".join(map(chr, range(256))))
    assert requests(registry) == {OK: 100}


def test_fault_12_spoofed_host_adds_no_series(measure: Measure, registry: CollectorRegistry) -> None:
    wrapped = measure(hello)
    for number in range(10):
        serve(wrapped, headers=[(b"host", b"%d.example" % number)])
    assert requests(registry) == {OK: 10}


def test_set_route_sets_the_template_until_the_body_ends(
    measure: Measure, registry: CollectorRegistry
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        when = scope["path"]
        if when == "/before":
            set_route(scope, "/before")
        await send(start())
        if when == "/after":
            set_route(scope, "/after")
        await send(chunk(b"x", more=True))
        if when == "/late":
            set_route(scope, "/late")
        await send(chunk())

    wrapped = measure(app)
    for when in ("/before", "/after", "/late", "/never"):
        serve(wrapped, when)
    assert {route for _, route, _ in requests(registry)} == {"/before", "/after", "/late", "_unmatched"}


def test_set_route_takes_precedence_over_the_scope(measure: Measure, registry: CollectorRegistry) -> None:
    class Route:
        path, endpoint = "/catch-all/{path:path}", hello

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = Route
        set_route(scope, "/chosen")
        await hello(scope, receive, send)

    serve(measure(app))
    assert requests(registry) == {("GET", "/chosen", "200"): 1}


def test_set_route_does_nothing_without_a_middleware() -> None:
    scope = scope_of()
    set_route(scope, "/x")
    assert RECORDING_KEY not in scope


def test_fault_19_excluded_routes_do_not_affect_similar_routes(
    measure: Measure, registry: CollectorRegistry
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        set_route(scope, scope["path"])
        if scope["path"] == "/foo/boom":
            raise ValueError
        await hello(scope, receive, send)

    wrapped = measure(app, exclude="/foo,/foo/*")
    for path in ("/foo", "/foo/x", "/foobar", "/foo", "/foobar"):
        serve(wrapped, path)
    raises(wrapped, ValueError, path="/foo/boom")
    assert requests(registry) == {("GET", "/foobar", "200"): 2}
    assert exceptions(registry) == {}
    assert_idle(registry)


def test_status_classes_replace_status_codes(measure: Measure, registry: CollectorRegistry) -> None:
    serve(measure(hello, status_classes=True, duration_status=True))
    assert requests(registry) == {("GET", "_unmatched", "2xx"): 1}
    assert samples(registry, "http_request_duration_seconds_count", "status") == {("2xx",): 1}


def test_extra_labels_get_the_scope_and_the_response_start(
    measure: Measure, registry: CollectorRegistry
) -> None:
    labels = {
        "tenant": lambda scope, start: dict(scope["headers"])[b"x-tenant"].decode(),
        "kind": lambda scope, start: dict(start["headers"])[b"content-type"].decode(),
    }
    wrapped = measure(hello, extra_labels=labels, constant_labels={"site": "north"})
    serve(wrapped, headers=[(b"x-tenant", b"acme")])
    expected = {("acme", "text/plain", "north"): 1}
    assert samples(registry, "http_requests_total", "tenant", "kind", "site") == expected
    assert samples(registry, "http_request_duration_seconds_count", "tenant", "kind", "site") == expected
    assert samples(registry, "http_requests_in_progress", "site") == {("north",): 0}


@pytest.mark.parametrize("error", [ValueError, KeyError, RecursionError])
def test_fault_34_failing_extra_label_is_empty(
    error: type[Exception], measure: Measure, registry: CollectorRegistry
) -> None:
    def broken(scope: Any, start: Any) -> str:
        raise error("hush")

    wrapped = measure(hello, extra_labels={"bad": broken, "good": lambda *_: "x"})
    for _ in range(3):
        assert serve(wrapped) == b"hello"
    assert samples(registry, "http_requests_total", "bad", "good") == {("", "x"): 3}
    assert errors(registry) == {("label bad",): 3}


def test_extra_label_of_a_request_without_a_response_is_computed(
    measure: Measure, registry: CollectorRegistry
) -> None:
    wrapped = measure(
        sending(error=ValueError()), extra_labels={"a": lambda scope, start: f"{scope['path']} {start}"}
    )
    raises(wrapped, ValueError)
    assert samples(registry, "http_requests_total", "status", "a") == {("500", "/ None"): 1}
    assert samples(registry, "http_request_exceptions_total", "exception", "a") == {
        ("ValueError", "/ None"): 1
    }
    assert_idle(registry)


@pytest.mark.parametrize("length", [b"abc", b"-5", b"", b"99999999999999999999", b"\xff"])
@pytest.mark.parametrize("options", OPTIONS)
def test_fault_34_invalid_content_length_is_ignored(
    length: bytes, options: dict[str, Any], measure: Measure, registry: CollectorRegistry
) -> None:
    header = (b"content-length", length)
    wrapped = measure(sending(start(200, header), chunk(b"abcd")), **options)
    assert serve(wrapped, headers=[header]) == b"abcd"
    assert requests(registry) == {OK: 1}
    assert_idle(registry)
