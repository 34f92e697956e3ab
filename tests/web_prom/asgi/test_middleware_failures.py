"""Errors of the instrumentation itself never reach an ASGI application."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom.asgi.asgi_server import Server, hello, sending, serve
from tests.web_prom.asgi.support import BROKEN, OK, Measure, boom, raises
from tests.web_prom.support import errors, exceptions, in_progress, requests
from web_prom.metrics.recording import Recording


def test_failing_counter_does_not_affect_the_response(
    measure: Measure, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = measure(hello)
    monkeypatch.setattr("web_prom.metrics.writers.in_memory_write", lambda *_: boom)
    for _ in range(3):
        assert serve(wrapped) == b"hello"
    assert errors(registry) == {("finish",): 3}
    assert in_progress(registry) == 0


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
    header = (b"x-request-start", b"t=%f" % (time.time() - 1))
    assert serve(wrapped, headers=[header]) == b"hello"
    assert errors(registry) == {("queue",): 1}
    assert requests(registry) == {OK: 1}


def test_failing_route_resolver_does_not_affect_the_response(
    measure: Measure, registry: CollectorRegistry
) -> None:
    assert serve(measure(hello, resolve_route=boom)) == b"hello"
    raises(measure(sending(error=ValueError()), resolve_route=boom), ValueError)
    assert errors(registry) == {("annotate",): 2}
    assert requests(registry) == {OK: 1, BROKEN: 1}
    assert exceptions(registry) == {("_unmatched", "ValueError"): 1}
    assert in_progress(registry) == 0


def test_route_resolver_gets_the_scope(measure: Measure, registry: CollectorRegistry) -> None:
    def resolve_route(recording: Recording) -> None:
        recording.route = recording.scope["template"]  # type: ignore[attr-defined]

    serve(measure(hello, resolve_route=resolve_route), template="/x/<y>")
    assert requests(registry) == {("GET", "/x/<y>", "200"): 1}


@pytest.mark.parametrize(
    "route", [object(), 7, "text", {"path": "/x"}, boom, type("R", (), {"path": property(boom)})()]
)
@pytest.mark.parametrize("router", [None, object(), boom, type("R", (), {"routes": [object()]})()])
def test_unexpected_objects_in_the_scope_are_ignored(
    route: Any, router: Any, measure: Measure, registry: CollectorRegistry
) -> None:
    """Other frameworks may use the keys ``route`` and ``router`` for other objects."""
    assert serve(measure(hello), route=route, router=router, endpoint=boom) == b"hello"
    assert requests(registry) == {OK: 1}
    assert in_progress(registry) == 0


def test_incomplete_scope_reaches_the_application(measure: Measure, registry: CollectorRegistry) -> None:
    server = Server()
    asyncio.run(server.serve(measure(hello), {"type": "http"}))
    assert server.body == b"hello"
    assert errors(registry) == {("start",): 1}
