"""Scrapes at every path where the URLs of a project include ``django_prom.urls``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.core import checks
from django.test import override_settings
from django.urls import include, path, re_path
from prometheus_client import CollectorRegistry

from django_prom.mounts import find_mounts
from tests.web_prom.support import in_progress, requests

from . import views
from .asgi_site import ASGISite
from .conftest import Site, configured

Mount = Callable[..., str]


OURS = "django_prom.urls"


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Return a function that creates a module of URLs with given patterns and returns its name."""
    names: list[str] = []

    def make(*patterns: Any) -> str:
        name = f"tests_django_prom_mounted_{len(names)}"
        module = sys.modules[name] = ModuleType(name)
        module.urlpatterns = [path("", views.hello), *patterns]  # type: ignore[attr-defined]
        names.append(name)
        return name

    yield make
    for name in names:
        del sys.modules[name]


def plugin(*patterns: Any) -> Any:
    """Return URLs in a namespace, like those of a NetBox plugin."""
    return include((list(patterns) or [path("", include(OURS))], "plugin"), namespace="plugin")


PLACES: dict[str, tuple[Callable[[], list[Any]], list[str]]] = {
    "prefix": (lambda: [path("internal/", include(OURS))], ["/internal/metrics"]),
    "namespace": (lambda: [path("", plugin())], ["/metrics"]),
    "nested": (
        lambda: [path("api/", include([path("plugins/", plugin(path("prom/", include(OURS))))]))],
        ["/api/plugins/prom/metrics"],
    ),
    "instance namespace": (lambda: [path("x/", include(OURS, namespace="other"))], ["/x/metrics"]),
    "several": (
        lambda: [path("a/", include(OURS)), path("b/", include(OURS, namespace="b")), path("c/", plugin())],
        ["/a/metrics", "/b/metrics", "/c/metrics"],
    ),
    "regular expression": (lambda: [re_path(r"^in\.ternal/", include(OURS))], ["/in.ternal/metrics"]),
    "regular expression without a prefix": (lambda: [re_path("", include(OURS))], ["/metrics"]),
    "variable": (lambda: [path("<slug:tenant>/", plugin())], ["/a/metrics", "/b-c/metrics"]),
    "variable expression": (
        lambda: [re_path(r"^v(?P<v>\d)/", include(OURS))],
        ["/v1/metrics", "/v2/metrics"],
    ),
    "language": (lambda: i18n_patterns(path("x/", plugin())), ["/en/x/metrics"]),
    "language without a prefix": (
        lambda: i18n_patterns(path("x/", plugin()), prefix_default_language=False),
        ["/x/metrics"],
    ),
    "the list itself": (
        lambda: [path("list/", include((__import__(OURS, fromlist=["x"]).urlpatterns, "plugin")))],
        ["/list/metrics"],
    ),
}


@pytest.mark.parametrize(("patterns", "paths"), PLACES.values(), ids=PLACES)
def test_fault_81_scrape_is_answered_first_at_every_mount(
    patterns: Any, paths: list[str], mount: Mount, registry: CollectorRegistry
) -> None:
    """Before the host check and the login. It is neither counted nor in progress, and W002 is silent."""
    with override_settings(
        ROOT_URLCONF=mount(*patterns()), MIDDLEWARE=["tests.django_prom.middleware.login"]
    ):
        for each in paths:
            wsgi, asgi = Site(), ASGISite()
            assert wsgi(each, HTTP_HOST="10.1.2.3") == "200"
            assert asgi(each, headers={"host": "10.1.2.3"}) == "200"
            for text in (wsgi.text, asgi.text):
                assert "http_requests_in_progress 0.0" in text.splitlines()
        assert Site()("/an/other/metrics") == "302"
        assert checks.run_checks(tags=["django_prom"]) == []
    assert requests(registry) == {("GET", "_unmatched", "302"): 1}
    assert in_progress(registry) == 0


