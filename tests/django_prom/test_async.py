"""Requests under ASGI, with Django's own handler, and without a further change of thread."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest
from asgiref.sync import AsyncToSync, SyncToAsync
from asgiref.testing import ApplicationCommunicator
from django.core.asgi import get_asgi_application
from django.test import AsyncClient, override_settings
from prometheus_client import CollectorRegistry

from django_prom import conf
from django_prom.middleware import PrometheusMiddleware
from tests.web_prom.support import Clock, errors, exceptions, in_progress, requests, samples, seconds
from web_prom import asgi
from web_prom.metrics.recording import RECORDING_KEY, Recording

from . import views
from .asgi_site import ASGISite
from .conftest import configured

HERE = "tests.django_prom.middleware"


OURS = "django_prom.middleware.PrometheusMiddleware"


@pytest.fixture
def site() -> ASGISite:
    """Return the project behind a new ASGI server."""
    return ASGISite()


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of the calls from the loop to a thread, and from a thread to the loop."""
    made: list[str] = []
    to_thread, to_loop = SyncToAsync.__call__, AsyncToSync.__call__

    async def call_thread(self: Any, *args: Any, **kwargs: Any) -> Any:
        made.append(f"to a thread: {getattr(self.func, '__qualname__', '?')}")
        return await to_thread(self, *args, **kwargs)

    def call_loop(self: Any, *args: Any, **kwargs: Any) -> Any:
        made.append("to the loop")
        return to_loop(self, *args, **kwargs)

    monkeypatch.setattr(SyncToAsync, "__call__", call_thread)
    monkeypatch.setattr(AsyncToSync, "__call__", call_loop)
    return made


def test_async_and_sync_views_are_counted_and_timed(
    site: ASGISite, registry: CollectorRegistry, clock: Clock
) -> None:
    views.hooks["view"] = lambda request: clock.go(0.2)
    assert site("/async/") == site("/users/1/") == "200"
    assert site.text == "hello"
    assert requests(registry) == {("GET", "/async/", "200"): 1, ("GET", "/users/<int:pk>/", "200"): 1}
    assert seconds(registry) == pytest.approx(0.4)
    assert in_progress(registry) == 0


def test_recording_is_in_the_scope(site: ASGISite, registry: CollectorRegistry) -> None:
    """An ASGI middleware around Django looks for it there, and stores its own there."""
    from django.test import AsyncRequestFactory

    seen: list[bool] = []
    views.hooks["view"] = lambda request: seen.append(
        request.scope[RECORDING_KEY] is request.META[RECORDING_KEY]
    )
    site("/async/")
    request = AsyncRequestFactory().get("/async/")
    instrumentation = conf.instrumentation()
    assert instrumentation is not None
    outer = request.scope[RECORDING_KEY] = Recording(instrumentation.recorder, "GET")
    asyncio.run(PrometheusMiddleware(views.async_hello)(request)).close()
    assert seen == [True, True]
    assert outer.route == "/async/"
    assert not outer.finished
    outer.finish()


def test_outer_asgi_middleware_gets_route_and_exceptions(site: ASGISite, registry: CollectorRegistry) -> None:
    """It alone counts the requests."""
    site._app = asgi.PrometheusMiddleware(get_asgi_application(), registry=registry)
    assert [site(path) for path in ("/async/", "/users/1/", "/fail/", "/nowhere/")] == [
        "200",
        "200",
        "500",
        "404",
    ]
    assert requests(registry) == {
        ("GET", "/async/", "200"): 1,
        ("GET", "/users/<int:pk>/", "200"): 1,
        ("GET", "/fail/", "500"): 1,
        ("GET", "_unmatched", "404"): 1,
    }
    assert list(exceptions(registry).values()) == [1]
    assert in_progress(registry) == 0
    assert errors(registry) == {}


def test_duration_includes_receivers_of_request_started(
    site: ASGISite, registry: CollectorRegistry, clock: Clock
) -> None:
    """The clock starts with the signal."""
    from django.core.signals import request_started

    def reconnect(**_: Any) -> None:
        clock.go(0.5)

    request_started.connect(reconnect)
    try:
        site("/async/")
    finally:
        request_started.disconnect(reconnect)
    assert seconds(registry) == pytest.approx(0.5)


