"""Counters of server errors that exist at 0 before the first error."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from web_prom.config.settings import Config
from web_prom.metrics.recorder import Recorder
from web_prom.metrics.recording import Recording

Series = dict[tuple[str, str, str], float]


def record(recorder: Recorder, route: str | None, status: str, method: str = "GET") -> None:
    recording = Recording(recorder, method)
    recording.route, recording.status = route, status
    recording.finish()


def series(registry: CollectorRegistry) -> Series:
    return {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "http_requests_total"
    }


def recorder_with(registry: CollectorRegistry, **options: Any) -> Recorder:
    return Recorder(Config.load({"zero_errors": True, **options}), registry)


def test_zero_errors_are_on_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Config().zero_errors


def test_zero_errors_come_with_the_first_request_of_a_route(registry: CollectorRegistry) -> None:
    recorder = recorder_with(registry)
    record(recorder, "/a", "200")
    assert series(registry) == {("GET", "/a", "200"): 1, ("GET", "/a", "500"): 0}
    record(recorder, "/a", "200")
    record(recorder, "/a", "302")
    record(recorder, "/a", "500")
    assert series(registry) == {
        ("GET", "/a", "200"): 2,
        ("GET", "/a", "302"): 1,
        ("GET", "/a", "500"): 1,
    }


def test_zero_errors_have_a_class_where_statuses_have(registry: CollectorRegistry) -> None:
    record(recorder_with(registry, status_classes=True), "/a", "200")
    assert series(registry) == {("GET", "/a", "2xx"): 1, ("GET", "/a", "5xx"): 0}


@pytest.mark.parametrize("status", ["400", "404", "405", "429"])
def test_zero_errors_do_not_come_from_errors_of_clients(status: str, registry: CollectorRegistry) -> None:
    record(recorder_with(registry), "/a", status)
    assert series(registry) == {("GET", "/a", status): 1}


def test_zero_errors_do_not_come_from_unknown_urls_and_methods(registry: CollectorRegistry) -> None:
    recorder = recorder_with(registry)
    record(recorder, None, "200")
    record(recorder, "/a", "200", "INVENTED")
    assert set(series(registry).values()) == {1}


def test_zero_errors_can_be_switched_off(registry: CollectorRegistry) -> None:
    record(recorder_with(registry, zero_errors=False), "/a", "200")
    assert series(registry) == {("GET", "/a", "200"): 1}


def test_zero_errors_are_left_out_where_labels_depend_on_requests(registry: CollectorRegistry) -> None:
    record(recorder_with(registry, extra_labels={"tenant": lambda request, response: "a"}), "/a", "200")
    assert set(series(registry).values()) == {1}


def test_zero_errors_have_the_constant_labels(registry: CollectorRegistry) -> None:
    record(recorder_with(registry, constant_labels={"site": "north"}), "/a", "200")
    labels = {"method": "GET", "route": "/a", "status": "500", "site": "north"}
    assert registry.get_sample_value("http_requests_total", labels) == 0


def test_zero_errors_of_a_family_at_its_limit_do_not_count_as_overflow(registry: CollectorRegistry) -> None:
    recorder = recorder_with(registry, max_label_sets=3)
    for route in "abcdefgh":
        record(recorder, f"/{route}", "200")
    overflow = "web_prom_label_overflow_total"
    assert len(series(registry)) <= 3 + 2, "the limit, and one label set of overflow for each status"
    assert registry.get_sample_value(overflow, {"family": "http_requests"}) == sum(
        value for (_, route, status), value in series(registry).items() if route == "_overflow"
    )
    assert sum(series(registry).values()) == 8


def test_zero_errors_do_not_come_from_excluded_routes(registry: CollectorRegistry) -> None:
    record(recorder_with(registry, exclude=["/a"]), "/a", "200")
    assert series(registry) == {}


def test_zero_errors_are_not_in_opentelemetrys_naming(registry: CollectorRegistry) -> None:
    recorder = recorder_with(registry, naming="opentelemetry")
    recording = Recording(recorder, ("GET", "http", "1.1"))
    recording.route, recording.status = "/a", "200"
    recording.finish()
    counts = [
        sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "http_server_request_duration_seconds_count"
    ]
    assert counts == [1]
