"""Routes that the application names itself, and those of Wagtail and WhiteNoise."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from django.core.wsgi import get_wsgi_application
from django.test import override_settings
from prometheus_client import CollectorRegistry

from django_prom import set_route
from tests.web_prom.support import ROOT, Server, errors, exceptions, requests, samples
from web_prom.wsgi import PrometheusMiddleware as WSGIMiddleware

from . import views
from .conftest import Site, configured, site_environ
from .test_async import ASGISite

pytestmark = pytest.mark.slow

HERE = "tests.django_prom.middleware"


@pytest.mark.parametrize("kind", [Site, ASGISite])
@pytest.mark.parametrize(("path", "status"), [("/users/1/", "200"), ("/fail/", "500")])
def test_fault_84_a_view_names_its_route(
    kind: Callable[[], Any], path: str, status: str, registry: CollectorRegistry
) -> None:
    """The last name wins, also where the view then fails."""

    def name(request: Any) -> None:
        set_route(request, "/first")
        set_route(request, "/<kind>")

    views.hooks["view"] = name
    assert kind()(path) == status
    assert requests(registry) == {("GET", "/<kind>", status): 1}
    if status == "500":
        assert exceptions(registry) == {("/<kind>", "ValueError"): 1}
    assert errors(registry) == {}


@configured(MIDDLEWARE=[f"{HERE}.maintenance"])
def test_fault_84_a_middleware_that_answers_names_the_route(site: Site, registry: CollectorRegistry) -> None:
    """Also of a path that no URL matches."""
    from . import middleware

    seen: list[Any] = []
    views.hooks["middleware"] = lambda: seen.append(1)

    def naming(get_response: Any) -> Any:
        def process(request: Any) -> Any:
            set_route(request, "/maintenance")
            return get_response(request)

        return process

    middleware.naming = naming  # type: ignore[attr-defined]
    try:
        with override_settings(MIDDLEWARE=[f"{HERE}.naming", f"{HERE}.maintenance"]):
            assert site("/no/such/") == site("/users/1/") == "503"
    finally:
        del middleware.naming  # type: ignore[attr-defined]
    assert requests(registry) == {("GET", "/maintenance", "503"): 2}
    assert len(seen) == 2


def test_fault_84_names_stay_within_the_cap(site: Site, registry: CollectorRegistry) -> None:
    """Whatever the application makes of them; one that cannot be encoded does not fail the scrape."""
    numbers = iter(range(100))
    views.hooks["view"] = lambda request: set_route(request, f"/\udc80{next(numbers)}")
    with override_settings(PROM_MAX_LABEL_SETS=3):
        for _ in range(10):
            site("/foo/")
        assert site("/metrics") == "200"
    routes = samples(registry, "http_requests_total", "route")
    assert len(routes) == 4
    assert routes["_overflow",] == 7


@configured(PROM_EXCLUDE=["/<hidden>"])
def test_fault_84_a_named_route_can_be_excluded(site: Site, registry: CollectorRegistry) -> None:
    views.hooks["view"] = lambda request: set_route(request, "/<hidden>")
    assert site("/foo/") == "200"
    assert requests(registry) == {}


def test_fault_84_below_a_wsgi_middleware(registry: CollectorRegistry) -> None:
    """Which counts alone; and without any measurement nothing happens."""
    views.hooks["view"] = lambda request: set_route(request, "/<kind>")
    app = WSGIMiddleware(get_wsgi_application(), registry=registry)
    Server().run(app, site_environ("/users/1/"))
    with override_settings(PROM_INSTALL_MIDDLEWARE=False):
        app = WSGIMiddleware(get_wsgi_application(), registry=registry)
        Server().run(app, site_environ("/users/1/"))
        assert Site()("/users/1/") == "200"
    assert requests(registry) == {("GET", "/<kind>", "200"): 2}


def printed(module: str, folder: Path) -> list[str]:
    """Return the samples of requests that a program of the tests printed, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-B", "-m", f"tests.django_prom.{module}", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return sorted(line for line in done.stdout.splitlines() if line.startswith("counted "))


@pytest.mark.skipif(find_spec("whitenoise") is None, reason="WhiteNoise is not installed")
def test_fault_84_files_of_whitenoise_are_one_route(tmp_path: Path) -> None:
    """Only what it served; scanners and its root's files are told apart."""
    assert printed("whitenoise_site", tmp_path) == [
        "counted GET /* 200 2.0",
        "counted GET /hello/ 200 2.0",
        "counted GET /static/* 200 4.0",
        "counted GET /static/* 304 2.0",
        "counted GET _unmatched 404 4.0",
        "counted HEAD /static/* 200 2.0",
        "counted POST /static/* 405 2.0",
    ]


@pytest.mark.skipif(find_spec("wagtail") is None, reason="Wagtail is not installed")
def test_fault_84_pages_of_wagtail_are_routes_by_type(tmp_path: Path) -> None:
    """A page that is missing keeps the pattern's; a preview is the editor's request alone (80)."""
    assert printed("wagtail_site", tmp_path) == [
        "counted GET /<var> 404 2.0",
        "counted GET /<wagtail_site_pages.BlogPage> 200 2.0",
        "counted GET /<wagtail_site_pages.HomePage> 200 1.0",
        "counted GET /preview/ 200 1.0",
    ]
