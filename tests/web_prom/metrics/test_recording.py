"""The recording of one request: which exceptions count."""

from __future__ import annotations

import gc
import weakref

import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom.support import (
    exceptions,
    in_progress,
    requests,
    samples,
)
from web_prom.config import Config
from web_prom.metrics.recorder import Recorder
from web_prom.metrics.recording import Recording


def finished(
    registry: CollectorRegistry, status: str | None, *noted: BaseException, body_failed: bool = False
) -> None:
    recording = Recording(Recorder(Config(), registry), "GET")
    recording.route, recording.status, recording.body_failed = "/x", status, body_failed
    for error in noted:
        recording.add_exception(error)
    recording.finish()
    recording.finish()
    assert sum(requests(registry).values()) == 1


def test_exception_is_not_counted_without_a_server_error(registry: CollectorRegistry) -> None:
    finished(registry, "404", ValueError())
    assert exceptions(registry) == {}


@pytest.mark.parametrize("status", ["500", "502", "599", None])
def test_fault_06_exception_is_counted_with_a_server_error_or_no_response(
    status: str | None, registry: CollectorRegistry
) -> None:
    finished(registry, status, ValueError())
    assert exceptions(registry) == {("/x", "ValueError"): 1}


def test_exception_is_counted_if_the_body_failed(registry: CollectorRegistry) -> None:
    finished(registry, "200", ValueError(), body_failed=True)
    assert exceptions(registry) == {("/x", "ValueError"): 1}


def test_fault_03_exception_that_is_added_twice_is_counted_once(
    registry: CollectorRegistry,
) -> None:
    error = ValueError()
    finished(registry, "500", error, error, KeyError(), error)
    assert exceptions(registry) == {("/x", "ValueError"): 1, ("/x", "KeyError"): 1}
    assert samples(registry, "http_request_duration_seconds_count", "route") == {("/x",): 1}


def test_finish_drops_the_references_to_exceptions(registry: CollectorRegistry) -> None:
    class Marked(ValueError):
        pass

    recording = Recording(Recorder(Config(), registry), "GET")
    error = Marked()
    gone = weakref.ref(error)
    recording.add_exception(error)
    recording.finish()
    del error
    gc.collect()
    assert gone() is None


def test_finish_of_an_excluded_view_decrements_the_gauge(registry: CollectorRegistry) -> None:
    recording = Recording(Recorder(Config(), registry), "GET")
    recording.measured = False
    recording.finish()
    assert requests(registry) == {}
    assert in_progress(registry) == 0
