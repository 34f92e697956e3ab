"""The middleware among other middlewares, inside outer layers and without a handler."""

from __future__ import annotations

from typing import Any
from wsgiref.validate import validator

import pytest
from django.core.wsgi import get_wsgi_application
from django.test import RequestFactory, override_settings
from prometheus_client import CollectorRegistry
from webtest import TestApp

from django_prom import conf
from django_prom.middleware import PrometheusMiddleware, watch_exceptions
from tests.web_prom.support import (
    Clock,
    Server,
    errors,
    exceptions,
    in_progress,
    requests,
    samples,
    seconds,
)
from web_prom.metrics.recording import RECORDING_KEY
from web_prom.wsgi import PrometheusMiddleware as WSGIMiddleware

from . import views
from .conftest import Site, configured, site_environ

HERE = "tests.django_prom.middleware"


OURS = "django_prom.middleware.PrometheusMiddleware"


def test_application_passes_two_wsgi_linters(registry: CollectorRegistry) -> None:
    """WebTest's lint and wsgiref.validate."""
    app = TestApp(get_wsgi_application(), extra_environ={"HTTP_HOST": "testserver"})
    assert app.get("/stream/").text == "one,zwölf"
    assert app.post("/users/1/", {"a": "b"}).text == "hello"
    assert app.head("/file/").status_int == 200
    assert app.get("/metrics").headers["Content-Type"].startswith("text/plain; version=")
    server = Server()
    server.run(validator(get_wsgi_application()), site_environ("/metrics"))
    assert server.status == "200 OK"
    assert sum(requests(registry).values()) == 3


@configured(MIDDLEWARE=[f"{HERE}.maintenance"])
def test_fault_04_response_of_a_middleware_is_counted(
    site: Site, registry: CollectorRegistry, clock: Clock
) -> None:
    """It is counted with its method, requested route, status and duration."""
    views.hooks["middleware"] = lambda: clock.go(0.25)
    assert site("/users/1/", "POST") == "503"
    assert site("/no/such/") == "503"
    assert requests(registry) == {
        ("POST", "/users/<int:pk>/", "503"): 1,
        ("GET", "_unmatched", "503"): 1,
    }
    assert seconds(registry) == pytest.approx(0.5)
    assert exceptions(registry) == {}


@configured(MIDDLEWARE=[f"{HERE}.Teapot"])
def test_fault_05_status_is_the_one_that_was_sent(site: Site, registry: CollectorRegistry) -> None:
    """A middleware can change the status of the view."""
    assert site("/") == "418"
    assert requests(registry) == {("GET", "/", "418"): 1}


@configured(MIDDLEWARE=[f"{HERE}.replacing", OURS])
def test_lower_position_finishes_a_replaced_response(site: Site, registry: CollectorRegistry) -> None:
    """The replaced response is never closed, so request_finished finishes the request."""
    assert site("/") == site("/stream/") == "200"
    assert site.text == "another"
    assert requests(registry) == {("GET", "/", "200"): 1, ("GET", "/stream/", "200"): 1}
    assert in_progress(registry) == 0


@configured(MIDDLEWARE=[f"{HERE}.raising", OURS])
def test_lower_position_counts_an_exception_of_an_upper_middleware(
    site: Site, registry: CollectorRegistry
) -> None:
    """The client gets 500, after the middleware saw 200."""
    assert site("/") == "500"
    assert requests(registry) == {("GET", "/", "500"): 1}
    assert exceptions(registry) == {("/", "TypeError"): 1}


@configured(MIDDLEWARE=[f"{HERE}.either", OURS])
def test_lower_position_ignores_other_responses_that_a_view_closes(
    site: Site, registry: CollectorRegistry, clock: Clock
) -> None:
    """The close sends request_finished in the middle of the request."""
    from django.http import HttpResponse

    def close_another(request: Any) -> None:
        HttpResponse().close()
        clock.go(1)

    views.hooks["view"] = close_another
    site("/")
    assert seconds(registry) == pytest.approx(1)


