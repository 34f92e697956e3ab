"""A WSGI metrics application that is mounted below a measured application."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom.support import App, Environ, errors, hello, in_progress, requests, samples, serve
from web_prom import PrometheusMiddleware, make_wsgi_app


def mounted_at(path: str, inner: App, outer: App) -> App:
    """Return a dispatcher of two applications."""

    def dispatch(environ: Environ, start_response: Any) -> Any:
        if environ["PATH_INFO"].startswith(path):
            rest = environ["PATH_INFO"].removeprefix(path)
            environ = {**environ, "SCRIPT_NAME": path, "PATH_INFO": rest}
            return inner(environ, start_response)
        return outer(environ, start_response)

    return dispatch


def flask_at_shop(registry: CollectorRegistry) -> App:
    from flask import Flask

    from flask_prom import FlaskProm

    app = Flask("shop")
    FlaskProm(app, registry=registry)
    measured: App = PrometheusMiddleware(mounted_at("/shop", app, hello), registry=registry, path="")
    return measured


def dispatcher_inside_of_flask(registry: CollectorRegistry) -> App:
    from flask import Flask

    from flask_prom import FlaskProm

    app = Flask("shop")
    app.wsgi_app = mounted_at("/shop", make_wsgi_app(registry), app.wsgi_app)  # type: ignore[assignment]
    FlaskProm(app, registry=registry)
    return app


MOUNTS = {
    "make_wsgi_app": lambda registry: PrometheusMiddleware(
        mounted_at("/shop", make_wsgi_app(registry), hello), registry=registry, path=""
    ),
    "a measured application": lambda registry: PrometheusMiddleware(
        mounted_at("/shop", PrometheusMiddleware(hello, registry=registry), hello), registry=registry, path=""
    ),
    "a Flask application": flask_at_shop,
    "a dispatcher inside of Flask": dispatcher_inside_of_flask,
}


@pytest.mark.parametrize("mount", MOUNTS.values(), ids=MOUNTS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("more", [{}, {"HTTP_UPGRADE": "websocket"}], ids=["", "upgrade"])
def test_fault_79_mounted_scrape_is_not_counted_as_in_progress(
    registry: CollectorRegistry, mount: Any, method: str, more: Any
) -> None:
    """It is not counted, and it is no error, for any other header of the client."""
    app = mount(registry)
    for _ in range(2):
        body = serve(app, "/shop/metrics", method, **more)
        if method == "GET":
            assert b"\nhttp_requests_in_progress 0.0\n" in body
    assert requests(registry) == {}
    assert in_progress(registry) == 0
    assert errors(registry) == {}
    assert samples(registry, "websocket_connections_total", "code") == {}
    assert registry.get_sample_value("websocket_connections_in_progress") in {None, 0}
