"""Each request is counted once, timed whole, with the status that the client got."""

from __future__ import annotations

import gc
import io
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import pytest
from django.core.wsgi import get_wsgi_application
from django.test import Client, RequestFactory, override_settings
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
COMMON = "django.middleware.common.CommonMiddleware"


def timed(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """Return how often each route was timed."""
    return samples(registry, "http_request_duration_seconds_count", "route")


def test_a_view_is_counted_and_timed(site: Site, registry: CollectorRegistry, clock: Clock) -> None:
    """The plain case, read from the scrape itself."""
    views.hooks["view"] = lambda request: clock.go(0.2)
    assert site("/users/1/") == site("/users/2/") == "200"
    assert site.text == "hello"
    assert site("/metrics") == "200"
    assert 'http_requests_total{method="GET",route="/users/<int:pk>/",status="200"} 2.0' in site.text
    assert seconds(registry) == pytest.approx(0.4)
    assert in_progress(registry) == 0


def test_a_request_in_flight_shows(site: Site, registry: CollectorRegistry) -> None:
    """The gauge is up while the view runs."""
    seen: list[float | None] = []
    views.hooks["view"] = lambda request: seen.append(in_progress(registry))
    site("/")
    assert seen == [1.0]
    assert in_progress(registry) == 0


def test_time_before_the_middleware_counts(site: Site, registry: CollectorRegistry, clock: Clock) -> None:
    """Other receivers of request_started, which may reconnect to a database, are part of the request."""
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
def test_queue_time_is_measured(site: Site, registry: CollectorRegistry) -> None:
    """From the proxy's header; one that lies is dropped."""
    import time

    site("/", HTTP_X_REQUEST_START=f"t={time.time() - 2}")
    site("/", HTTP_X_REQUEST_START="yesterday")
    site("/")
    assert registry.get_sample_value("http_request_queue_seconds_count") == 1
    assert registry.get_sample_value("http_request_queue_seconds_sum") == pytest.approx(2, abs=0.5)


# The body ---------------------------------------------------------------------------------------------


def test_fault_01_a_stream_is_timed_to_its_end(site: Site, registry: CollectorRegistry, clock: Clock) -> None:
    """Not until the response is handed over, which is long before."""
    views.hooks["between"] = lambda: clock.go(0.3)
    assert site("/stream/") == "200"
    assert site.text == "one,zwölf"
    assert seconds(registry) == pytest.approx(0.3)
    assert requests(registry) == {("GET", "/stream/", "200"): 1}


def test_fault_01_with_the_test_client(client: Client, registry: CollectorRegistry, clock: Clock) -> None:
    """It closes in a wrapper of its own."""
    views.hooks["between"] = lambda: clock.go(0.3)
    response = client.get("/stream/")
    assert in_progress(registry) == 1
    assert response.getvalue() == "one,zwölf".encode()
    assert seconds(registry) == pytest.approx(0.3)
    assert in_progress(registry) == 0


def test_a_body_of_the_other_kind_is_timed_to_the_close(
    site: Site, registry: CollectorRegistry, clock: Clock
) -> None:
    """Django reads an asynchronous body whole before it sends any: its end is not the request's."""
    views.hooks["between"] = lambda: clock.go(0.3)
    with pytest.warns(Warning, match="must consume asynchronous iterators"):
        body = iter(site.open("/stream-from-async/"))
    assert next(body) == b"one,"
    clock.go(0.2)
    assert in_progress(registry) == 1


def test_fault_02_a_body_that_raises_half_way(site: Site, registry: CollectorRegistry, clock: Clock) -> None:
    """It keeps the status that was sent, and counts its exception."""

    def fail() -> None:
        clock.go(0.1)
        raise KeyError

    views.hooks["between"] = fail
    with pytest.raises(KeyError):
        site("/stream/")
    assert requests(registry) == {("GET", "/stream/", "200"): 1}
    assert exceptions(registry) == {("/stream/", "KeyError"): 1}
    assert seconds(registry) == pytest.approx(0.1)
    assert in_progress(registry) == 0


def test_fault_02_a_body_that_raises_at_once(site: Site, registry: CollectorRegistry) -> None:
    """Nothing was sent: the server answers 500 in its stead."""

    def fail() -> None:
        raise KeyError

    views.hooks["start"] = fail
    with pytest.raises(KeyError):
        site("/stream/")
    assert requests(registry) == {("GET", "/stream/", "500"): 1}
    assert exceptions(registry) == {("/stream/", "KeyError"): 1}


def test_fault_02_a_file_that_cannot_be_read(site: Site, registry: CollectorRegistry) -> None:
    """Where no file_wrapper sends it."""
    with pytest.raises(OSError, match="the disk is gone"):
        site("/broken-file/")
    assert requests(registry) == {("GET", "/broken-file/", "200"): 1}
    assert exceptions(registry) == {("/broken-file/", "OSError"): 1}


def test_a_client_that_hangs_up(site: Site, registry: CollectorRegistry, clock: Clock) -> None:
    """The server closes a body that it does not finish."""
    views.hooks["between"] = lambda: clock.go(5)
    site.hang_up("/stream/")
    assert requests(registry) == {("GET", "/stream/", "200"): 1}
    assert exceptions(registry) == {}
    assert seconds(registry) == 0


def test_a_stream_that_is_never_read(site: Site, registry: CollectorRegistry) -> None:
    """A server that fails before it asks for the first chunk still closes."""
    body = site.open("/stream/")
    assert in_progress(registry) == 1
    body.close()
    assert requests(registry) == {("GET", "/stream/", "200"): 1}
    assert in_progress(registry) == 0


def test_a_response_that_nobody_closes(site: Site, registry: CollectorRegistry, clock: Clock) -> None:
    """It is finished as it goes away, with the time at which that was, by the next request or scrape."""
    body = site.open("/users/1/")
    clock.go(1)
    del body
    gc.collect()
    clock.go(100)
    site("/metrics")
    assert requests(registry) == {("GET", "/users/<int:pk>/", "200"): 1}
    assert seconds(registry) == pytest.approx(1)


def test_a_response_goes_away_without_the_collector(site: Site, registry: CollectorRegistry) -> None:
    """The recording makes no reference cycle, not even with a stream."""
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


def test_fault_07_send_file_keeps_sendfile_and_finishes(site: Site, registry: CollectorRegistry) -> None:
    """The server gets the very object that its file_wrapper made, and the file in it."""
    made: list[FileWrapper] = []

    def wrapper(file: Any, size: int = 8192) -> FileWrapper:
        made.append(FileWrapper(file, size))
        return made[-1]

    body = site.open("/file/", **{"wsgi.file_wrapper": wrapper})
    assert [body] == made
    assert in_progress(registry) == 1
    assert b"".join(body).startswith(b'"""The views')
    body.close()
    assert made[0].filelike.closed
    assert requests(registry) == {("GET", "/file/", "200"): 1}
    assert in_progress(registry) == 0


def test_fault_07_a_file_without_a_file_wrapper(site: Site, registry: CollectorRegistry) -> None:
    """As under a server that has none."""
    assert site("/file/") == "200"
    assert site.text.startswith('"""The views')
    assert requests(registry) == {("GET", "/file/", "200"): 1}


@pytest.mark.parametrize(
    ("path", "status"),
    [("/status/204/", "204"), ("/not-modified/", "304"), ("/status/200/", "200"), ("/stream/", "200")],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_fault_08_empty_bodies_finish_once(
    path: str, status: str, method: str, client: Client, registry: CollectorRegistry
) -> None:
    """Behind a server, and with the test client, which takes the body of HEAD away."""
    assert Site()(path, method) == status
    response = client.generic(method, path)
    assert str(response.status_code) == status
    response.close()
    counted = {(labels[0], labels[2]): value for labels, value in requests(registry).items()}
    assert counted == {(method, status): 2}
    assert sum(timed(registry).values()) == 2
    assert in_progress(registry) == 0


def test_a_response_of_an_unknown_kind_is_timed(site: Site, registry: CollectorRegistry) -> None:
    """One that iterates in its own way is finished by its close."""
    assert site("/own-iteration/") == "200"
    assert requests(registry) == {("GET", "/own-iteration/", "200"): 1}
    assert errors(registry) == {}


def test_wsgi_is_respected(registry: CollectorRegistry) -> None:
    """By the word of two linters."""
    app = TestApp(get_wsgi_application(), extra_environ={"HTTP_HOST": "testserver"})
    assert app.get("/stream/").text == "one,zwölf"
    assert app.post("/users/1/", {"a": "b"}).text == "hello"
    assert app.head("/file/").status_int == 200
    assert app.get("/metrics").headers["Content-Type"].startswith("text/plain; version=")
    server = Server()
    server.run(validator(get_wsgi_application()), site_environ("/metrics"))
    assert server.status == "200 OK"
    assert sum(requests(registry).values()) == 3


# Status and exceptions --------------------------------------------------------------------------------


def test_fault_03_a_raising_view_is_observed_once(site: Site, registry: CollectorRegistry) -> None:
    """In each family."""
    assert site("/fail/") == "500"
    assert requests(registry) == {("GET", "/fail/", "500"): 1}
    assert timed(registry) == {("/fail/",): 1}
    assert exceptions(registry) == {("/fail/", "ValueError"): 1}
    assert in_progress(registry) == 0


def test_fault_03_with_the_test_client(client: Client, registry: CollectorRegistry) -> None:
    """It raises the exception in the test, after the response."""
    with pytest.raises(ValueError, match="the view's own"):
        client.get("/fail/")
    assert requests(registry) == {("GET", "/fail/", "500"): 1}
    assert exceptions(registry) == {("/fail/", "ValueError"): 1}


@configured(MIDDLEWARE=[f"{HERE}.maintenance"])
def test_fault_04_middleware_that_answers_early(
    site: Site, registry: CollectorRegistry, clock: Clock
) -> None:
    """It is counted and timed with the method, the route that was asked for, and the status."""
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
def test_fault_05_the_status_is_the_one_sent(site: Site, registry: CollectorRegistry) -> None:
    """After every middleware."""
    assert site("/") == "418"
    assert requests(registry) == {("GET", "/", "418"): 1}


@configured(MIDDLEWARE=[f"{HERE}.BadGateway"])
def test_fault_06_exceptions_that_middleware_answers(site: Site, registry: CollectorRegistry) -> None:
    """The first process_exception that answers is the last one asked, and no signal is sent."""
    assert site("/fail/") == site("/rendered/") == "502"
    assert requests(registry) == {("GET", "/fail/", "502"): 1, ("GET", "/rendered/", "502"): 1}
    assert exceptions(registry) == {("/fail/", "ValueError"): 1, ("/rendered/", "LookupError"): 1}


@configured(MIDDLEWARE=[f"{HERE}.Apology"])
def test_an_exception_that_ended_well_is_none(site: Site, registry: CollectorRegistry) -> None:
    """The client was answered 200."""
    assert site("/fail/") == "200"
    assert exceptions(registry) == {}


@pytest.mark.parametrize(
    ("path", "status"), [("/missing/", "404"), ("/forbidden/", "403"), ("/suspicious/", "400")]
)
def test_fault_09_http404_is_no_exception(
    path: str, status: str, site: Site, registry: CollectorRegistry
) -> None:
    """It is how Django says 404; the same goes for its other refusals."""
    assert site(path) == status
    assert requests(registry) == {("GET", path, status): 1}
    assert exceptions(registry) == {}


def test_errors_outside_the_view_are_counted(site: Site, registry: CollectorRegistry) -> None:
    """In a template that is rendered later, and Django's own about a view that answered nothing."""
    assert site("/rendered/") == site("/nothing/") == "500"
    assert exceptions(registry) == {("/rendered/", "LookupError"): 1, ("/nothing/", "ValueError"): 1}


@configured(MIDDLEWARE=[f"{HERE}.raising"])
def test_errors_in_middleware_are_counted(site: Site, registry: CollectorRegistry) -> None:
    """Once, with the status of Django's answer."""
    assert site("/") == "500"
    assert requests(registry) == {("GET", "/", "500"): 1}
    assert exceptions(registry) == {("/", "TypeError"): 1}


@configured(DEBUG_PROPAGATE_EXCEPTIONS=True)
def test_an_exception_that_django_lets_through(site: Site, registry: CollectorRegistry) -> None:
    """The server answers 500."""
    with pytest.raises(ValueError, match="the view's own"):
        site("/fail/")
    assert requests(registry) == {("GET", "/fail/", "500"): 1}
    assert exceptions(registry) == {("/fail/", "ValueError"): 1}
    assert in_progress(registry) == 0


def test_what_is_no_exception_for_django_is_one_for_us(site: Site, registry: CollectorRegistry) -> None:
    """A worker's time-out, or Ctrl-C, passes through every handler."""
    with pytest.raises(KeyboardInterrupt):
        site("/leave/")
    assert requests(registry) == {("GET", "/leave/", "500"): 1}
    assert exceptions(registry) == {("/leave/", "KeyboardInterrupt"): 1}
    assert in_progress(registry) == 0


@configured(DEBUG=True)
def test_the_debug_page_is_a_500(site: Site, registry: CollectorRegistry) -> None:
    """As in production."""
    assert site("/fail/") == "500"
    assert requests(registry) == {("GET", "/fail/", "500"): 1}
    assert exceptions(registry) == {("/fail/", "ValueError"): 1}


# What stands around -----------------------------------------------------------------------------------

OURS = "django_prom.middleware.PrometheusMiddleware"


@configured(MIDDLEWARE=[f"{HERE}.replacing", OURS])
def test_placed_lower_a_replaced_response_is_finished(site: Site, registry: CollectorRegistry) -> None:
    """Nobody closes the one put aside; the end of the request does."""
    assert site("/") == site("/stream/") == "200"
    assert site.text == "another"
    assert requests(registry) == {("GET", "/", "200"): 1, ("GET", "/stream/", "200"): 1}
    assert in_progress(registry) == 0


@configured(MIDDLEWARE=[f"{HERE}.raising", OURS])
def test_placed_lower_an_error_above_is_seen(site: Site, registry: CollectorRegistry) -> None:
    """The client got 500, after we had seen 200."""
    assert site("/") == "500"
    assert requests(registry) == {("GET", "/", "500"): 1}
    assert exceptions(registry) == {("/", "TypeError"): 1}


@configured(MIDDLEWARE=[f"{HERE}.either", OURS])
def test_placed_lower_a_view_may_close_a_response_of_its_own(
    site: Site, registry: CollectorRegistry, clock: Clock
) -> None:
    """That sends request_finished in the middle of the request, which does not end it."""
    from django.http import HttpResponse

    def close_another(request: Any) -> None:
        HttpResponse().close()
        clock.go(1)

    views.hooks["view"] = close_another
    site("/")
    assert seconds(registry) == pytest.approx(1)


@configured(MIDDLEWARE=[OURS, OURS])
def test_listed_twice_it_counts_once(site: Site, registry: CollectorRegistry) -> None:
    """By mistake, or because two settings files both add it."""
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
def test_a_cache_above_may_keep_the_response(site: Site, registry: CollectorRegistry) -> None:
    """It pickles all that a response holds, and what it unpickles is another request's answer."""
    from django.core.cache import cache

    called: list[Any] = []
    views.hooks["view"] = called.append
    assert site("/") == site("/") == "200"
    cache.clear()
    assert len(called) == 1
    assert requests(registry) == {("GET", "/", "200"): 2}
    assert in_progress(registry) == 0


def test_a_wsgi_middleware_around_django_counts_alone(registry: CollectorRegistry) -> None:
    """Django's part then is to tell it route, labels and exceptions."""
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


def test_requests_made_by_hand_pass(registry: CollectorRegistry) -> None:
    """As in a unit test of one's own middleware."""
    from django.http import HttpResponse

    middleware = PrometheusMiddleware(lambda request: HttpResponse("hello"))
    response = middleware(RequestFactory().get("/users/1/"))
    response.close()
    assert requests(registry) == {("GET", "/users/<int:pk>/", "200"): 1}


def test_a_request_object_that_is_used_again_counts_again(registry: CollectorRegistry) -> None:
    """And what is raised after its end is not kept."""
    middleware = PrometheusMiddleware(views.hello)
    request = RequestFactory().get("/")
    for _ in range(2):
        middleware(request).close()
    watch_exceptions(views.hello).process_exception(request, ValueError())  # type: ignore[attr-defined]
    assert requests(registry) == {("GET", "/", "200"): 2}
    assert request.META[RECORDING_KEY]._errors is None


# Labels -----------------------------------------------------------------------------------------------


def test_fault_10_unknown_urls_are_one_series(site: Site, registry: CollectorRegistry) -> None:
    """However many there are, and whatever bytes are in them."""
    for number in range(20):
        assert site(f"/no/such/{number}") == "404"
    assert site("/\xff\xfe\x00") == "404"
    assert requests(registry) == {("GET", "_unmatched", "404"): 21}


def test_fault_10_a_redirect_to_the_canonical_url_has_its_route(
    site: Site, registry: CollectorRegistry
) -> None:
    """The slash alone was missing."""
    assert site("/users/1") == "301"
    assert requests(registry) == {("GET", "/users/<int:pk>/", "301"): 1}


def test_fault_11_invented_methods_are_one_series(site: Site, registry: CollectorRegistry) -> None:
    """A client chooses the method, not the label."""
    for method in ("FOO", "BAR", "GE T", "X" * 5000):
        site("/", method)
    assert requests(registry) == {("_OTHER", "/", "200"): 1 * 4}


def test_fault_12_labels_are_never_made_of_hosts_or_addresses(
    site: Site, registry: CollectorRegistry
) -> None:
    """A spoofed Host header is answered 400, under the route that it asked for; no object is a label."""
    for number in range(5):
        assert site("/users/1/", HTTP_HOST=f"evil{number}.example") == "400"
    site("/health/partial/")
    site("/pages/a/")
    assert requests(registry) == {
        ("GET", "/users/<int:pk>/", "400"): 5,
        ("GET", "/pages/<slug:slug>/", "200"): 1,
    }


def test_fault_13_405_has_its_route(site: Site, registry: CollectorRegistry) -> None:
    """From a decorator, and from a class of methods."""
    assert site("/only-get/", "POST") == site("/pages/a/", "POST") == "405"
    assert requests(registry) == {
        ("POST", "/only-get/", "405"): 1,
        ("POST", "/pages/<slug:slug>/", "405"): 1,
    }


@configured(PROM_EXCLUDE=["/foo/*"])
def test_fault_19_exclusion_ends_at_the_slash(site: Site, registry: CollectorRegistry) -> None:
    """``/foo/*`` is everything below ``/foo/``, and not ``/foobar/``."""
    for path in ("/foo/", "/foo/bar/", "/foobar/"):
        assert site(path) == "200"
    assert requests(registry) == {("GET", "/foobar/", "200"): 1}


@pytest.mark.parametrize("path", ["/health/", "/health/class/", "/health/partial/"])
def test_excluded_views_are_not_measured(path: str, site: Site, registry: CollectorRegistry) -> None:
    """Functions, classes, and what was made of them."""
    assert site(path) == site(path) == "200"
    assert requests(registry) == {}
    assert in_progress(registry) == 0


@configured(
    PROM_CONSTANT_LABELS={"service": "shop"},
    PROM_EXTRA_LABELS={"kind": lambda request, response: response.headers["Content-Type"].split(";")[0]},
)
def test_labels_of_ones_own(site: Site, registry: CollectorRegistry) -> None:
    """Constants, and what a function makes of request and response."""
    site("/")
    assert samples(registry, "http_requests_total", "route", "service", "kind") == {
        ("/", "shop", "text/html"): 1
    }


def broken_label(request: Any, response: Any) -> str:
    raise RuntimeError


@configured(PROM_EXTRA_LABELS={"tenant": broken_label})
def test_fault_34_a_label_that_raises_costs_its_value(
    site: Site, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """Never the request; one warning, and a count."""
    assert site("/") == site("/") == "200"
    assert samples(registry, "http_requests_total", "route", "tenant") == {("/", ""): 2}
    assert errors(registry) == {("label tenant",): 2}
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("length", ["abc", "-1", "", "1e3", "\xb2"])
def test_fault_34_a_broken_content_length_is_not_ours_to_answer(
    length: str, site: Site, registry: CollectorRegistry
) -> None:
    """Whatever Django makes of it."""
    with override_settings(PROM_REQUEST_SIZE=True, PROM_RESPONSE_SIZE=True):
        assert site("/read/", "POST", CONTENT_LENGTH=length) == "200"
    assert errors(registry) == {}


def test_instruments_that_fail_do_not_fail_requests(
    site: Site, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At each step that we have: the client sees nothing of it."""
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
    monkeypatch.setattr(instrumentation.recorder.request_starts["GET"], "inc_in_progress", broken)
    assert site("/") == "200"
    assert set(errors(registry)) == {("follow",), ("annotate",), ("start",)}
    assert {record.levelname for record in caplog.records if record.name == "web_prom"} == {"WARNING"}


# Bytes ------------------------------------------------------------------------------------------------

SIZED = configured(PROM_REQUEST_SIZE=True, PROM_RESPONSE_SIZE=True, PROM_FIRST_BYTE=True)


def sums(registry: CollectorRegistry, name: str) -> dict[tuple[str, ...], float]:
    """Return the sums of a histogram by method and route, where it was observed."""
    counts = samples(registry, f"{name}_count", "method", "route")
    summed = samples(registry, f"{name}_sum", "method", "route")
    return {labels: total for labels, total in summed.items() if counts[labels]}


@SIZED
def test_bytes_sent_are_measured(site: Site, registry: CollectorRegistry) -> None:
    """As they are encoded; of a file that the server sends by itself, the length announced."""
    size = Path(views.__file__).stat().st_size
    site("/")
    site("/", "HEAD")
    site("/status/204/")
    site("/stream/")
    site("/file/")
    assert sums(registry, "http_response_size_bytes") == {
        ("GET", "/"): 5,
        ("HEAD", "/"): 0,
        ("GET", "/status/<int:code>/"): 0,
        ("GET", "/stream/"): len("one,zwölf".encode()),
        ("GET", "/file/"): size,
    }
    site("/file/", **{"wsgi.file_wrapper": FileWrapper})
    assert sums(registry, "http_response_size_bytes")[("GET", "/file/")] == 2 * size


@SIZED
def test_bytes_read_are_measured(site: Site, registry: CollectorRegistry) -> None:
    """Not those announced: a view may leave most of a body where it is."""
    body = {"wsgi.input": io.BytesIO(b"x" * 100), "CONTENT_LENGTH": "100"}
    site("/read/", "POST", **body)
    assert site.text == "x" * 10
    form = {"CONTENT_TYPE": "application/x-www-form-urlencoded", "CONTENT_LENGTH": "7"}
    site("/post/", "POST", **form, **{"wsgi.input": io.BytesIO(b"a=1&b=2")})
    assert site.text == "a,b"
    site("/")
    assert sums(registry, "http_request_size_bytes") == {
        ("POST", "/read/"): 10,
        ("POST", "/post/"): 7,
        ("GET", "/"): 0,
    }


@configured(MIDDLEWARE=[f"{HERE}.reading", OURS, OURS], PROM_REQUEST_SIZE=True, PROM_RESPONSE_SIZE=True)
def test_bytes_are_measured_once_and_from_the_beginning(site: Site, registry: CollectorRegistry) -> None:
    """Also what a middleware above ours read, and where ours is listed twice."""
    site("/stream/", "POST", CONTENT_LENGTH="100", **{"wsgi.input": io.BytesIO(b"x" * 100)})
    assert sums(registry, "http_request_size_bytes") == {("POST", "/stream/"): 100}
    assert sums(registry, "http_response_size_bytes") == {("POST", "/stream/"): 10}


@SIZED
def test_the_first_byte_is_timed(site: Site, registry: CollectorRegistry, clock: Clock) -> None:
    """That of the body; one that is empty has none."""
    views.hooks["start"] = lambda: clock.go(0.1)
    views.hooks["between"] = lambda: clock.go(0.5)
    site("/stream/")
    views.hooks["view"] = lambda request: clock.go(0.2)
    site("/")
    site("/status/204/")
    site("/", "HEAD")
    site("/empty-chunk/")
    views.hooks["last"] = lambda: b""
    site("/empty-chunk/", "POST")
    assert sums(registry, "http_response_first_byte_seconds") == {
        ("GET", "/stream/"): pytest.approx(0.1),
        ("GET", "/"): pytest.approx(0.2),
        ("GET", "/empty-chunk/"): pytest.approx(0.5),
    }


@SIZED
def test_a_response_of_an_unknown_kind_has_no_size(site: Site, registry: CollectorRegistry) -> None:
    """We do not see its chunks."""
    assert site("/own-iteration/") == "200"
    assert sums(registry, "http_response_size_bytes") == {}
    assert requests(registry) == {("GET", "/own-iteration/", "200"): 1}
    assert errors(registry) == {}


# Cost -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("routes", [1, 1000])
def test_fault_33_the_work_does_not_grow_with_routes(
    routes: int, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five values are written for a request on a known route, and no label is looked up."""
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
        # Before the instruments are made, which keep the methods of their values.
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
