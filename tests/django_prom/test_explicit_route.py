"""Routes that the application sets itself, and those of Wagtail and WhiteNoise."""

from __future__ import annotations

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
from tests import interpreters
from tests.web_prom.support import ROOT, Server, errors, exceptions, requests, samples
from web_prom.wsgi import PrometheusMiddleware as WSGIMiddleware

from . import views
from .asgi_site import ASGISite
from .conftest import Site, configured, site_environ

pytestmark = pytest.mark.slow


HERE = "tests.django_prom.middleware"


@pytest.mark.parametrize("kind", [Site, ASGISite])
@pytest.mark.parametrize(("path", "status"), [("/users/1/", "200"), ("/fail/", "500")])
def test_fault_84_set_route_sets_the_route_of_a_view(
    kind: Callable[[], Any], path: str, status: str, registry: CollectorRegistry
) -> None:
    """The last call counts, also if the view raises afterwards."""

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
def test_fault_84_set_route_sets_the_route_in_a_middleware(site: Site, registry: CollectorRegistry) -> None:
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


def test_fault_84_set_route_respects_the_label_cap(site: Site, registry: CollectorRegistry) -> None:
    """A route that cannot be encoded does not fail the scrape."""
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
def test_fault_84_explicit_route_can_be_excluded(site: Site, registry: CollectorRegistry) -> None:
    views.hooks["view"] = lambda request: set_route(request, "/<hidden>")
    assert site("/foo/") == "200"
    assert requests(registry) == {}


def test_fault_84_set_route_works_below_a_wsgi_middleware(registry: CollectorRegistry) -> None:
    """The WSGI middleware alone counts. If nothing is measured, nothing happens."""
    views.hooks["view"] = lambda request: set_route(request, "/<kind>")
    app = WSGIMiddleware(get_wsgi_application(), registry=registry)
    Server().run(app, site_environ("/users/1/"))
    with override_settings(PROM_INSTALL_MIDDLEWARE=False):
        app = WSGIMiddleware(get_wsgi_application(), registry=registry)
        Server().run(app, site_environ("/users/1/"))
        assert Site()("/users/1/") == "200"
    assert requests(registry) == {("GET", "/<kind>", "200"): 2}


def printed_samples(module: str, folder: Path) -> list[str]:
    """Run a module of the tests in a process of its own, and return the samples that it printed."""
    done = interpreters.run(
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
def test_fault_84_files_of_whitenoise_share_one_route(tmp_path: Path) -> None:
    """Paths without a file are unmatched, and files of the root have another route."""
    assert printed_samples("whitenoise_site", tmp_path) == [
        "counted GET /* 200 2.0",
        "counted GET /hello/ 200 2.0",
        "counted GET /static/* 200 4.0",
        "counted GET /static/* 304 2.0",
        "counted GET _unmatched 404 4.0",
        "counted HEAD /static/* 200 2.0",
        "counted POST /static/* 405 2.0",
    ]


@pytest.mark.skipif(find_spec("wagtail") is None, reason="Wagtail is not installed")
def test_fault_84_route_of_a_wagtail_page_is_its_type(tmp_path: Path) -> None:
    """A missing page has the route of the URL pattern. A preview is no further request (80)."""
    assert printed_samples("wagtail_site", tmp_path) == [
        "counted GET /<var> 404 2.0",
        "counted GET /<wagtail_site_pages.BlogPage> 200 2.0",
        "counted GET /<wagtail_site_pages.HomePage> 200 1.0",
        "counted GET /preview/ 200 1.0",
    ]
