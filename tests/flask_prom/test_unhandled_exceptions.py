"""Exceptions that leave Flask: their routes, exclusion and labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, g
from flask import request as current
from prometheus_client import CollectorRegistry
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.routing import BaseConverter

import web_prom as prom
from flask_prom import FlaskProm
from tests.flask_prom.conftest import MakeApp, Metrics
from web_prom import PrometheusMiddleware
from web_prom.wsgi import set_route


class Killed(BaseException):
    """An exception as SystemExit in a signal handler of gunicorn, or gevent.Timeout."""


def raises(kind: type[BaseException]) -> Callable[..., Any]:
    """Return a view that raises."""

    def view(**_: object) -> Any:
        raise kind

    return view


def get(app: Any, path: str, kind: type[BaseException], **options: Any) -> None:
    """Send a request that ends with an exception."""
    with pytest.raises(kind):
        app.test_client().get(path, **options)


KINDS = pytest.mark.parametrize("kind", [Killed, SystemExit, KeyboardInterrupt, ValueError])


@KINDS
def test_exception_that_leaves_flask_has_its_route(
    make_app: MakeApp, metrics: Metrics, kind: type[BaseException]
) -> None:
    app = make_app()
    app.config["PROPAGATE_EXCEPTIONS"] = True
    app.add_url_rule("/slow/<int:number>", "slow", raises(kind))
    get(app, "/slow/1", kind)
    assert metrics.requests == {("GET", "/slow/<int:number>", "500"): 1}
    assert metrics.exceptions == {("GET", "/slow/<int:number>", kind.__name__): 1}
    assert metrics.in_progress == 0
    assert metrics.errors == {}


@KINDS
@pytest.mark.parametrize("hook", ["before_request", "after_request", "teardown_request"])
def test_exception_of_a_hook_that_leaves_flask_has_its_route(
    make_app: MakeApp, metrics: Metrics, hook: str, kind: type[BaseException]
) -> None:
    app = make_app()
    app.config["PROPAGATE_EXCEPTIONS"] = True
    app.add_url_rule("/<page>", "page", lambda page: page)

    def fail(*_: object) -> Any:
        raise kind

    getattr(app, hook)(fail)
    get(app, "/one", kind)
    assert set(metrics.by_labels("http_requests_total", "route")) == {("/<page>",)}


def test_excluded_view_whose_exception_leaves_flask_is_not_measured(
    make_app: MakeApp, metrics: Metrics
) -> None:
    app = make_app()
    app.add_url_rule("/health", "health", FlaskProm.exclude(raises(Killed)))
    get(app, "/health", Killed)
    assert metrics.requests == {}
    assert metrics.exceptions == {}
    assert metrics.in_progress == 0


def test_fault_84_set_route_applies_to_exceptions_that_leave_flask(
    make_app: MakeApp, metrics: Metrics
) -> None:
    app = make_app()

    @app.get("/<path:page>")
    def fails(page: str) -> str:
        set_route(current.environ, "/<article>")
        raise Killed

    get(app, "/one", Killed)
    assert metrics.requests == {("GET", "/<article>", "500"): 1}


def test_exception_inside_the_context_of_another_application_has_its_route(
    make_app: MakeApp, metrics: Metrics
) -> None:
    """Tests push a context, and a view can call another application."""
    app = make_app()
    app.add_url_rule("/slow", "slow", raises(Killed))
    with Flask("other").test_request_context("/other"):
        get(app, "/slow", Killed)
    assert metrics.requests == {("GET", "/slow", "500"): 1}


@pytest.mark.parametrize("measured", [False, True])
def test_exception_of_a_mounted_application_has_its_own_route(
    registry: CollectorRegistry, metrics: Metrics, measured: bool
) -> None:
    """The outer application has the same path, and the dispatcher changes the path in the environ."""
    prometheus = FlaskProm(registry=registry)
    main, api = Flask("main"), Flask("api")
    main.add_url_rule("/<page>", "page", lambda page: page)
    api.add_url_rule("/<user>", "user", raises(Killed))
    if measured:
        prometheus.init_app(api)
    main.wsgi_app = DispatcherMiddleware(main.wsgi_app, {"/api": api})  # type: ignore[method-assign]
    prometheus.init_app(main)
    get(main, "/api/one", Killed)
    assert metrics.requests == {("GET", "/<user>", "500"): 1}


def test_exception_of_a_mounted_wsgi_application_gets_no_route_of_flask(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    main = Flask("main")
    main.add_url_rule("/<page>", "page", lambda page: page)
    mounts = {"/other": lambda environ, start_response: raises(Killed)()}
    main.wsgi_app = DispatcherMiddleware(main.wsgi_app, mounts)  # type: ignore[method-assign]
    FlaskProm(main, registry=registry)
    get(main, "/other/one", Killed)
    assert metrics.requests == {("GET", "_unmatched", "500"): 1}


def test_exception_below_a_lazy_middleware_has_its_route(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    """A generator calls Flask when the server reads the body."""
    app = Flask("shop")
    inner = app.wsgi_app

    def lazy(environ: Any, start_response: Any) -> Iterator[bytes]:
        yield from inner(environ, start_response)

    app.wsgi_app = lazy  # type: ignore[method-assign]
    FlaskProm(app, registry=registry, extra_labels={"t": prom.header("X-T")})
    app.add_url_rule("/slow", "slow", raises(Killed))
    get(app, "/slow", Killed, headers={"X-T": "t1"})
    assert metrics.by_labels("http_requests_total", "route", "t") == {("/slow", "t1"): 1}


@pytest.mark.parametrize("same", [False, True])
def test_exception_inside_an_outer_layer_has_its_route(registry: CollectorRegistry, same: bool) -> None:
    app = Flask("shop")
    labels = {"extra_labels": {"t": lambda request, response: request.path}} if not same else {}
    FlaskProm(app, registry=registry if same else CollectorRegistry(), **labels)
    app.add_url_rule("/slow", "slow", raises(Killed))
    app.wsgi_app = PrometheusMiddleware(app.wsgi_app, registry=registry)  # type: ignore[method-assign]
    get(app, "/slow", Killed)
    assert Metrics(registry).requests == {("GET", "/slow", "500"): 1}
    assert Metrics(registry).exceptions == {("GET", "/slow", "Killed"): 1}


# Labels -----------------------------------------------------------------------------------------------------


@KINDS
def test_extra_labels_of_an_exception_that_leaves_flask_are_computed(
    make_app: MakeApp, metrics: Metrics, kind: type[BaseException]
) -> None:
    labels = {
        "t": prom.header("X-T"),
        "made": lambda request, response: f"{request.endpoint} {request.view_args} {response}",
    }
    app = make_app(extra_labels=labels)
    app.config["PROPAGATE_EXCEPTIONS"] = True
    app.add_url_rule("/slow/<int:number>", "slow", raises(kind))
    get(app, "/slow/1", kind, headers={"X-T": "t1"})
    expected = {("/slow/<int:number>", "t1", "slow {'number': 1} None"): 1}
    assert metrics.by_labels("http_requests_total", "route", "t", "made") == expected
    assert metrics.errors == {}


@pytest.mark.parametrize("propagate", [False, True])
def test_extra_labels_of_an_error_are_computed_once_in_the_request_context(
    make_app: MakeApp, metrics: Metrics, propagate: bool
) -> None:
    """The label is computed from the response if there is one. An error handler can raise too."""
    responses = []

    def tenant(request: Any, response: Any) -> str:
        responses.append(response and response.status_code)
        return str(g.tenant)

    app = make_app(extra_labels={"t": tenant})
    app.config["PROPAGATE_EXCEPTIONS"] = propagate

    @app.before_request
    def find_tenant() -> None:
        g.tenant = "t1"

    app.add_url_rule("/boom", "boom", raises(ValueError))
    app.add_url_rule("/worse", "worse", raises(ValueError))

    @app.errorhandler(500)
    def answer(_: Exception) -> Any:
        if current.path == "/worse":
            raise KeyError
        return "sorry", 500

    if propagate:
        get(app, "/boom", ValueError)
    else:
        assert app.test_client().get("/boom").status_code == 500
        get(app, "/worse", KeyError)
    found = metrics.by_labels("http_requests_total", "route", "t")
    assert found == {(route, "t1"): 1 for route in (["/boom"] if propagate else ["/boom", "/worse"])}
    assert responses == ([None] if propagate else [500, None])
    assert metrics.errors == {}


@KINDS
def test_naming_by_endpoint_keeps_the_endpoint_of_an_exception_that_leaves_flask(
    make_app: MakeApp, metrics: Metrics, kind: type[BaseException]
) -> None:
    app = make_app(naming="prometheus-flask-exporter:endpoint")
    app.config["PROPAGATE_EXCEPTIONS"] = True
    app.add_url_rule("/slow/<number>", "slow_endpoint", raises(kind))
    get(app, "/slow/1", kind)
    found = metrics.by_labels("flask_http_request_duration_seconds_count", "endpoint", "status")
    assert found == {("slow_endpoint", "500"): 1}


def test_error_in_a_converter_of_another_method_changes_no_answer(
    make_app: MakeApp, metrics: Metrics
) -> None:
    """The route of a 405 is found with an allowed method, whose converters Flask has not called."""

    class Broken(BaseConverter):
        def to_python(self, value: str) -> str:
            raise RuntimeError

    app = make_app()
    app.url_map.converters["broken"] = Broken
    app.add_url_rule("/<broken:name>", "name", lambda name: name, methods=["POST"])
    assert app.test_client().get("/one").status_code == 405
    assert metrics.requests == {("GET", "_unmatched", "405"): 1}
