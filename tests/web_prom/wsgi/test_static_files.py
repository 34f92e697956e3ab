"""The routes of WhiteNoise's static files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from prometheus_client import CollectorRegistry
from werkzeug.middleware.proxy_fix import ProxyFix
from whitenoise import WhiteNoise

from flask_prom import FlaskProm
from tests.web_prom.support import errors, hello, requests, serve
from web_prom import PrometheusMiddleware


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return a registry of the test's own."""
    return CollectorRegistry()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a folder of static files."""
    for name in ("css/shop.css", "css/more/a.css", "js/shop.js", "robots.txt", "caf\u00e9.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")
    return tmp_path


PATHS = [
    "/static/css/shop.css",
    "/static/css/more/a.css",
    "/static/robots.txt",
    "/static/caf\u00c3\u00a9.txt",
]


@pytest.mark.parametrize(
    "wrap", [lambda app: app, ProxyFix, lambda app: ProxyFix(ProxyFix(app))], ids=["alone", "inside", "deep"]
)
def test_fault_84_static_files_share_one_route(registry: CollectorRegistry, files: Path, wrap: Any) -> None:
    """A path that is not a file reaches the application."""
    app = wrap(WhiteNoise(hello, root=str(files), prefix="static/"))
    measured = PrometheusMiddleware(app, registry=registry)
    for path in PATHS:
        assert serve(measured, path) == b"text"
    for path in ("/", "/static/missing.css", "/static/../robots.txt", "/static/"):
        assert serve(measured, path) == b"hello"
    assert requests(registry) == {("GET", "/static/*", "200"): 4, ("GET", "_unmatched", "200"): 4}
    assert errors(registry) == {}


def test_fault_84_files_at_the_root_have_the_routes_of_their_folders(
    registry: CollectorRegistry, files: Path
) -> None:
    measured = PrometheusMiddleware(WhiteNoise(hello, root=str(files)), registry=registry)
    for path in ("/css/shop.css", "/css/more/a.css", "/js/shop.js", "/robots.txt"):
        assert serve(measured, path) == b"text"
    assert requests(registry) == {
        ("GET", "/css/*", "200"): 2,
        ("GET", "/js/*", "200"): 1,
        ("GET", "/*", "200"): 1,
    }


@pytest.mark.parametrize("fixed", [False, True])
def test_fault_84_static_files_of_a_flask_application_share_one_route(
    registry: CollectorRegistry, files: Path, fixed: bool
) -> None:
    app = Flask("shop")
    app.add_url_rule("/", view_func=lambda: "ok")
    app.wsgi_app = WhiteNoise(app.wsgi_app, root=str(files), prefix="static/")  # type: ignore[method-assign]
    if fixed:
        app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    FlaskProm(app, registry=registry)
    client = app.test_client()
    assert client.get("/static/css/shop.css", buffered=True).status_code == 200
    assert client.get("/").status_code == 200
    assert client.get("/static/missing").status_code == 404
    found = requests(registry)
    assert found["GET", "/static/*", "200"] == 1
    assert found["GET", "/", "200"] == 1


def test_fault_84_excluded_static_files_are_not_counted(registry: CollectorRegistry, files: Path) -> None:
    app = WhiteNoise(hello, root=str(files), prefix="static/")
    serve(PrometheusMiddleware(app, registry=registry, exclude=["/static/*"]), "/static/robots.txt")
    assert requests(registry) == {}
