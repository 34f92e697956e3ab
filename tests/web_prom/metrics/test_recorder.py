"""The recorder: threads, the cost of a request, and what it logs."""

from __future__ import annotations

import gc
import logging
import threading
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, values
from prometheus_client.metrics import MetricWrapperBase

from tests.web_prom.metrics.support import label, measure
from tests.web_prom.support import (
    Server,
    environ_of,
    errors,
    in_progress,
    requests,
    samples,
    serve,
)
from web_prom.config import Config
from web_prom.metrics.recorder import Recorder
from web_prom.metrics.recording import Recording


def test_recorder_keeps_its_registry_alive() -> None:
    recorder = Recorder(Config(), CollectorRegistry())
    gc.collect()
    recorder.families.ensure_registered()
    Recording(recorder, "GET").finish()
    assert requests(recorder.registry) == {("GET", "_unmatched", "500"): 1}


@pytest.mark.parametrize("options", [{}, {"max_label_sets": 3}, {"request_size": True, "first_byte": True}])
def test_recorder_counts_all_requests_of_threads(
    options: dict[str, Any], registry: CollectorRegistry
) -> None:
    each, workers = 150, 6
    app = measure(registry, **options)
    start = threading.Barrier(workers)
    failed: list[BaseException] = []

    def work(mine: int) -> None:
        start.wait()
        try:
            for number in range(each):
                if number % 10 == 0:
                    app(environ_of(f"/{number % 7}"), Server().start_response)  # abandoned
                else:
                    serve(app, f"/{number % 7}", method=("GET", "POST")[mine % 2])
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    serve(app, "/last")
    assert failed == []
    assert sum(requests(registry).values()) == each * workers + 1
    assert sum(samples(registry, "http_request_duration_seconds_count", "method", "route").values()) == (
        each * workers + 1
    )
    assert in_progress(registry) == 0
    assert errors(registry) == {}


@pytest.fixture
def operations(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Count the writes to values, which are not written together here, and the calls of ``labels()``."""
    counted = {"writes": 0, "labels": 0}
    labels: Any = MetricWrapperBase.labels

    class CountedValue(values.MutexValue):
        def inc(self, amount: float) -> None:
            counted["writes"] += 1
            super().inc(amount)  # type: ignore[no-untyped-call]

    def counting_labels(self: Any, *args: object, **kwargs: object) -> Any:
        counted["labels"] += 1
        return labels(self, *args, **kwargs)

    monkeypatch.setattr(values, "ValueClass", CountedValue)
    monkeypatch.setattr(MetricWrapperBase, "labels", counting_labels)
    return counted


@pytest.mark.parametrize("routes", [1, 1000])
def test_fault_33_repeated_request_needs_five_writes_and_no_labels_call(
    routes: int, registry: CollectorRegistry, operations: dict[str, int]
) -> None:
    app = measure(registry)
    for number in range(routes):
        serve(app, f"/{number}")
    operations.update(writes=0, labels=0)
    for number in {0, routes // 2, routes - 1}:
        operations.update(writes=0, labels=0)
        serve(app, f"/{number}")
        assert operations == {"writes": 5, "labels": 0}, "gauge up and down, count, sum, one bucket"


def test_fault_33_repeated_request_with_all_options_needs_no_labels_call(
    registry: CollectorRegistry, operations: dict[str, int]
) -> None:
    app = measure(
        registry,
        duration_status=True,
        status_classes=True,
        constant_labels={"site": "a"},
        extra_labels={"tenant": label},
        resolve_route=lambda recording: recording.compute_extra_labels(None, None),
        request_size=True,
        response_size=True,
        first_byte=True,
    )
    serve(app, "/a")
    operations.update(writes=0, labels=0)
    serve(app, "/a")
    assert operations == {"writes": 5 + 3 * 2, "labels": 0}, "and sum and bucket of three histograms"


def test_fault_33_excluded_route_writes_only_the_gauge(
    registry: CollectorRegistry, operations: dict[str, int]
) -> None:
    app = measure(registry, exclude="/a")
    serve(app, "/a")
    operations.update(writes=0, labels=0)
    serve(app, "/a")
    assert operations == {"writes": 2, "labels": 0}


def test_recorder_logs_nothing_without_errors(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "web_prom"):
        app = measure(registry, response_size=True)
        serve(app, "/a")
        serve(app, "/metrics")
    assert caplog.records == []
