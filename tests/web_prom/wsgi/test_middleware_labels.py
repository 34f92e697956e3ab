"""The labels of WSGI requests: methods, routes, statuses and extra labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom.support import (
    Environ,
    Server,
    environ_of,
    errors,
    exceptions,
    hello,
    requests,
    samples,
    serve,
)
from tests.web_prom.wsgi.support import OK, PLAIN, Measure, Start, assert_idle, raising
from web_prom import PrometheusMiddleware
from web_prom.metrics.recording import RECORDING_KEY, Recording
from web_prom.wsgi import set_route


def test_fault_11_unknown_methods_share_one_series(measure: Measure, registry: CollectorRegistry) -> None:
    wrapped = measure(hello)
    for number in range(100):
        serve(wrapped, method=f"METHOD{number}")
    serve(wrapped, method="get")
    serve(wrapped, method="")
    serve(wrapped, method="\xff" * 1000)
    assert requests(registry) == {("_OTHER", "_unmatched", "200"): 103}


def test_extra_methods_have_their_own_series(measure: Measure, registry: CollectorRegistry) -> None:
    wrapped = measure(hello, extra_methods="PROPFIND")
    serve(wrapped, method="PROPFIND")
    serve(wrapped, method="LOCK")
    assert {method for method, *_ in requests(registry)} == {"PROPFIND", "_OTHER"}


def test_fault_10_unknown_paths_share_one_series(measure: Measure, registry: CollectorRegistry) -> None:
    wrapped = measure(hello)
    for number in range(100):
        serve(wrapped, f"/{number}/" + "".join(map(chr, range(256))))
    assert requests(registry) == {OK: 100}


def test_fault_12_spoofed_host_adds_no_series(measure: Measure, registry: CollectorRegistry) -> None:
    wrapped = measure(hello)
    for number in range(10):
        serve(wrapped, HTTP_HOST=f"{number}.example")
    assert requests(registry) == {OK: 10}


def test_set_route_sets_the_template_until_the_body_ends(
    measure: Measure, registry: CollectorRegistry
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        when = environ["PATH_INFO"]
        if when == "/before":
            set_route(environ, "/before")
        start_response("200 OK", PLAIN)
        if when == "/after":
            set_route(environ, "/after")
        yield b"x"
        if when == "/late":
            set_route(environ, "/late")

    wrapped = measure(app)
    for when in ("/before", "/after", "/late", "/never"):
        serve(wrapped, when)
    assert {route for _, route, _ in requests(registry)} == {"/before", "/after", "/late", "_unmatched"}


def test_set_route_does_nothing_without_a_middleware() -> None:
    environ = environ_of()
    set_route(environ, "/x")
    assert RECORDING_KEY not in environ


def test_fault_19_excluded_routes_do_not_affect_similar_routes(
    measure: Measure, registry: CollectorRegistry
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        set_route(environ, environ["PATH_INFO"])
        if environ["PATH_INFO"] == "/foo/boom":
            raise ValueError
        return hello(environ, start_response)

    wrapped = measure(app, exclude="/foo,/foo/*")
    for path in ("/foo", "/foo/x", "/foobar", "/foo", "/foobar"):
        serve(wrapped, path)
    with pytest.raises(ValueError):  # noqa: PT011
        serve(wrapped, "/foo/boom")
    assert requests(registry) == {("GET", "/foobar", "200"): 2}
    assert exceptions(registry) == {}
    assert_idle(registry)


def test_status_classes_replace_status_codes(measure: Measure, registry: CollectorRegistry) -> None:
    wrapped = measure(hello, status_classes=True, duration_status=True)
    serve(wrapped)
    assert requests(registry) == {("GET", "_unmatched", "2xx"): 1}
    assert samples(registry, "http_request_duration_seconds_count", "status") == {("2xx",): 1}


def extra(recording: Recording) -> None:
    """Compute the extra labels, as an adapter does."""
    recording.compute_extra_labels("request", "response")


def test_extra_labels_get_the_request_and_the_response(measure: Measure, registry: CollectorRegistry) -> None:
    wrapped = measure(
        hello,
        resolve_route=extra,
        constant_labels={"site": "north"},
        extra_labels={"tenant": lambda request, response: f"{request}/{response}"},
    )
    serve(wrapped)
    assert samples(registry, "http_requests_total", "tenant", "site") == {("request/response", "north"): 1}
    assert samples(registry, "http_request_duration_seconds_count", "tenant", "site") == {
        ("request/response", "north"): 1
    }
    assert samples(registry, "http_requests_in_progress", "site") == {("north",): 0}


@pytest.mark.parametrize("error", [ValueError, KeyError, RecursionError])
def test_fault_34_failing_extra_label_is_empty(
    error: type[Exception], measure: Measure, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(request: Any, response: Any) -> str:
        raise error("hush")

    wrapped = measure(hello, resolve_route=extra, extra_labels={"bad": broken, "good": lambda *_: "x"})
    for _ in range(3):
        assert serve(wrapped) == b"hello"
    assert samples(registry, "http_requests_total", "bad", "good") == {("", "x"): 3}
    assert errors(registry) == {("label bad",): 3}
    assert len(caplog.records) == 1, "one warning, not one per request"
    assert caplog.records[0].getMessage().startswith("error in stage 'label bad' of the measurement of ")
    assert "web_prom_instrumentation_errors_total" in caplog.records[0].getMessage()


def test_fault_55_values_from_clients_are_escaped_in_the_text(registry: CollectorRegistry) -> None:
    """Some parsers split lines as ``str.splitlines()`` does."""

    def careless(environ: Any, start_response: Any) -> Iterable[bytes]:
        set_route(environ, f"/{environ.get('HTTP_X_TENANT', '')}")
        return hello(environ, start_response)

    tenant = {"tenant": lambda environ, _: environ.get("HTTP_X_TENANT", "")}
    app = PrometheusMiddleware(careless, registry=registry, extra_labels=tenant)
    for character in map(chr, (*range(32), *range(0x7F, 0xA0), 0x2028, 0x2029)):
        serve(app, "/x", HTTP_X_TENANT=f"a{character}b")
    text = serve(app, "/metrics").decode()
    assert text.splitlines() == text.removesuffix("\n").split("\n")
    found = samples(registry, "http_requests_total", "route", "tenant")
    assert found == {("/a?b", "a?b"): 66, ("/a\nb", "a\nb"): 1}
    assert len(app.recorder.writers) == 2, "client-controlled values are no cache keys"


def test_extra_label_of_a_request_without_a_response_is_computed(
    measure: Measure, registry: CollectorRegistry
) -> None:
    wrapped = measure(
        raising(ValueError()),
        extra_labels={"a": lambda environ, response: f"{environ['PATH_INFO']} {response}"},
    )
    with pytest.raises(ValueError):  # noqa: PT011
        serve(wrapped, "/x")
    assert samples(registry, "http_requests_total", "status", "a") == {("500", "/x None"): 1}
    assert samples(registry, "http_request_exceptions_total", "exception", "a") == {
        ("ValueError", "/x None"): 1
    }
    assert_idle(registry)


@pytest.mark.parametrize(
    "value", ["\ud800", "a\udcffb", '\n\r"\\\x00\x7f\u2028', "", 7, None, b"x", "é" * 10_000]
)
def test_extra_label_with_any_value_can_be_scraped(
    value: Any, measure: Measure, registry: CollectorRegistry
) -> None:
    """A lone surrogate cannot be encoded. If it were stored, each scrape would fail."""
    wrapped = measure(hello, resolve_route=extra, extra_labels={"a": lambda *_: value})
    serve(wrapped)
    server = Server()
    server.run(wrapped, environ_of("/metrics"))
    assert server.status == "200 OK"
    assert sum(requests(registry).values()) == 1


@pytest.mark.parametrize("start", [False, True])
def test_extra_label_of_a_body_that_raises_is_computed(
    measure: Measure, registry: CollectorRegistry, start: bool
) -> None:
    """A generator can raise before it starts the response."""

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        if start:
            start_response("200 OK", PLAIN)
        yield from raising(ValueError())(environ, start_response)

    label = {"a": lambda environ, response: f"{environ['PATH_INFO']} {response and response[0]}"}
    with pytest.raises(ValueError):  # noqa: PT011
        serve(measure(app, extra_labels=label), "/x")
    expected = ("500", "/x 200 OK" if start else "/x None")
    assert samples(registry, "http_requests_total", "status", "a") == {expected: 1}


@pytest.mark.parametrize("kind", [ValueError, SystemExit, GeneratorExit])
def test_route_of_an_inner_layer_is_known_after_an_exception(
    kind: type[BaseException], registry: CollectorRegistry
) -> None:
    """The outer layer counts the request, and the inner one knows its route."""
    error = kind()

    def resolve_route(recording: Recording) -> None:
        assert recording.last_error is error
        recording.route = "/inner"

    for outer_registry in (registry, CollectorRegistry()):
        inner = PrometheusMiddleware(raising(error), registry=registry, resolve_route=resolve_route)
        outer = PrometheusMiddleware(inner, registry=outer_registry)
        with pytest.raises(kind):
            serve(outer)
        assert requests(outer_registry)["GET", "/inner", "500"] == 1
        assert errors(outer_registry) == {}
