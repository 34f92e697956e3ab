"""The limit on the label sets of each family."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom.metrics.support import label, measure
from tests.web_prom.support import (
    Environ,
    exceptions,
    requests,
    samples,
    serve,
)
from web_prom.wsgi import set_route


def test_limit_replaces_unbounded_labels_and_loses_no_request(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    app = measure(
        registry,
        max_label_sets=3,
        constant_labels={"site": "north"},
        extra_labels={"tenant": label},
        resolve_route=lambda recording: recording.compute_extra_labels(None, None),
    )
    for number in range(10):
        serve(app, f"/{number}")
        serve(app, f"/{number}", method="POST")
    found = samples(registry, "http_requests_total", "method", "route", "status", "tenant", "site")
    assert found == {
        ("GET", "/0", "200", "x", "north"): 1,
        ("POST", "/0", "200", "x", "north"): 1,
        ("GET", "/1", "200", "x", "north"): 1,
        ("GET", "_overflow", "200", "_overflow", "north"): 8,
        ("POST", "_overflow", "200", "_overflow", "north"): 9,
    }
    assert sum(samples(registry, "http_request_duration_seconds_count", "method", "route").values()) == 20
    assert samples(registry, "web_prom_label_overflow_total", "family") == {
        ("http_requests",): 17,
        ("http_request_duration_seconds",): 17,
    }
    warnings = [
        record.getMessage() for record in caplog.records if "PROM_MAX_LABEL_SETS" in record.getMessage()
    ]
    assert len(warnings) == 2, "one for each family"
    assert len(app.recorder.writers) == 3, "values of clients are not cached"
    assert samples(registry, "http_requests_in_progress", "site") == {("north",): 0}


def test_limit_applies_to_exceptions_and_sizes(registry: CollectorRegistry) -> None:
    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        set_route(environ, environ["PATH_INFO"])
        raise type(environ["PATH_INFO"][1:], (Exception,), {})

    wrapped = measure(registry, app, max_label_sets=2, response_size=True)
    for number in range(6):
        with pytest.raises(Exception) as raised:  # noqa: PT011 - a class of its own each time
            serve(wrapped, f"/Error{number}")
        assert raised.typename == f"Error{number}"
    assert exceptions(registry) == {
        ("/Error0", "Error0"): 1,
        ("/Error1", "Error1"): 1,
        ("_overflow", "_overflow"): 4,
    }
    assert samples(registry, "http_response_size_bytes_count", "route") == {
        ("/Error0",): 1, ("/Error1",): 1, ("_overflow",): 4,
    }  # fmt: skip
    assert samples(registry, "web_prom_label_overflow_total", "family")["http_request_exceptions",] == 4


def test_limit_keeps_counting_admitted_label_sets(registry: CollectorRegistry) -> None:
    app = measure(registry, max_label_sets=1)
    for path in ("/a", "/b", "/a", "/c", "/a"):
        serve(app, path)
    assert requests(registry) == {("GET", "/a", "200"): 3, ("GET", "_overflow", "200"): 2}


def test_limit_is_shared_by_applications_of_a_registry(registry: CollectorRegistry) -> None:
    one, two = measure(registry, max_label_sets=2), measure(registry, max_label_sets=2)
    for app, path in ((one, "/a"), (two, "/b"), (one, "/c"), (two, "/a")):
        serve(app, path)
    assert requests(registry) == {
        ("GET", "/a", "200"): 2, ("GET", "/b", "200"): 1, ("GET", "_overflow", "200"): 1,
    }  # fmt: skip
