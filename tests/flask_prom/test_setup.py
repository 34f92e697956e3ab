"""Setup of the Flask extension: factories, settings, exclusions and scrapes."""

from __future__ import annotations

import gc
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import weakref
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from flask import Flask, Response
from flask.views import MethodView
from prometheus_client import REGISTRY, CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families
from webtest import TestApp
from werkzeug.test import Client

from flask_prom import FlaskProm
from tests import interpreters
from tests.flask_prom.conftest import MakeApp, Metrics
from web_prom import PrometheusMiddleware
from web_prom.errors import ConfigError, ConflictError, WebPromError
from web_prom.metrics.recording import RECORDING_KEY

# Timeout for the start of a real server on a busy machine, in seconds.
PATIENCE_SECONDS = 60.0


def test_fault_14_factory_can_be_called_many_times(registry: CollectorRegistry, metrics: Metrics) -> None:
    """One extension object, a new application for each test of a suite: all are measured."""
    prom = FlaskProm(registry=registry)

    def create_app() -> Flask:
        app = Flask("shop")
        prom.init_app(app)
        app.add_url_rule("/", view_func=lambda: "hi", endpoint="index")
        return app

    for _ in range(5):
        app = create_app()
        app.test_client().get("/")
        del app
        gc.collect()
    assert metrics.requests == {("GET", "/", "200"): 5}


def test_fault_14_init_app_can_be_called_twice(registry: CollectorRegistry, metrics: Metrics) -> None:
    """The second call does nothing. With other settings it raises ConflictError."""
    app = Flask("shop")
    FlaskProm(app, registry=registry)
    FlaskProm(app, registry=registry)
    app.add_url_rule("/", view_func=lambda: "hi", endpoint="index")
    app.test_client().get("/")
    assert metrics.requests == {("GET", "/", "200"): 1}
    with pytest.raises(ConflictError, match=r"'shop' is already measured.*namespace='x'"):
        FlaskProm(app, registry=registry, namespace="x")


def test_fault_14_two_applications_share_one_registry(make_app: MakeApp, metrics: Metrics) -> None:
    """Both write to the same metrics."""
    one, two = make_app("one"), make_app("two")
    one.add_url_rule("/one", view_func=lambda: "1", endpoint="index")
    two.add_url_rule("/two", view_func=lambda: "2", endpoint="index")
    one.test_client().get("/one")
    two.test_client().get("/two")
    assert metrics.requests == {("GET", "/one", "200"): 1, ("GET", "/two", "200"): 1}


def test_two_applications_with_different_settings_conflict(make_app: MakeApp) -> None:
    """The error contains both values, the key and the solution."""
    make_app("one", duration_buckets=[1, 2])
    with pytest.raises(ConflictError, match=r"'one'.*'two'.*PROM_DURATION_BUCKETS.*registry of its own"):
        make_app("two", duration_buckets=[1, 3])


def test_default_registry_is_the_one_of_prometheus_client() -> None:
    """Without a registry, the metrics are in the default registry."""
    app = Flask("shop")
    before = set(REGISTRY._collector_to_names)
    try:
        FlaskProm(app)
        app.test_client().get("/nothing")
        value = REGISTRY.get_sample_value(
            "http_requests_total", {"method": "GET", "route": "_unmatched", "status": "404"}
        )
        assert value == 1
        assert b"python_info" in app.test_client().get("/metrics").data
    finally:
        for collector in set(REGISTRY._collector_to_names) - before:
            REGISTRY.unregister(collector)


def test_scrape_contains_metrics_of_the_application(make_app: MakeApp, registry: CollectorRegistry) -> None:
    """They may be registered before or after the extension is set up."""
    before = Counter("jobs_before", "Jobs.", registry=registry)
    app = make_app()
    after = Counter("jobs_after", "Jobs.", registry=registry)
    before.inc(2)
    after.inc(3)
    families = {
        family.name: family.samples[0].value
        for family in text_string_to_metric_families(app.test_client().get("/metrics").text)
        if family.samples
    }
    assert (families["jobs_before"], families["jobs_after"]) == (2, 3)


