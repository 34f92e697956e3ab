"""Label values of outgoing requests, and the limit on addresses."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom.http_client.support import FAMILY, calls
from tests.web_prom.multiprocess.writing.label_sets import next_holder
from web_prom.config import Config
from web_prom.http_client.conventions import MAX_ADDRESSES
from web_prom.http_client.labels import address_label, host_of, outcome_labels
from web_prom.http_client.recorder import CallRecorder
from web_prom.metrics.recorder import Recorder
from web_prom.multiprocess.reading.collector import WorkersCollector


@pytest.mark.parametrize(
    ("host", "label"),
    [
        ("Shop.Example", "shop.example"),
        (b"shop.example", "shop.example"),
        ("shop.example.", "shop.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("my_service", "my_service"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("2001:DB8::1", "2001:db8::1"),
        ("", ""),
        (None, ""),
        ("user:password@shop.example", "_OTHER"),
        ("shop.example/path", "_OTHER"),
        ("%2fvar%2frun%2fsocket", "_OTHER"),
        ("shop.example\nx", "_OTHER"),
        ("shop.example:8080", "_OTHER"),
        ("ü" * 100, "_OTHER"),
        ("a" * 300, "_OTHER"),
        (b"\xff", "_OTHER"),
    ],
)
def test_address_label(host: object, label: str) -> None:
    assert address_label(host) == label


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://user:password@Shop.example:1/path?q", "shop.example"),
        (b"http://[::1]:80/", "::1"),
        ("/path", ""),
        ("http://[bad/", ""),
        (None, ""),
    ],
)
def test_host_of(url: object, host: str) -> None:
    assert host_of(url) == host


@pytest.mark.parametrize(
    ("outcome", "labels"),
    [
        (200, ("200", "")),
        (399, ("399", "")),
        (400, ("400", "400")),
        (503, ("503", "503")),
        (999, ("_OTHER", "_OTHER")),
        ("ConnectTimeout", ("", "ConnectTimeout")),
        (None, ("_OTHER", "")),
    ],
)
def test_outcome_labels(outcome: object, labels: tuple[str, str]) -> None:
    assert outcome_labels(outcome) == labels


def test_addresses_over_the_limit_are_counted_under_overflow(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = CallRecorder(Recorder(Config(), registry))
    for number in range(MAX_ADDRESSES + 5):
        recorder.record("GET", f"host{number}", 200, 0.1)
    recorder.record("GET", "host0", 500, 0.1)
    found = calls(registry)
    assert found["GET", "_overflow", "200", ""] == 5
    assert found["GET", "host0", "500", "500"] == 1
    assert sum(found.values()) == MAX_ADDRESSES + 6
    overflow = registry.get_sample_value(
        "web_prom_label_overflow_total", {"family": "http_client_request_duration_seconds"}
    )
    assert overflow == 5
    assert sum("the limit" in message for message in caplog.messages) == 1


def test_values_that_an_application_can_invent_are_not_kept(registry: CollectorRegistry) -> None:
    recorder = CallRecorder(Recorder(Config(), registry))
    for number in range(MAX_ADDRESSES * 3):
        recorder.record(f"M{number}", f"host{number}", 200, 0.1)
    assert len(recorder._writes) <= MAX_ADDRESSES


def test_extra_methods_are_known(registry: CollectorRegistry) -> None:
    recorder = CallRecorder(Recorder(Config.load({"extra_methods": ["PURGE"]}), registry))
    recorder.record("PURGE", "a", 200, 0.1)
    recorder.record("purge", "a", 200, 0.1)
    recorder.record([], "a", 200, 0.1)
    assert calls(registry) == {("PURGE", "a", "200", ""): 1, ("_OTHER", "a", "200", ""): 1}
    assert registry.get_sample_value("web_prom_instrumentation_errors_total", {"stage": "http_client"}) == 1


def test_limit_holds_when_a_worker_is_restarted(shared: Path) -> None:
    for generation in range(3):
        next_holder()
        recorder = CallRecorder(Recorder(Config(), CollectorRegistry()))
        for number in range(60):
            recorder.record("GET", f"host{generation}-{number}", 200, 0.1)
    addresses = {
        sample.labels["server_address"]: sample.value
        for family in WorkersCollector(shared, dict).collect()
        for sample in family.samples
        if sample.name == f"{FAMILY}_count"
    }
    assert len(addresses) == MAX_ADDRESSES + 1
    assert addresses["_overflow"] == 180 - MAX_ADDRESSES
