"""The families of a registry, which all its applications share."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

import web_prom as prom
from tests.web_prom.metrics.support import label, measure, routed
from tests.web_prom.support import (
    Server,
    environ_of,
    errors,
    hello,
    in_progress,
    requests,
    samples,
    serve,
)
from web_prom import ConflictError, PrometheusMiddleware
from web_prom.metrics.families import existing_families


def test_fault_14_families_are_shared_by_applications_of_a_registry(registry: CollectorRegistry) -> None:
    one, two = measure(registry), measure(registry)
    assert one.recorder.families is two.recorder.families
    serve(one, "/a")
    serve(two, "/a")
    serve(two, "/b")
    assert requests(registry) == {("GET", "/a", "200"): 2, ("GET", "/b", "200"): 1}


def test_fault_14_families_are_reused_by_each_new_application(
    registry: CollectorRegistry,
) -> None:
    for _ in range(20):
        serve(measure(registry, response_size=True, queue_time=True), "/a")
    assert requests(registry) == {("GET", "/a", "200"): 20}


def test_families_of_registries_are_independent(registry: CollectorRegistry) -> None:
    other = CollectorRegistry()
    serve(measure(registry), "/a")
    serve(measure(other, namespace="shop", duration_buckets="1"), "/a")
    assert requests(registry) == {("GET", "/a", "200"): 1}
    assert samples(other, "shop_http_requests_total", "route") == {("/a",): 1}


def test_fault_14_families_can_be_unregistered_from_the_default_registry() -> None:
    before = set(REGISTRY._collector_to_names)
    for _ in range(2):
        serve(PrometheusMiddleware(routed), "/a")
        assert requests(REGISTRY) == {("GET", "/a", "200"): 1}
        for collector in set(REGISTRY._collector_to_names) - before:
            REGISTRY.unregister(collector)


def test_fault_14_families_are_registered_again_after_the_registry_was_emptied(
    registry: CollectorRegistry,
) -> None:
    old = measure(registry, response_size=True, queue_time=True)
    serve(old, "/a")
    for collector in list(registry._collector_to_names):
        registry.unregister(collector)
    new = measure(registry, response_size=True, queue_time=True)
    serve(new, "/a")
    serve(old, "/b")
    assert requests(registry) == {("GET", "/a", "200"): 1, ("GET", "/b", "200"): 1}
    assert samples(registry, "http_response_size_bytes_count", "route") == {("/a",): 1, ("/b",): 1}
    assert in_progress(registry) == 0
    assert errors(registry) == {}


def test_ensure_registered_creates_a_single_missing_family(registry: CollectorRegistry) -> None:
    old = measure(registry)
    serve(old, "/a")
    registry.unregister(registry._names_to_collectors["http_requests"])
    serve(measure(registry), "/b")
    serve(old, "/c")
    assert {route for _, route, _ in requests(registry)} == {"/b", "/c"}
    assert set(samples(registry, "http_request_duration_seconds_count", "route")) == {
        ("/a",),
        ("/b",),
        ("/c",),
    }


def test_families_have_the_constant_labels_of_each_application(registry: CollectorRegistry) -> None:
    for site in ("north", "south"):
        serve(measure(registry, constant_labels={"site": site}), "/a")
    assert samples(registry, "http_requests_total", "site") == {("north",): 1, ("south",): 1}
    assert samples(registry, "http_requests_in_progress", "site") == {("north",): 0, ("south",): 0}


def test_in_progress_counts_each_application_separately(registry: CollectorRegistry) -> None:
    north, south = (measure(registry, constant_labels={"site": site}) for site in ("north", "south"))
    body: Any = north(environ_of(), Server().start_response)
    assert samples(registry, "http_requests_in_progress", "site") == {("north",): 1, ("south",): 0}
    serve(south, "/a")
    assert samples(registry, "http_requests_in_progress", "site") == {("north",): 1, ("south",): 0}
    body.close()
    assert samples(registry, "http_requests_in_progress", "site") == {("north",): 0, ("south",): 0}


@pytest.mark.parametrize(
    ("key", "first", "second"),
    [
        ("namespace", "a", "b"),
        ("duration_buckets", (1, 2), (1, 3)),
        ("duration_status", True, False),
        ("size_buckets", (1, 2), (1, 3)),
        ("status_classes", True, False),
        ("max_label_sets", 5, 6),
        ("constant_labels", {"site": "a"}, {"zone": "a"}),
        ("constant_labels", {"site": "a"}, {}),
        ("extra_labels", {"tenant": label}, {}),
        ("extra_labels", {"tenant": label}, {"user": label}),
    ],
)
def test_check_compatible_names_both_applications_and_the_setting(
    key: str, first: Any, second: Any, registry: CollectorRegistry
) -> None:
    kept = measure(registry, owner="application 'shop'", **{key: first})
    names = set(registry._names_to_collectors)
    with pytest.raises(ConflictError) as raised:
        measure(registry, owner="application 'office'", **{key: second})
    message = str(raised.value)
    assert "application 'shop'" in message
    assert "application 'office'" in message
    assert f"PROM_{key.upper()}" in message
    assert "registry of its own" in message
    assert set(registry._names_to_collectors) == names
    assert serve(kept, "/a") == b"hello"


def test_check_compatible_ignores_other_settings(registry: CollectorRegistry) -> None:
    measure(registry, path="/a", bearer_token="x", exclude="/a", extra_methods="LOCK", first_byte=True)
    measure(registry, path="/b", allowed_networks="::1", response_size=True, queue_time=True)
    measure(registry, extra_labels={})


def test_check_compatible_ignores_the_functions_of_extra_labels(registry: CollectorRegistry) -> None:
    measure(registry, extra_labels={"tenant": label})
    measure(registry, extra_labels={"tenant": lambda *_: "y"})


@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [
        (Counter, "http_requests_total", {}),
        (Gauge, "http_requests_total", {}),
        (Histogram, "http_request_duration_seconds", {}),
        (Gauge, "http_request_duration_seconds_count", {}),
        (Gauge, "http_requests_in_progress", {}),
        (Counter, "web_prom_label_overflow", {}),
        (Histogram, "http_response_size_bytes", {"response_size": True}),
        (Histogram, "http_request_size_bytes", {"request_size": True}),
        (Gauge, "http_response_first_byte_seconds", {"first_byte": True}),
        (Gauge, "http_request_queue_seconds", {"queue_time": True}),
    ],
)
def test_families_raise_conflict_error_for_a_name_of_the_user(
    kind: type[MetricWrapperBase], name: str, options: dict[str, Any], registry: CollectorRegistry
) -> None:
    kind(name, "Mine.", registry=registry)
    with pytest.raises(ConflictError, match=r"(?s)Mine\.") as raised:
        measure(registry, **options)
    assert name.removesuffix("_total") in str(raised.value)
    assert ("PROM_NAMESPACE" in str(raised.value)) is name.startswith("http")
    if name.startswith("http"):
        again = CollectorRegistry()
        kind(name, "Mine.", registry=again)
        measure(again, namespace="shop", **options)


def test_families_are_freed_with_their_registry() -> None:
    """A test suite often creates one registry for each test."""
    registry = CollectorRegistry()
    app = measure(registry)
    serve(app, "/a")
    assert existing_families(registry) is app.recorder.families
    gone = weakref.ref(registry), weakref.ref(app.recorder.families)
    del registry, app
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


LABELS: dict[str, Callable[[object], Any]] = {
    "header": lambda _: prom.header("X-Tenant", limit=5),
    "limited": lambda owner: prom.limited(lambda *_: str(owner), limit=5),
    "allowed": lambda owner: prom.limited(lambda *_: str(owner), allowed=("a",)),
    "function": lambda owner: lambda *_: str(owner),
}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("options", [{}, {"http_client": True, "database": True}, {"live": True}])
def test_families_with_extra_labels_keep_no_registry_and_no_application_alive(
    kind: str, options: dict[str, Any]
) -> None:
    registry = CollectorRegistry()
    app = PrometheusMiddleware(
        hello, registry=registry, extra_labels={"x": LABELS[kind](registry)}, **options
    )
    serve(app, "/a", HTTP_X_TENANT="a")
    gone = weakref.ref(registry), weakref.ref(app), weakref.ref(app.recorder)
    del registry, app
    gc.collect()
    assert [reference() for reference in gone] == [None, None, None]


def test_families_keep_no_former_application_of_their_registry_alive(registry: CollectorRegistry) -> None:
    gone = []
    for _ in range(3):
        app = PrometheusMiddleware(
            hello,
            registry=registry,
            extra_labels={"tenant": prom.header("X-Tenant", limit=5)},
            http_client=True,
        )
        serve(app, "/a", HTTP_X_TENANT="a")
        gone.append(weakref.ref(app.recorder))
    del app
    gc.collect()
    assert [reference() for reference in gone] == [None, None, None]


def test_copied_registry_has_no_families_yet(registry: CollectorRegistry) -> None:
    measure(registry)
    assert existing_families(copy.copy(registry)) is None