def test_init_app_reads_settings_from_app_config(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An argument takes precedence over app.config, which takes precedence over the environment."""
    monkeypatch.setenv("PROM_NAMESPACE", "environment")
    monkeypatch.setenv("PROM_PATH", "/from-environment")
    monkeypatch.setenv("PROM_STATUS_CLASSES", "true")
    app = Flask("shop")
    app.config.update(PROM_NAMESPACE="config", PROM_PATH="/from-config")
    FlaskProm(app, registry=registry, namespace="argument")
    client = app.test_client()
    assert client.get("/metrics").status_code == 404
    assert 'argument_http_requests_total{method="GET",route="_unmatched",status="4xx"} 1.0' in (
        client.get("/from-config").text
    )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("PROM_BUCKETS", [1], "PROM_BUCKETS is not a setting.*did you mean PROM_.*BUCKETS"),
        ("PROM_DURATION_BUCKETS", [2, 1], r"PROM_DURATION_BUCKETS is \[2, 1\]; allowed: .*ascending"),
        ("PROM_ALLOWED_NETWORKS", ["10.0.0.0/40"], "PROM_ALLOWED_NETWORKS .* allowed: networks, for example"),
        (
            "PROM_BEARER_TOKEN_FILE",
            "/nowhere/token",
            "PROM_BEARER_TOKEN_FILE is '/nowhere/token'; allowed: the path of a file",
        ),
    ],
)
def test_init_app_rejects_invalid_settings(
    registry: CollectorRegistry, key: str, value: Any, message: str
) -> None:
    """The error contains the key, the value and the allowed values. It is a ValueError too."""
    app = Flask("shop")
    app.config[key] = value
    with pytest.raises(ConfigError, match=message) as caught:
        FlaskProm(app, registry=registry)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, WebPromError)


def test_disabled_extension_changes_nothing(registry: CollectorRegistry, metrics: Metrics) -> None:
    """Nothing is wrapped, mounted or measured."""
    app = Flask("shop")
    inner = app.wsgi_app
    FlaskProm(app, registry=registry, enabled=False)
    assert app.wsgi_app == inner
    assert app.test_client().get("/metrics").status_code == 404
    assert list(registry.collect()) == []


def test_fault_18_scrape_needs_no_login(make_app: MakeApp, metrics: Metrics) -> None:
    """The hooks of the application do not run for /metrics, neither before_request nor after_request."""
    app = make_app()

    @app.before_request
    def login() -> tuple[str, int]:
        return "who are you?", 401

    @app.after_request
    def mark(response: Response) -> Response:
        response.headers["X-App"] = "1"
        return response

    response = app.test_client().get("/metrics")
    assert response.status_code == 200
    assert "X-App" not in response.headers
    assert metrics.requests == {}


def test_scrapes_are_not_counted(make_app: MakeApp, metrics: Metrics) -> None:
    """They are not in progress either."""
    client = make_app().test_client()
    for _ in range(3):
        text = client.get("/metrics").text
    assert "http_requests_in_progress 0.0" in text
    assert metrics.requests == {}


def test_fault_19_excluded_route_does_not_affect_similar_routes(make_app: MakeApp, metrics: Metrics) -> None:
    """/foo excludes only /foo; /internal/* excludes all paths below it."""
    app = make_app(exclude=["/foo", "/internal/*"])
    paths = ("/foo", "/foobar", "/foo/bar", "/internal/x", "/internals")
    for path in paths:
        app.add_url_rule(path, view_func=lambda: "", endpoint=path.replace("/", "_"))
    for path in paths:
        app.test_client().get(path)
    assert {route for _, route, _ in metrics.requests} == {"/foobar", "/foo/bar", "/internals"}
    assert metrics.in_progress == 0


def test_excluded_views_are_not_counted(make_app: MakeApp, metrics: Metrics) -> None:
    """Functions, classes, and the endpoint of one method, but not of other methods."""
    app = make_app()
    prom = FlaskProm()

    @app.get("/under")
    @prom.exclude
    def under() -> str:
        return ""

    @prom.exclude
    @app.get("/over")
    def over() -> str:
        return ""

    @prom.exclude
    class View(MethodView):
        def get(self) -> str:
            return ""

    app.add_url_rule("/class", view_func=View.as_view("view"))

    @app.get("/both")
    @prom.exclude
    def both_get() -> str:
        return ""

    @app.post("/both")
    def both_post() -> str:
        return ""

    client = app.test_client()
    for path in ("/under", "/over", "/class", "/both"):
        assert client.get(path).status_code == 200
    client.post("/both")
    assert metrics.requests == {("POST", "/both", "200"): 1}
    assert metrics.in_progress == 0


def test_scrape_is_protected_by_access_control(make_app: MakeApp) -> None:
    """The setting protects only /metrics."""
    app = make_app(bearer_token="s3cret")
    client = app.test_client()
    refused = client.get("/metrics")
    assert (refused.status_code, refused.data) == (401, b"")
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert client.get("/metrics", headers={"Authorization": "Bearer s3cret"}).status_code == 200
    assert client.get("/other").status_code == 404


@pytest.mark.parametrize("path", ["/metrics", "/internal/metrics", "/internal/metrics/"])
def test_fault_54_scrape_path_allows_a_trailing_slash(make_app: MakeApp, path: str) -> None:
    """The ServiceMonitor of a mounted application has the trailing slash."""
    app = make_app(path=path)
    client = app.test_client()
    for asked in (path.rstrip("/"), f"{path.rstrip('/')}/"):
        answer = client.get(asked)
        assert answer.status_code == 200
        assert "http_requests_in_progress 0.0" in answer.text, "a scrape is not in progress"
    assert client.get(f"{path.rstrip('/')}//").status_code == 404


def test_application_passes_the_lint_of_webtest(make_app: MakeApp) -> None:
    """WebTest checks the application and /metrics against the WSGI specification."""
    app = make_app(request_size=True, response_size=True, first_byte=True)
    app.add_url_rule("/", view_func=lambda: "hi", endpoint="index", methods=["GET", "POST"])
    client = TestApp(app)
    client.get("/")
    client.post("/", {"a": "b"})
    client.head("/")
    client.head("/metrics")
    assert b"http_requests_total" in client.get("/metrics").body


APPLICATION = """
from flask import Flask
from flask_prom import FlaskProm

app = Flask(__name__)
FlaskProm(app)

@app.get("/users/<user>")
def user(user):
    return user
"""


@pytest.mark.slow
def test_fault_14_init_app_works_under_the_debug_reloader(tmp_path: Path) -> None:
    """`flask run --debug` imports the application in two processes; the one that serves is measured."""
    (tmp_path / "shop.py").write_text(APPLICATION)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "flask", "--app", "shop", "run", "--debug", "--port", str(port)]
    # A new session: the child of the reloader must end with its parent.
    server = interpreters.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        assert server.stdout is not None
        assert any(b"Running on" in line for line in server.stdout)
        assert read(f"http://127.0.0.1:{port}/users/ada") == b"ada"
        expected = b'http_requests_total{method="GET",route="/users/<user>",status="200"} 1.0'
        assert expected in read(f"http://127.0.0.1:{port}/metrics")
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.communicate()


def test_outer_middleware_counts_a_flask_request_once(registry: CollectorRegistry) -> None:
    """The outer middleware measures; the extension sets the route."""
    app = Flask("shop")
    FlaskProm(app, registry=registry)
    app.add_url_rule("/users/<user>", view_func=lambda user: user, endpoint="user")
    TestApp(PrometheusMiddleware(app, registry=registry)).get("/users/ada")
    labels = {"method": "GET", "route": "/users/<user>", "status": "200"}
    assert registry.get_sample_value("http_requests_total", labels) == 1


def read(url: str) -> bytes:
    """Read a URL; wait for a server that is starting."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as response:
                return bytes(response.read())
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError):
                raise
            time.sleep(0.1)
    raise TimeoutError(url)


def test_opentelemetry_naming_is_supported(registry: CollectorRegistry) -> None:
    """The route is Flask's template. The error type is the exception of the view."""
    app = Flask("shop")
    app.config.update(PROPAGATE_EXCEPTIONS=False, PROM_NAMING="opentelemetry")
    FlaskProm(app, registry=registry)

    @app.get("/broken/<int:number>")
    def broken(number: int) -> str:
        raise LookupError

    client = app.test_client()
    assert client.get("/broken/1").status_code == 500
    assert client.get("/nowhere").status_code == 404
    name = "http_server_request_duration_seconds_count"
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith(name)]
    labels = [dict(re.findall(r'(\w+)="([^"]*)"', line)) for line in lines]
    assert [
        (each["http_route"], each["http_response_status_code"], each["error_type"]) for each in labels
    ] == [
        ("/broken/<int:number>", "500", "LookupError"),
        ("", "404", ""),
    ]
    assert {(each["url_scheme"], each["network_protocol_version"]) for each in labels} == {("http", "1.1")}


# Requests that do not pass the middleware -------------------------------------------------------------------


def test_fault_45_unmeasured_request_logs_a_warning(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning is logged, also after measured requests. Then Flask's method is restored."""
    app = Flask("shop")
    taken_before = app.wsgi_app
    FlaskProm(app, registry=registry)
    app.test_client().get("/")
    assert caplog.messages == []
    for _ in range(3):
        Client(taken_before).get("/")
    (message,) = caplog.messages
    assert "'shop'" in message
    assert "PrometheusMiddleware" in message
    assert "full_dispatch_request" not in vars(app)


def test_fault_45_first_hundred_requests_are_checked(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    app = Flask("shop")
    FlaskProm(app, registry=registry)
    client = app.test_client()
    for _ in range(99):
        client.get("/")
    assert "full_dispatch_request" in vars(app)
    client.get("/")
    assert "full_dispatch_request" not in vars(app)
    assert caplog.messages == []


@pytest.mark.parametrize("outer", ["wsgi", "asgi"])
def test_fault_45_outer_middleware_logs_no_warning(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture, outer: str
) -> None:
    """The outer middleware counts such requests. a2wsgi (in connexion) keeps the scope in the environ."""
    app = Flask("shop")
    taken_before = app.wsgi_app
    FlaskProm(app, registry=registry)
    if outer == "wsgi":
        Client(PrometheusMiddleware(taken_before, registry=registry)).get("/")
    else:
        recording = Mock(finished=False, outer=None, **{"recorder.mount_path": None})
        Client(taken_before).get("/", environ_overrides={"asgi.scope": {RECORDING_KEY: recording}})
    assert caplog.messages == []


def test_fault_45_method_that_another_extension_replaced_is_restored(registry: CollectorRegistry) -> None:
    app = Flask("shop")
    taken_before = app.wsgi_app
    seen: list[int] = []
    dispatch = app.full_dispatch_request

    def theirs(*args: Any) -> Any:
        seen.append(1)
        return dispatch(*args)

    app.full_dispatch_request = theirs  # type: ignore[method-assign]
    FlaskProm(app, registry=registry)
    Client(taken_before).get("/")
    assert vars(app)["full_dispatch_request"] is theirs
    assert seen == [1]


# References to the application ------------------------------------------------------------------------------


def test_fault_95_dropped_application_is_freed_by_the_garbage_collector(registry: CollectorRegistry) -> None:
    """``wsgi_app`` refers to the application, as with any WSGI middleware at that place."""
    app = Flask("shop")
    FlaskProm(app, registry=registry)
    app.test_client().get("/")
    found = weakref.ref(app)
    del app
    gc.collect()
    assert found() is None


def test_fault_95_wsgi_application_keeps_the_flask_application_alive(registry: CollectorRegistry) -> None:
    """A server may get only ``app.wsgi_app``. The reference cycle is needed for this case."""

    def make() -> Any:
        app = Flask("shop")
        app.add_url_rule("/", view_func=lambda: "ok")
        FlaskProm(app, registry=registry)
        return app.wsgi_app

    wsgi_app = make()
    gc.collect()
    assert Client(wsgi_app).get("/").status_code == 200
