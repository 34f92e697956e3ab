"""Requests under WSGI: each is counted once, with its whole duration."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from django.test import Client, RequestFactory, override_settings
from prometheus_client import CollectorRegistry

from django_prom.middleware import PrometheusMiddleware
from tests.web_prom.support import (
    Clock,
    in_progress,
    requests,
    samples,
    seconds,
)

from . import views
from .conftest import Site, configured


def timed(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """Return the number of observed durations by route."""
    return samples(registry, "http_request_duration_seconds_count", "route")


def test_view_is_counted_and_timed(site: Site, registry: CollectorRegistry, clock: Clock) -> None:
    """The numbers are read from a scrape."""
    views.hooks["view"] = lambda request: clock.go(0.2)
    assert site("/users/1/") == site("/users/2/") == "200"
    assert site.text == "hello"
    assert site("/metrics") == "200"
    assert 'http_requests_total{method="GET",route="/users/<int:pk>/",status="200"} 2.0' in site.text
    assert seconds(registry) == pytest.approx(0.4)
    assert in_progress(registry) == 0


def test_request_is_in_progress_while_the_view_runs(site: Site, registry: CollectorRegistry) -> None:
    seen: list[float | None] = []
    views.hooks["view"] = lambda request: seen.append(in_progress(registry))
    site("/")
    assert seen == [1.0]
    assert in_progress(registry) == 0


def test_duration_includes_receivers_of_request_started(
    site: Site, registry: CollectorRegistry, clock: Clock
) -> None:
    """A receiver of request_started can reconnect to a database."""
    from django.core.signals import request_started

    def reconnect(**_: Any) -> None:
        clock.go(0.5)

    request_started.connect(reconnect)
    try:
        site("/")
    finally:
        request_started.disconnect(reconnect)
    assert seconds(registry) == pytest.approx(0.5)


@configured(PROM_QUEUE_TIME=True)
def test_queue_time_is_observed(site: Site, registry: CollectorRegistry) -> None:
    """The proxy sets the header. An invalid header is ignored."""
    import time

    site("/", HTTP_X_REQUEST_START=f"t={time.time() - 2}")
    site("/", HTTP_X_REQUEST_START="yesterday")
    site("/")
    assert registry.get_sample_value("http_request_queue_seconds_count") == 1
    assert registry.get_sample_value("http_request_queue_seconds_sum") == pytest.approx(2, abs=0.5)


def test_dropped_response_is_finished_later(site: Site, registry: CollectorRegistry, clock: Clock) -> None:
    """The next request or scrape observes it, with the time at which it was dropped."""
    body = site.open("/users/1/")
    clock.go(1)
    del body
    gc.collect()
    clock.go(100)
    site("/metrics")
    assert requests(registry) == {("GET", "/users/<int:pk>/", "200"): 1}
    assert seconds(registry) == pytest.approx(1)


def test_response_has_no_reference_cycle(site: Site, registry: CollectorRegistry) -> None:
    """It is freed without the garbage collector, also if it is a stream."""
    gc.collect()
    gc.disable()
    try:
        for view in (views.hello, views.stream):
            response = PrometheusMiddleware(view)(RequestFactory().get("/"))
            del response
        site("/metrics")
    finally:
        gc.enable()
    assert requests(registry) == {("GET", "/", "200"): 2}


@pytest.mark.parametrize(
    ("path", "status"),
    [("/status/204/", "204"), ("/not-modified/", "304"), ("/status/200/", "200"), ("/stream/", "200")],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_fault_08_empty_body_finishes_the_request_once(
    path: str, status: str, method: str, client: Client, registry: CollectorRegistry
) -> None:
    """With a server, and with the test client, which removes the body of a HEAD request."""
    assert Site()(path, method) == status
    response = client.generic(method, path)
    assert str(response.status_code) == status
    response.close()
    counted = {(labels[0], labels[2]): value for labels, value in requests(registry).items()}
    assert counted == {(method, status): 2}
    assert sum(timed(registry).values()) == 2
    assert in_progress(registry) == 0


@pytest.mark.parametrize("routes", [1, 1000])
def test_fault_33_work_does_not_grow_with_the_number_of_routes(
    routes: int, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request with a known route writes five values and looks up no label."""
    from types import ModuleType

    from django.urls import path
    from prometheus_client import values
    from prometheus_client.metrics import MetricWrapperBase

    urls = ModuleType("urls_of_this_test")
    urls.urlpatterns = [path(f"route{number}/", views.hello) for number in range(routes)]  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, urls.__name__, urls)
    done: list[str] = []

    def noting(name: str, function: Any) -> Any:
        def note(*args: Any, **kwargs: Any) -> Any:
            done.append(name)
            return function(*args, **kwargs)

        return note

    with override_settings(ROOT_URLCONF=urls.__name__):
        # Before the metrics are created, because they keep the methods of their values.
        class Noted(values.MutexValue):
            inc = noting("write", values.MutexValue.inc)

        monkeypatch.setattr(values, "ValueClass", Noted)
        monkeypatch.setattr(MetricWrapperBase, "labels", noting("labels", MetricWrapperBase.labels))
        site = Site()
        for number in range(routes):
            site(f"/route{number}/")
        done.clear()
        for number in range(0, routes, 100):
            site(f"/route{number}/")
    assert done == ["write"] * 5 * len(range(0, routes, 100))