@pytest.mark.parametrize("place", ["prefix", "variable", "language"])
def test_fault_54_scrape_path_allows_a_trailing_slash(
    place: str, mount: Mount, registry: CollectorRegistry
) -> None:
    """The ServiceMonitor of a mounted application has the slash."""
    patterns, paths = PLACES[place]
    with override_settings(ROOT_URLCONF=mount(*patterns())):
        for each in paths:
            for site in (Site(), ASGISite()):
                assert site(f"{each}/") == "200"
                assert "http_requests_in_progress 0.0" in site.text.splitlines()
                assert site(f"{each}//") == "404"
    assert requests(registry).keys() == {("GET", "_unmatched", "404")}


def test_fault_81_view_takes_precedence_over_a_variable_prefix(
    mount: Mount, site: Site, registry: CollectorRegistry
) -> None:
    """Django resolves the URL in this way."""
    urls = mount(path("shop/metrics", views.hello), path("<slug:tenant>/", include(OURS)))
    with override_settings(ROOT_URLCONF=urls):
        assert site("/shop/metrics") == "200"
        assert site.text == "hello"
        assert site("/other/metrics") == "200"
        assert site.text.startswith("# HELP")
    assert requests(registry) == {("GET", "/shop/metrics", "200"): 1}


def test_fault_81_catch_all_url_does_not_hide_the_metrics(mount: Mount, site: Site) -> None:
    """The URLs of Wagtail match every path."""
    with override_settings(ROOT_URLCONF=mount(re_path(r"^(.*)$", views.hello), path("x/", include(OURS)))):
        assert site("/x/metrics") == "200"
        assert site.text.startswith("# HELP")


@pytest.mark.parametrize("install", [True, False])
def test_fault_81_scrape_answered_by_the_view_is_not_in_progress(
    install: bool, mount: Mount, site: Site, registry: CollectorRegistry
) -> None:
    """For example in another language than the default one."""
    with override_settings(
        ROOT_URLCONF=mount(*i18n_patterns(path("", include(OURS)))),
        MIDDLEWARE=["django.middleware.locale.LocaleMiddleware"],
        PROM_INSTALL_MIDDLEWARE=install,
    ):
        assert site("/de/metrics") == "200"
    assert site.text.startswith("# HELP")
    assert not any(
        line.startswith("http_requests_in_progress") and not line.endswith(" 0.0")
        for line in site.text.splitlines()
    )
    assert requests(registry) == {}
    assert in_progress(registry) in (0, None)


def test_fault_81_recursive_urls_are_searched_once(mount: Mount, site: Site) -> None:
    name = mount()
    sys.modules[name].urlpatterns += [  # type: ignore[attr-defined]
        path("again/", include(name)),
        path("x/", include(OURS)),
    ]
    with override_settings(ROOT_URLCONF=name):
        assert site("/x/metrics") == "200"
        assert site("/nowhere/metrics") == "404"


@configured(PROM_PATH="/internal/prom")
def test_fault_81_prom_path_is_below_the_mount(mount: Mount, site: Site) -> None:
    with override_settings(ROOT_URLCONF=mount(path("deep/", plugin()))):
        assert site("/deep/internal/prom") == "200"
        assert site("/internal/prom") == "404"


def test_fault_81_urls_are_searched_once(mount: Mount, site: Site) -> None:
    """Only a path with the end of the scrape path starts the search."""
    with override_settings(ROOT_URLCONF=mount(path("x/", include(OURS)))):
        find_mounts.cache_clear()
        for _ in range(3):
            site("/")
        assert find_mounts.cache_info().misses == 0
        for each in ("/x/metrics", "/y/metrics", "/z/metrics"):
            site(each)
        assert find_mounts.cache_info().misses == 1


def test_w001_names_the_paths(mount: Mount) -> None:
    """It is silent if nothing is mounted."""
    with override_settings(ROOT_URLCONF=mount(path("a/", include(OURS)), path("b/", plugin()))):
        (message,) = checks.run_checks(tags=["django_prom"], include_deployment_checks=True)
        assert "/a/metrics, /b/metrics" in message.msg
    with override_settings(ROOT_URLCONF=mount()):
        found = checks.run_checks(tags=["django_prom"], include_deployment_checks=True)
        assert "django_prom.W001" not in {message.id for message in found}