def test_middleware_class_is_sync_and_async() -> None:
    """Django asks each instance which of them it is."""

    async def get_response(request: Any) -> None:
        raise NotImplementedError

    from asgiref.sync import iscoroutinefunction

    assert PrometheusMiddleware.sync_capable
    assert PrometheusMiddleware.async_capable
    assert iscoroutinefunction(PrometheusMiddleware(get_response))
    assert not iscoroutinefunction(PrometheusMiddleware(lambda request: None))
    assert not hasattr(PrometheusMiddleware, "process_view")


@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("path", ["/async/", "/users/1/", "/async-stream/", "/fail/"])
def test_fault_35_request_uses_no_further_thread(
    path: str, sized: bool, site: ASGISite, registry: CollectorRegistry, hops: list[str]
) -> None:
    """There are as many changes between threads and the loop as without web-prom."""

    def note(_: Any) -> None:
        hops.append(f"the view, in the loop's: {threading.current_thread() is threading.main_thread()}")

    views.hooks["view"] = note
    with override_settings(PROM_REQUEST_SIZE=sized, PROM_RESPONSE_SIZE=sized):
        site(path)
    with_us = list(hops)
    hops.clear()
    with override_settings(PROM_INSTALL_MIDDLEWARE=False):
        ASGISite()(path)
    assert with_us == hops
    assert any(hop.startswith("to a thread") for hop in with_us)  # Django's own signals
    if path == "/async/":
        assert "the view, in the loop's: True" in with_us
    assert sum(requests(registry).values()) == 1


@configured(MIDDLEWARE=[f"{HERE}.plain"])
def test_sync_middleware_around_async_views_is_supported(site: ASGISite, registry: CollectorRegistry) -> None:
    """Django runs the middleware of web-prom in a thread too."""
    assert site("/async/") == "200"
    assert site("/async-fail/") == "500"
    assert requests(registry) == {("GET", "/async/", "200"): 1, ("GET", "/async-fail/", "500"): 1}
    assert exceptions(registry) == {("/async-fail/", "ValueError"): 1}


@pytest.mark.parametrize("path", ["/async-fail/", "/fail/", "/rendered/"])
def test_exception_is_counted_once(path: str, site: ASGISite, registry: CollectorRegistry) -> None:
    """Django sends the signal in another thread."""
    assert site(path) == "500"
    assert requests(registry) == {("GET", path, "500"): 1}
    assert sum(exceptions(registry).values()) == 1


@configured(MIDDLEWARE=[f"{HERE}.BadGateway"])
def test_fault_06_exception_that_a_middleware_answers_is_counted(
    site: ASGISite, registry: CollectorRegistry
) -> None:
    """Django calls watch_exceptions first."""
    assert site("/async-fail/") == "502"
    assert requests(registry) == {("GET", "/async-fail/", "502"): 1}
    assert exceptions(registry) == {("/async-fail/", "ValueError"): 1}


def test_async_client_is_measured(registry: CollectorRegistry) -> None:
    """The body of its requests is not a file."""

    async def run() -> None:
        client = AsyncClient()
        assert (await client.post("/post/", {"a": "b"})).content == b"a"
        response = await client.get("/async-stream/")
        assert [chunk async for chunk in response.streaming_content] == [b"one,", b"two"]
        assert (await client.get("/metrics")).status_code == 200

    with override_settings(PROM_REQUEST_SIZE=True, PROM_RESPONSE_SIZE=True):
        asyncio.run(run())
    assert requests(registry) == {("POST", "/post/", "200"): 1, ("GET", "/async-stream/", "200"): 1}
    sizes = samples(registry, "http_response_size_bytes_sum", "route")
    assert sizes == {("/post/",): 1, ("/async-stream/",): 7}
    assert errors(registry) == {}


@configured(PROM_QUEUE_TIME=True)
def test_queue_time_is_observed(site: ASGISite, registry: CollectorRegistry) -> None:
    """The header is the same as under WSGI."""
    import time

    site("/async/", headers={"x-request-start": f"t={time.time() - 2}"})
    assert registry.get_sample_value("http_request_queue_seconds_count") == 1


