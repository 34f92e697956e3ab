"""The route labels of Flask requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from asgiref.wsgi import WsgiToAsgi
from flask import Blueprint, Flask, Response, request, stream_with_context
from flask.views import MethodView
from prometheus_client import CollectorRegistry
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_prom import FlaskProm
from tests.flask_prom.conftest import MakeApp, Metrics
from tests.web_prom.asgi.framework_support import request as send_to_asgi
from web_prom.asgi import PrometheusMiddleware
from web_prom.wsgi import set_route


def test_fault_10_routing_exceptions_have_a_bounded_number_of_routes(
    make_app: MakeApp, metrics: Metrics
) -> None:
    """Unknown URLs are one series; a 405 and the redirect to the canonical URL keep their route."""
    app = make_app()

    @app.get("/users/<int:user>/")
    def user(user: int) -> str:
        return ""

    client = app.test_client()
    for number in range(50):
        client.get(f"/unknown/{number}")
    client.post("/users/1/")
    client.get("/users/1")
    client.options("/users/1/")
    assert metrics.requests == {
        ("GET", "_unmatched", "404"): 50,
        ("POST", "/users/<int:user>/", "405"): 1,
        ("GET", "/users/<int:user>/", "308"): 1,
        ("OPTIONS", "/users/<int:user>/", "200"): 1,
    }


def test_wrong_method_of_a_path_that_is_a_redirect_keeps_the_route(
    make_app: MakeApp, metrics: Metrics
) -> None:
    """``GET /pages/1`` leads to ``/pages/``, because 1 is the default."""
    app = make_app()

    @app.get("/pages/", defaults={"number": 1})
    @app.get("/pages/<int:number>")
    def page(number: int) -> str:
        return ""

    assert app.test_client().get("/pages/1").status_code == 308
    assert app.test_client().post("/pages/1").status_code == 405
    assert metrics.requests == {("GET", "/pages/", "308"): 1, ("POST", "/pages/", "405"): 1}


def test_fault_11_unknown_methods_share_one_series(make_app: MakeApp, metrics: Metrics) -> None:
    """A hundred unknown methods have one series."""
    app = make_app()

    @app.get("/")
    def index() -> str:
        return ""

    for number in range(100):
        app.test_client().open("/", method=f"HACK{number}")
    assert metrics.requests == {("_OTHER", "/", "405"): 100}


def test_fault_12_spoofed_host_adds_no_series(make_app: MakeApp, metrics: Metrics) -> None:
    """The Host header is no label value. An invalid one is no error of the instrumentation."""
    app = make_app()

    @app.get("/")
    def index() -> str:
        return ""

    for number in range(20):
        app.test_client().get("/", headers={"Host": f"evil{number}.example"})
    app.test_client().get("/", headers={"Host": "not a host"})
    assert sum(metrics.requests.values()) == 21
    assert {route for _, route, _ in metrics.requests} <= {"/", "_unmatched"}
    assert metrics.errors == {}


def test_blueprints_and_method_views_have_their_routes(make_app: MakeApp, metrics: Metrics) -> None:
    """A route is the whole template, with all prefixes."""
    app = make_app()
    inner, outer = Blueprint("inner", "inner"), Blueprint("outer", "outer")

    class Item(MethodView):
        def get(self, item: str) -> str:
            return item

        def delete(self, item: str) -> tuple[str, int]:
            return "", 204

    inner.add_url_rule("/items/<item>", view_func=Item.as_view("item"))
    outer.register_blueprint(inner, url_prefix="/inner")
    app.register_blueprint(outer, url_prefix="/outer")
    client = app.test_client()
    client.get("/outer/inner/items/a")
    client.delete("/outer/inner/items/a")
    route = "/outer/inner/items/<item>"
    assert metrics.requests == {("GET", route, "200"): 1, ("DELETE", route, "204"): 1}


@pytest.mark.parametrize("where", ["view", "before_request", "after_request", "body"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_fault_84_set_route_replaces_the_route_of_flask(
    registry: CollectorRegistry, metrics: Metrics, where: str, wrapped: bool
) -> None:
    """It works with and without a middleware between the extension and Flask."""
    app = Flask("shop")
    if wrapped:
        app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    FlaskProm(app, registry=registry)

    def tell(*given: Any) -> Any:
        set_route(request.environ, "/<article>")
        return given[0] if given else None

    @app.route("/<path:page>")
    def catch_all(page: str) -> Any:
        if where == "view":
            tell()

        def body() -> Iterator[str]:
            if where == "body":
                tell()
            yield page

        return Response(stream_with_context(body()), 404 if page == "missing" else 200)

    if where in {"before_request", "after_request"}:
        getattr(app, where)(tell)
    client = app.test_client()
    for page in ("one", "two/three", "missing"):
        assert client.get(f"/{page}").text == page
    assert metrics.requests == {("GET", "/<article>", "200"): 2, ("GET", "/<article>", "404"): 1}


def test_fault_84_set_route_does_not_include_an_excluded_view(make_app: MakeApp, metrics: Metrics) -> None:
    app = make_app()

    @app.get("/health")
    @FlaskProm.exclude
    def health() -> str:
        set_route(request.environ, "/other")
        return "ok"

    app.test_client().get("/health")
    assert metrics.requests == {}


def test_fault_84_set_route_applies_to_exceptions(make_app: MakeApp, metrics: Metrics) -> None:
    app = make_app()

    @app.get("/<path:page>")
    def fails(page: str) -> str:
        set_route(request.environ, "/<article>")
        raise ValueError

    assert app.test_client().get("/one").status_code == 500
    assert metrics.requests == {("GET", "/<article>", "500"): 1}
    assert metrics.exceptions == {("GET", "/<article>", "ValueError"): 1}


# Mounted applications ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("excluded", ["main", "api"])
@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("first", ["/", "/api/users"])
@pytest.mark.parametrize("fails", [False, True])
def test_exclusion_applies_to_the_view_of_its_own_application(  # noqa: PLR0917
    registry: CollectorRegistry, metrics: Metrics, excluded: str, measured: bool, first: str, fails: bool
) -> None:
    """Both applications have an endpoint with the same name."""

    def answer() -> str:
        if fails:
            raise SystemExit
        return "ok"

    prometheus = FlaskProm(registry=registry)
    main, api = Flask("main"), Flask("api")
    for app, rule in ((main, "/"), (api, "/users")):
        view = partial(answer)
        app.add_url_rule(rule, "index", FlaskProm.exclude(view) if app.name == excluded else view)
    if measured:
        prometheus.init_app(api)
    main.wsgi_app = DispatcherMiddleware(main.wsgi_app, {"/api": api})  # type: ignore[method-assign]
    prometheus.init_app(main)
    for path in (first, "/", "/api/users"):
        with suppress(SystemExit):
            main.test_client().get(path)
    counted = "/users" if excluded == "main" else "/"
    count = 2 if (first == "/") == (counted == "/") else 1
    assert metrics.requests == {("GET", counted, "500" if fails else "200"): count}
    assert metrics.errors == {}


@pytest.mark.parametrize(
    ("path", "method", "status"), [("/api/users", "POST", 405), ("/api/a b", "GET", 308)]
)
def test_routing_exception_of_a_mounted_application_has_its_own_route(
    registry: CollectorRegistry, metrics: Metrics, path: str, method: str, status: int
) -> None:
    """The outer application has rules that match the same path below the mount."""
    main, api = Flask("main"), Flask("api")
    main.add_url_rule("/<page>", "page", lambda page: page, methods=["GET", "POST"])
    api.add_url_rule("/users", "users", lambda: "users")
    api.add_url_rule("/a b/", "blank", lambda: "blank")
    main.wsgi_app = DispatcherMiddleware(main.wsgi_app, {"/api": api})  # type: ignore[method-assign]
    FlaskProm(main, registry=registry)
    assert main.test_client().open(path, method=method).status_code == status
    route = "/users" if status == 405 else "/a b/"
    assert metrics.requests == {(method, route, str(status)): 1}


@pytest.mark.parametrize("root", ["", "/shop"])
def test_redirect_keeps_the_route_of_a_path_with_encoded_characters(
    make_app: MakeApp, metrics: Metrics, root: str
) -> None:
    """A redirect to another host has no route."""
    app = make_app()
    for number, rule in enumerate(("/über/", "/a b/", "/100%/", "/new/<x>")):
        app.add_url_rule(rule, str(number), lambda **_: "x")
    app.add_url_rule("/away/<x>", "away", redirect_to="https://other.org/new/<x>")
    for path in ("/über", "/a b", "/100%25", "/away/1"):
        response = app.test_client().get(path, base_url=f"http://localhost{root}")
        assert response.status_code == 308
    routes = ("/über/", "/a b/", "/100%/", "_unmatched")
    assert metrics.requests == {("GET", route, "308"): 1 for route in routes}
    assert metrics.errors == {}


@pytest.mark.parametrize("asgi", [False, True])
def test_excluded_method_of_a_class_excludes_its_http_method(
    registry: CollectorRegistry, metrics: Metrics, asgi: bool
) -> None:
    class Item(MethodView):
        @FlaskProm.exclude
        def get(self) -> str:
            return "read"

        def post(self) -> str:
            return "written"

    class Views:
        def health(self) -> str:
            return "ok"

    app: Any = Flask("shop")
    app.add_url_rule("/item", view_func=Item.as_view("item"))
    app.add_url_rule("/health", view_func=FlaskProm.exclude(Views().health), endpoint="health")
    if asgi:
        served = PrometheusMiddleware(WsgiToAsgi(app), registry=registry)  # type: ignore[no-untyped-call]
        send = partial(send_to_asgi, served)
    else:
        FlaskProm(app, registry=registry)
        send = partial(app.test_client().open)
    for method in ("GET", "HEAD", "POST", "PUT"):
        send("/item", method=method)
    send("/health", method="GET")
    assert metrics.requests == {("POST", "/item", "200"): 1, ("PUT", "/item", "405"): 1}
