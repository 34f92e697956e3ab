"""The families that applications share: one set per registry, capped, cheap, and never in the way."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.metrics import MetricWrapperBase

from tests.web_prom.support import (
    App,
    Environ,
    Server,
    environ_of,
    errors,
    exceptions,
    hello,
    in_progress,
    requests,
    samples,
    serve,
)
from web_prom import ConflictError, PrometheusMiddleware
from web_prom.config import Config
from web_prom.metrics.families import existing_families
from web_prom.metrics.recorder import Recorder
from web_prom.metrics.recording import Recording
from web_prom.wsgi import set_route

Start = Callable[..., Any]


def routed(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Tell the path as the route, as a careless application does."""
    set_route(environ, environ["PATH_INFO"])
    return hello(environ, start_response)


def measure(registry: CollectorRegistry, app: App = routed, **options: Any) -> PrometheusMiddleware:
    return PrometheusMiddleware(app, registry=registry, **options)


# Sharing ---------------------------------------------------------------------------------------------


def test_fault_14_two_applications_write_to_the_same_families(registry: CollectorRegistry) -> None:
    one, two = measure(registry), measure(registry)
    assert one.recorder.families is two.recorder.families
    serve(one, "/a")
    serve(two, "/a")
    serve(two, "/b")
    assert requests(registry) == {("GET", "/a", "200"): 2, ("GET", "/b", "200"): 1}


def test_fault_14_an_application_that_is_made_many_times_is_measured_each_time(
    registry: CollectorRegistry,
) -> None:
    for _ in range(20):
        serve(measure(registry, response_size=True, queue_time=True), "/a")
    assert requests(registry) == {("GET", "/a", "200"): 20}


def test_registries_are_apart(registry: CollectorRegistry) -> None:
    other = CollectorRegistry()
    serve(measure(registry), "/a")
    serve(measure(other, namespace="shop", duration_buckets="1"), "/a")
    assert requests(registry) == {("GET", "/a", "200"): 1}
    assert samples(other, "shop_http_requests_total", "route") == {("/a",): 1}


def test_fault_14_on_the_default_registry_everything_can_be_taken_away_again() -> None:
    before = set(REGISTRY._collector_to_names)
    for _ in range(2):
        serve(PrometheusMiddleware(routed), "/a")
        assert requests(REGISTRY) == {("GET", "/a", "200"): 1}
        for collector in set(REGISTRY._collector_to_names) - before:
            REGISTRY.unregister(collector)