@configured(MIDDLEWARE=[f"{HERE}.login"])
def test_fault_18_scrape_needs_no_login(site: ASGISite, registry: CollectorRegistry) -> None:
    """It needs no allowed host either, and it is not counted."""
    assert site("/metrics", headers={"host": "10.1.2.3", "accept-encoding": "gzip"}) == "200"
    assert site.headers["content-encoding"] == "gzip"
    assert site("/users/1/") == "302"
    assert requests(registry) == {("GET", "/users/<int:pk>/", "302"): 1}


def test_single_process_logs_no_warning_about_workers(
    site: ASGISite, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django sets wsgi.multiprocess to True for every ASGI server."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    assert site("/metrics") == "200"
    assert [record.message for record in caplog.records if record.name == "web_prom"] == []


def test_scrape_does_not_block_the_event_loop(site: ASGISite, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs in a thread."""
    from django_prom import conf

    scraping, go_on = threading.Event(), threading.Event()
    respond = conf.exposition().respond

    def wait(environ: Any) -> Any:
        scraping.set()
        assert go_on.wait(60)
        return respond(environ)

    monkeypatch.setattr(conf.exposition(), "respond", wait)

    async def run() -> None:
        scrape = asyncio.ensure_future(ASGISite().serve("/metrics"))
        while not scraping.is_set():
            await asyncio.sleep(0)
        await site.serve("/async/")
        assert site.status == "200"
        assert not scrape.done()
        go_on.set()
        await scrape

    asyncio.run(run())


@configured(MIDDLEWARE=[f"{HERE}.replacing", OURS])
def test_lower_position_finishes_a_replaced_response(site: ASGISite, registry: CollectorRegistry) -> None:
    """By request_finished, or in Django 5, which answers in another task, by the next scrape."""
    assert site("/async/") == "200"
    gc.collect()
    assert site("/metrics") == "200"
    assert requests(registry) == {("GET", "/async/", "200"): 1}
    assert in_progress(registry) == 0


def test_communicator_of_asgiref_is_answered(registry: CollectorRegistry) -> None:
    """Other projects test ASGI applications with it."""

    async def run() -> None:
        communicator: Any = ApplicationCommunicator(  # type: ignore[no-untyped-call]
            get_asgi_application(),
            {"type": "http", "method": "GET", "path": "/async/", "headers": [(b"host", b"testserver")]},
        )
        await communicator.send_input({"type": "http.request"})
        start = await communicator.receive_output()
        body = await communicator.receive_output()
        assert (start["status"], body["body"]) == (200, b"hello")
        await communicator.wait()

    asyncio.run(run())
    assert requests(registry) == {("GET", "/async/", "200"): 1}


@configured(PROM_NAMING="opentelemetry")
def test_opentelemetry_naming_is_supported(site: ASGISite, registry: CollectorRegistry) -> None:
    """The attributes at the start of a request come from the scope."""
    site("/users/7/", "POST")
    site("/fail/")
    site("/nowhere/")
    labels = ("http_request_method", "url_scheme", "network_protocol_version", "http_route", "error_type")
    assert samples(registry, "http_server_request_duration_seconds_count", *labels) == {
        ("POST", "http", "1.1", "/users/<int:pk>/", ""): 1,
        ("GET", "http", "1.1", "/fail/", "ValueError"): 1,
        ("GET", "http", "1.1", "", ""): 1,
    }
    gauge = ("http_request_method", "url_scheme")
    assert set(samples(registry, "http_server_active_requests", *gauge).values()) == {0}
    assert errors(registry) == {}


@configured(PROM_NAMING="django-prometheus")
def test_django_prometheus_naming_is_supported(site: ASGISite, registry: CollectorRegistry) -> None:
    """The labels are read from Django's request and response, also in the event loop."""
    site("/users/7/", "POST")
    site("/fail/")
    site("/nowhere/")
    responses = "django_http_responses_total_by_status_view_method_total"
    by_status = samples(registry, responses, "status", "method")
    assert by_status == {("200", "POST"): 1, ("500", "GET"): 1, ("404", "GET"): 1}
    views = samples(registry, responses, "view")
    assert views["<unnamed view>",] == 1
    assert len(views) == 3
    assert samples(registry, "django_http_requests_total_by_transport_total", "transport") == {("http",): 3}
    by_charset = samples(registry, "django_http_responses_total_by_charset_total", "charset")
    assert by_charset == {("utf-8",): 3}
    assert samples(registry, "django_http_exceptions_total_by_type_total", "type") == {("ValueError",): 1}
    assert errors(registry) == {}
