"""The WSGI middleware: what is counted once, abandoned requests, scrapes, and settings."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import webtest
from prometheus_client import CollectorRegistry

from tests.web_prom.support import (
    App,
    Clock,
    Server,
    environ_of,
    errors,
    hello,
    in_progress,
    requests,
    samples,
    seconds,
    serve,
)
from tests.web_prom.wsgi.support import OK, OPTIONS, Measure, app_generator, app_list, app_write, assert_idle
from web_prom import PrometheusMiddleware, make_wsgi_app
from web_prom.config import Config
from web_prom.metrics.recording import RECORDING_KEY


@pytest.mark.parametrize("app", [app_list, app_generator, app_write])
@pytest.mark.parametrize("options", OPTIONS)
def test_abandoned_request_is_finished_at_the_next_request(
    app: App, options: dict[str, Any], measure: Measure, registry: CollectorRegistry, clock: Clock
) -> None:
    wrapped = measure(app, **options)
    body = wrapped(environ_of(), Server().start_response)
    clock.go(3)
    assert in_progress(registry) == 1
    del body
    gc.collect()
    clock.go(1000)
    serve(wrapped)
    status = "500" if app is app_generator else "200"  # the generator never started a response
    assert requests(registry) in ({OK: 2}, {OK: 1, ("GET", "_unmatched", status): 1})
    assert seconds(registry) == 3, "until the body was dropped, not until the next request"
    assert_idle(registry)


def test_abandoned_request_is_finished_at_the_next_scrape(
    measure: Measure, registry: CollectorRegistry
) -> None:
    wrapped = measure(app_list)
    body = wrapped(environ_of(), Server().start_response)
    del body
    gc.collect()
    text = serve(wrapped, "/metrics").decode()
    assert "\nhttp_requests_in_progress 0.0\n" in text
    assert '\nhttp_requests_total{method="GET",route="_unmatched",status="200"} 1.0\n' in text


def test_finish_abandoned_allows_concurrent_calls(measure: Measure) -> None:
    """Another thread may empty the queue between the check and popleft()."""

    class Emptied(list[Any]):
        def __bool__(self) -> bool:
            return True

        def popleft(self) -> Any:
            return self.pop(0)

    wrapped = measure(app_list)
    wrapped.recorder.abandoned = Emptied()  # type: ignore[assignment]
    wrapped.recorder.finish_abandoned()
    assert serve(wrapped) == b"abcd"


def test_nested_middlewares_on_one_registry_count_a_request_once(
    measure: Measure, registry: CollectorRegistry
) -> None:
    wrapped = measure(measure(measure(hello)))
    assert serve(wrapped) == b"hello"
    assert requests(registry) == {OK: 1}
    assert_idle(registry)


def test_reused_environ_counts_each_request(measure: Measure, registry: CollectorRegistry) -> None:
    wrapped, environ = measure(hello), environ_of()
    Server().run(wrapped, environ)
    Server().run(wrapped, environ)
    assert requests(registry) == {OK: 2}
    assert_idle(registry)


def test_concurrent_requests_are_in_progress(measure: Measure, registry: CollectorRegistry) -> None:
    wrapped = measure(hello)
    bodies: list[Any] = [wrapped(environ_of(), Server().start_response) for _ in range(3)]
    for left, body in zip((2, 1, 0), bodies, strict=True):
        body.close()
        assert in_progress(registry) == left


def test_scrape_is_answered_and_not_counted(measure: Measure, registry: CollectorRegistry) -> None:
    wrapped = measure(hello)
    serve(wrapped)
    for _ in range(3):
        assert b"http_requests_total" in serve(wrapped, "/metrics")
    assert requests(registry) == {OK: 1}
    assert_idle(registry)


@pytest.mark.parametrize("path", ["/metrics//", "/metricsx", "/x/metrics", "/", "", "//metrics", "/Metrics"])
def test_other_paths_reach_the_application(path: str, measure: Measure) -> None:
    assert serve(measure(hello), path) == b"hello"


@pytest.mark.parametrize("path", ["", "/", "/metrics"])
def test_empty_scrape_path_answers_no_scrape(path: str, measure: Measure) -> None:
    """An empty PATH_INFO is the root of an application that is mounted below another."""
    wrapped = measure(hello, path="")
    assert serve(wrapped, path) == b"hello"
    environ = environ_of(path)
    del environ["PATH_INFO"]
    assert Server().run(wrapped, environ) == b"hello"


def test_scrape_path_may_have_non_ascii_letters(measure: Measure) -> None:
    wrapped = measure(hello, path="/größen")
    assert b"http_requests" in serve(wrapped, "/größen".encode().decode("latin-1"))


def test_mounted_middleware_answers_scrapes_below_its_mount(measure: Measure) -> None:
    assert b"http_requests" in serve(measure(hello), "/metrics", SCRIPT_NAME="/shop")


def test_mounted_scrape_is_not_counted(measure: Measure, registry: CollectorRegistry) -> None:
    """The application is mounted below a measured one."""
    assert b"http_requests" in serve(measure(make_wsgi_app(registry), path=""))
    assert requests(registry) == {}
    assert in_progress(registry) == 0


def test_disabled_middleware_registers_no_metrics(measure: Measure, registry: CollectorRegistry) -> None:
    wrapped = measure(hello, enabled=False)
    environ = environ_of("/metrics")
    assert Server().run(wrapped, environ) == b"hello"
    assert RECORDING_KEY not in environ
    assert list(registry.collect()) == []


def test_middleware_reads_settings_from_the_environment(
    measure: Measure, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROM_NAMESPACE", "shop")
    monkeypatch.setenv("PROM_PATH", "/m")
    wrapped = measure(hello, path="/option")
    serve(wrapped)
    assert samples(registry, "shop_http_requests_total", "status") == {("200",): 1}
    assert b"shop_http_requests_total" in serve(wrapped, "/option")


def test_middleware_rejects_config_with_options(measure: Measure) -> None:
    with pytest.raises(TypeError, match="path"):
        measure(hello, config=Config(), path="/x")


def test_middleware_rejects_an_unknown_option(measure: Measure) -> None:
    with pytest.raises(ValueError, match="max_label_sets"):
        measure(hello, max_label_sets=0)
    with pytest.raises(ValueError, match="PROM_NAMESPACE"):
        measure(hello, namspace="x")


def test_extra_labels_are_computed_from_the_environ_without_an_adapter(registry: CollectorRegistry) -> None:
    """The label functions get the environ, and the status line with the headers."""
    labels = {
        "tenant": lambda environ, response: environ["HTTP_X_TENANT"],
        "kind": lambda environ, response: dict(response[1])["Content-Type"],
    }

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hi"]

    webtest.TestApp(PrometheusMiddleware(app, registry=registry, extra_labels=labels)).get(
        "/", headers={"X-Tenant": "acme"}
    )
    expected = {
        "method": "GET",
        "route": "_unmatched",
        "status": "200",
        "tenant": "acme",
        "kind": "text/plain",
    }
    assert registry.get_sample_value("http_requests_total", expected) == 1


def test_emptied_registry_accepts_other_settings(registry: CollectorRegistry) -> None:
    """Settings of metrics that were unregistered do not conflict."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return []

    PrometheusMiddleware(app, registry=registry, namespace="one")
    for collector in list(registry._collector_to_names):
        registry.unregister(collector)
    middleware = PrometheusMiddleware(app, registry=registry, namespace="two")
    b"".join(middleware({"REQUEST_METHOD": "GET"}, lambda *_: lambda data: None))
    expected = {"method": "GET", "route": "_unmatched", "status": "200"}
    assert registry.get_sample_value("two_http_requests_total", expected) == 1


@pytest.mark.parametrize("naming", ["prometheus", "opentelemetry"])
@pytest.mark.parametrize("more", [{}, {"HTTP_UPGRADE": "websocket"}])
def test_fault_95_environ_without_a_method_is_measured(
    registry: CollectorRegistry, naming: str, more: Any
) -> None:
    """Its method label is _OTHER. It is no error of the instrumentation."""
    app = PrometheusMiddleware(hello, registry=registry, naming=naming)
    environ = environ_of("/", **more)
    del environ["REQUEST_METHOD"]
    assert Server().run(app, environ) == b"hello"
    assert "REQUEST_METHOD" not in environ
    assert errors(registry) == {}
    name, label = ("http_requests_total", "method")
    if naming == "opentelemetry":
        name, label = "http_server_request_duration_seconds_count", "http_request_method"
    assert samples(registry, name, label) == {("_OTHER",): 1}