def test_fault_14_applications_are_measured_again_after_a_test_suite_emptied_the_registry(
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


def test_a_family_that_alone_was_unregistered_comes_back(registry: CollectorRegistry) -> None:
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


def test_constant_labels_tell_applications_apart(registry: CollectorRegistry) -> None:
    for site in ("north", "south"):
        serve(measure(registry, constant_labels={"site": site}), "/a")
    assert samples(registry, "http_requests_total", "site") == {("north",): 1, ("south",): 1}
    assert samples(registry, "http_requests_in_progress", "site") == {("north",): 0, ("south",): 0}


def test_requests_in_progress_are_those_of_each_application(registry: CollectorRegistry) -> None:
    north, south = (measure(registry, constant_labels={"site": site}) for site in ("north", "south"))
    body: Any = north(environ_of(), Server().start_response)
    assert samples(registry, "http_requests_in_progress", "site") == {("north",): 1, ("south",): 0}
    serve(south, "/a")
    assert samples(registry, "http_requests_in_progress", "site") == {("north",): 1, ("south",): 0}
    body.close()
    assert samples(registry, "http_requests_in_progress", "site") == {("north",): 0, ("south",): 0}


def label(_request: Any, _response: Any) -> str:
    return "x"


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
def test_settings_that_disagree_are_refused_naming_both_applications_and_the_key(
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


def test_settings_that_shape_nothing_may_differ(registry: CollectorRegistry) -> None:
    measure(registry, path="/a", bearer_token="x", exclude="/a", extra_methods="LOCK", first_byte=True)
    measure(registry, path="/b", allowed_networks="::1", response_size=True, queue_time=True)
    measure(registry, extra_labels={})


def test_other_functions_for_the_same_extra_labels_are_no_conflict(registry: CollectorRegistry) -> None:
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
def test_a_metric_of_the_users_own_with_one_of_our_names_is_a_clear_error_at_start(
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


def test_a_registry_that_nobody_uses_any_more_is_forgotten() -> None:
    """A test suite makes one for each test."""
    registry = CollectorRegistry()
    app = measure(registry)
    serve(app, "/a")
    assert existing_families(registry) is app.recorder.families
    gone = weakref.ref(registry), weakref.ref(app.recorder.families)
    del registry, app
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


def test_a_recorder_keeps_its_registry() -> None:
    recorder = Recorder(Config(), CollectorRegistry())
    gc.collect()
    recorder.families.ensure_registered()
    Recording(recorder, "GET").finish()
    assert requests(recorder.registry) == {("GET", "_unmatched", "500"): 1}


# The cap ---------------------------------------------------------------------------------------------


def test_past_the_cap_open_labels_overflow_closed_ones_stay_and_nothing_is_lost(
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
    assert len(app.recorder.writers) == 3, "what a client can invent is not remembered"
    assert samples(registry, "http_requests_in_progress", "site") == {("north",): 0}


def test_the_cap_holds_for_exceptions_and_sizes_too(registry: CollectorRegistry) -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
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


def test_a_label_set_of_before_the_cap_counts_on_after_it(registry: CollectorRegistry) -> None:
    app = measure(registry, max_label_sets=1)
    for path in ("/a", "/b", "/a", "/c", "/a"):
        serve(app, path)
    assert requests(registry) == {("GET", "/a", "200"): 3, ("GET", "_overflow", "200"): 2}


def test_the_cap_is_shared_like_the_family(registry: CollectorRegistry) -> None:
    one, two = measure(registry, max_label_sets=2), measure(registry, max_label_sets=2)
    for app, path in ((one, "/a"), (two, "/b"), (one, "/c"), (two, "/a")):
        serve(app, path)
    assert requests(registry) == {
        ("GET", "/a", "200"): 2, ("GET", "/b", "200"): 1, ("GET", "_overflow", "200"): 1,
    }  # fmt: skip


# Threads ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"max_label_sets": 3}, {"request_size": True, "first_byte": True}])
def test_threads_lose_no_request(options: dict[str, Any], registry: CollectorRegistry) -> None:
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


# Exceptions ------------------------------------------------------------------------------------------


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


def test_an_exception_that_ended_in_a_good_answer_is_none(registry: CollectorRegistry) -> None:
    finished(registry, "404", ValueError())
    assert exceptions(registry) == {}


@pytest.mark.parametrize("status", ["500", "502", "599", None])
def test_fault_06_an_exception_counts_where_the_answer_is_a_server_error_or_none(
    status: str | None, registry: CollectorRegistry
) -> None:
    finished(registry, status, ValueError())
    assert exceptions(registry) == {("/x", "ValueError"): 1}


def test_an_exception_that_broke_the_body_counts_whatever_the_status(registry: CollectorRegistry) -> None:
    finished(registry, "200", ValueError(), body_failed=True)
    assert exceptions(registry) == {("/x", "ValueError"): 1}


def test_fault_03_an_exception_that_is_noted_twice_counts_once_and_another_beside_it(
    registry: CollectorRegistry,
) -> None:
    error = ValueError()
    finished(registry, "500", error, error, KeyError(), error)
    assert exceptions(registry) == {("/x", "ValueError"): 1, ("/x", "KeyError"): 1}
    assert samples(registry, "http_request_duration_seconds_count", "route") == {("/x",): 1}


def test_a_finished_recording_keeps_no_exception_alive(registry: CollectorRegistry) -> None:
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


def test_a_view_that_is_not_measured_leaves_the_gauge_at_rest(registry: CollectorRegistry) -> None:
    recording = Recording(Recorder(Config(), registry), "GET")
    recording.measured = False
    recording.finish()
    assert requests(registry) == {}
    assert in_progress(registry) == 0


# Cost ------------------------------------------------------------------------------------------------


@pytest.fixture
def operations(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Count the writes to values, of a kind that is not written together, and the calls of ``labels()``."""
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
def test_fault_33_a_warm_request_is_five_writes_and_no_look_up_of_labels_whatever_the_routes(
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


def test_fault_33_with_every_option_a_warm_request_still_looks_up_no_labels(
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


def test_fault_33_an_excluded_route_costs_the_gauge_alone(
    registry: CollectorRegistry, operations: dict[str, int]
) -> None:
    app = measure(registry, exclude="/a")
    serve(app, "/a")
    operations.update(writes=0, labels=0)
    serve(app, "/a")
    assert operations == {"writes": 2, "labels": 0}


# Messages --------------------------------------------------------------------------------------------


def test_nothing_is_logged_while_all_is_well(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "web_prom"):
        app = measure(registry, response_size=True)
        serve(app, "/a")
        serve(app, "/metrics")
    assert caplog.records == []
