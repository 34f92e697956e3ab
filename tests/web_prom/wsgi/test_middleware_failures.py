"""Errors of the instrumentation itself never reach a WSGI application."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom.support import Environ, Server, environ_of, errors, hello, in_progress, requests, serve
from tests.web_prom.wsgi.support import OK, Measure, Start, boom


def test_failing_counter_does_not_affect_the_response(
    measure: Measure,
    registry: CollectorRegistry,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrapped = measure(hello)
    monkeypatch.setattr("web_prom.metrics.writers.in_memory_write", lambda *_: boom)
    for _ in range(3):
        assert serve(wrapped) == b"hello"
    assert errors(registry) == {("finish",): 3}
    assert in_progress(registry) == 0
    assert len(caplog.records) == 1


def test_failing_labels_do_not_affect_the_response(
    measure: Measure, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = measure(hello)
    monkeypatch.setattr(wrapped.recorder.families.duration.metric, "labels", boom)
    assert serve(wrapped) == b"hello"
    assert errors(registry) == {("finish",): 1}
    assert in_progress(registry) == 0
    monkeypatch.undo()
    assert serve(wrapped) == b"hello"
    assert requests(registry) == {OK: 1}, "the next request tries again"


def test_failing_gauge_does_not_affect_the_response(
    measure: Measure, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = measure(hello)
    monkeypatch.setattr(wrapped.recorder.request_starts["GET"], "add_at_start", boom)
    assert serve(wrapped) == b"hello"
    assert errors(registry) == {("start",): 1}
    monkeypatch.undo()
    assert serve(wrapped) == b"hello"
    assert requests(registry) == {OK: 1}
    assert in_progress(registry) == 0


def test_failing_queue_histogram_does_not_affect_response_or_count(
    measure: Measure, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = measure(hello, queue_time=True)
    monkeypatch.setattr("web_prom.metrics.queue_time.queue_seconds", boom)
    assert serve(wrapped, HTTP_X_REQUEST_START="t=1") == b"hello"
    assert errors(registry) == {("queue",): 1}
    assert requests(registry) == {OK: 1}
    assert in_progress(registry) == 0


def test_failing_route_resolver_does_not_affect_the_response(
    measure: Measure, registry: CollectorRegistry
) -> None:
    assert serve(measure(hello, resolve_route=boom)) == b"hello"
    assert errors(registry) == {("annotate",): 1}
    assert requests(registry) == {OK: 1}
    assert in_progress(registry) == 0


def test_body_that_cannot_be_wrapped_is_returned_unchanged(
    measure: Measure, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = measure(hello)
    monkeypatch.setattr("web_prom.wsgi.exchange.BodyWithLen", boom)
    assert serve(wrapped) == b"hello"
    assert errors(registry) == {("follow",): 1}
    assert requests(registry) == {OK: 1}
    assert in_progress(registry) == 0


def test_failing_error_counter_does_not_affect_the_response(
    measure: Measure, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = measure(hello, resolve_route=boom)
    monkeypatch.setattr(wrapped.recorder.families.errors, "labels", boom)
    assert serve(wrapped) == b"hello"
    assert requests(registry) == {OK: 1}


def test_invalid_headers_reach_the_server_unchanged(measure: Measure, registry: CollectorRegistry) -> None:
    headers: list[Any] = [(None, None), ("Content-Length",), 7]

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", headers)
        return [b"x"]

    server = Server()
    assert server.run(measure(app), environ_of()) == b"x"
    assert server.headers is headers
    assert requests(registry) == {OK: 1}