@configured(MIDDLEWARE=[OURS, OURS])
def test_middleware_that_is_listed_twice_counts_once(site: Site, registry: CollectorRegistry) -> None:
    """Two settings files can both add it."""
    assert site("/") == site("/stream/") == "200"
    assert requests(registry) == {("GET", "/", "200"): 1, ("GET", "/stream/", "200"): 1}


@configured(
    MIDDLEWARE=[
        "django.middleware.cache.UpdateCacheMiddleware",
        OURS,
        "django.middleware.cache.FetchFromCacheMiddleware",
    ],
    CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
)
def test_upper_cache_can_pickle_the_response(site: Site, registry: CollectorRegistry) -> None:
    """The unpickled response answers another request."""
    from django.core.cache import cache

    called: list[Any] = []
    views.hooks["view"] = called.append
    assert site("/") == site("/") == "200"
    cache.clear()
    assert len(called) == 1
    assert requests(registry) == {("GET", "/", "200"): 2}
    assert in_progress(registry) == 0


def test_outer_wsgi_middleware_counts_a_request_once(registry: CollectorRegistry) -> None:
    """It gets the route, the labels and the exceptions from Django's adapter."""
    with override_settings(PROM_EXTRA_LABELS={"user": lambda request, response: request.headers["X-User"]}):
        app = WSGIMiddleware(
            get_wsgi_application(),
            registry=registry,
            extra_labels={"user": lambda request, response: request.headers["X-User"]},
        )
        for path in ("/users/1/", "/fail/", "/health/", "/stream/"):
            Server().run(app, site_environ(path, HTTP_X_USER="ann"))
    assert samples(registry, "http_requests_total", "route", "status", "user") == {
        ("/users/<int:pk>/", "200", "ann"): 1,
        ("/fail/", "500", "ann"): 1,
        ("/stream/", "200", "ann"): 1,
    }
    assert exceptions(registry) == {("/fail/", "ValueError"): 1}
    assert in_progress(registry) == 0


def test_request_without_a_handler_is_counted(registry: CollectorRegistry) -> None:
    """As in a unit test of a middleware."""
    from django.http import HttpResponse

    middleware = PrometheusMiddleware(lambda request: HttpResponse("hello"))
    response = middleware(RequestFactory().get("/users/1/"))
    response.close()
    assert requests(registry) == {("GET", "/users/<int:pk>/", "200"): 1}


def test_reused_request_object_is_counted_again(registry: CollectorRegistry) -> None:
    """Exceptions after the end of the request are not kept."""
    middleware = PrometheusMiddleware(views.hello)
    request = RequestFactory().get("/")
    for _ in range(2):
        middleware(request).close()
    watch_exceptions(views.hello).process_exception(request, ValueError())  # type: ignore[attr-defined]
    assert requests(registry) == {("GET", "/", "200"): 2}
    assert request.META[RECORDING_KEY]._errors is None


def test_internal_errors_do_not_fail_requests(
    site: Site, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever step fails, the client gets its response."""
    import django_prom.recording
    import django_prom.routes

    def broken(*_: Any) -> Any:
        raise RuntimeError

    site("/")
    instrumentation = conf.instrumentation()
    assert instrumentation is not None
    monkeypatch.setattr(django_prom.recording.RequestRecording, "wrap_body", broken)
    assert site("/stream/") == "200"
    monkeypatch.setattr(django_prom.routes, "find_route", broken)
    assert site("/fail/") == "500"
    monkeypatch.setattr(instrumentation.recorder.request_starts["GET"], "add_at_start", broken)
    assert site("/") == "200"
    assert set(errors(registry)) == {("follow",), ("annotate",), ("start",)}
    assert {record.levelname for record in caplog.records if record.name == "web_prom"} == {"WARNING"}
