"""The route label is the template of what matched, for every way to write one."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from django_prom import routes
from django_prom.patterns import VARIABLE, regex_template, template_of_text
from tests.web_prom.support import errors, exceptions, requests

from . import views
from .conftest import Site, configured

HERE = "tests.django_prom.middleware"
OURS = "django_prom.middleware.PrometheusMiddleware"
LOCALE = "django.middleware.locale.LocaleMiddleware"
COMMON = "django.middleware.common.CommonMiddleware"


def of(registry: CollectorRegistry) -> set[str]:
    """Return the routes that were counted."""
    return {route for _, route, _ in requests(registry)}


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "/"),
        ("/users/1/", "/users/<int:pk>/"),
        ("/pages/a-b/", "/pages/<slug:slug>/"),
        ("/shop/1/items/2/", "/shop/<int:shop>/items/<int:pk>/"),
        ("/outlet/1/items/2/", "/outlet/<int:shop>/items/<int:pk>/"),
        ("/shop/1/lists/a-b/", "/shop/<int:shop>/lists/<slug>/"),
        ("/old/1999/12/", f"/old/<year>/{VARIABLE}/"),
        ("/old/1999/12", f"/old/<year>/{VARIABLE}/"),
    ],
)
def test_path_re_path_include_and_namespaces(
    path: str, route: str, site: Site, registry: CollectorRegistry
) -> None:
    """With the slash that Django leaves out."""
    assert site(path) == "200"
    assert of(registry) == {route}


@pytest.mark.parametrize(
    ("path", "method", "status", "route"),
    [
        ("/api/", "GET", "200", "/api/"),
        ("/api/users/", "GET", "200", "/api/users/"),
        ("/api/users/", "POST", "201", "/api/users/"),
        ("/api/users/7/", "GET", "200", "/api/users/<pk>/"),
        ("/api/users.json", "GET", "200", "/api/users.<format>/"),
        ("/api/users/7.json", "GET", "200", "/api/users/<pk>.<format>/"),
        ("/api/users/7/orders/", "GET", "200", "/api/users/<pk>/orders/"),
        ("/api/users/7/", "DELETE", "405", "/api/users/<pk>/"),
        ("/api/version/", "GET", "200", "/api/version/"),
    ],
)
def test_rest_framework(path: str, method: str, status: str, route: str, registry: CollectorRegistry) -> None:
    """Routers write regular expressions."""
    assert Site()(path, method) == status
    assert requests(registry) == {(method, route, status): 1}


def test_rest_framework_exceptions(site: Site, registry: CollectorRegistry) -> None:
    """What the framework answers did not leave the view; what it does not, did."""
    assert site("/api/users/refused/") == site("/api/users/broken/") == "500"
    assert exceptions(registry) == {("/api/users/broken/", "RuntimeError"): 1}


def test_rest_framework_views_can_be_excluded(site: Site, registry: CollectorRegistry) -> None:
    """The mark is on the class that the view was made from."""
    assert site("/api/internals/") == "200"
    assert requests(registry) == {}


@configured(ROOT_URLCONF="tests.django_prom.urls_i18n", MIDDLEWARE=[LOCALE, COMMON])
def test_languages_do_not_multiply_series(site: Site, registry: CollectorRegistry) -> None:
    """Neither their prefix nor translated routes."""
    paths = ["/en/", "/de/", "/pt-br/pages/a/", "/en/pages/b/", "/en/users/1/", "/de/benutzer/1/"]
    for path in [*paths, "/en/years/1999/", "/de/jahre/1999/", "/plain/"]:
        assert site(path) == "200", path
    assert of(registry) == {
        "/<language>/",
        "/<language>/pages/<slug:slug>/",
        "/<language>/users/<int:pk>/",
        "/<language>/years/<year>/",
        "/plain/",
    }


@configured(ROOT_URLCONF="tests.django_prom.urls_i18n", MIDDLEWARE=[LOCALE, COMMON])
def test_a_redirect_to_a_language_has_the_route_of_its_page(site: Site, registry: CollectorRegistry) -> None:
    """It is the same page, as with a slash that was missing; other unknown URLs stay unknown."""
    assert site("/pages/a/", HTTP_ACCEPT_LANGUAGE="de") == "302"
    assert site("/benutzer/1", HTTP_ACCEPT_LANGUAGE="de") == "302"
    assert site("/no/such/") == "404"
    assert requests(registry) == {
        ("GET", "/<language>/pages/<slug:slug>/", "302"): 1,
        ("GET", "/<language>/users/<int:pk>/", "302"): 1,
        ("GET", "_unmatched", "404"): 1,
    }


@configured(ROOT_URLCONF="tests.django_prom.urls_i18n_bare", MIDDLEWARE=[LOCALE])
def test_the_default_language_without_a_prefix(site: Site, registry: CollectorRegistry) -> None:
    """It reads as it is; the others share one."""
    for path in ("/pages/a/", "/de/pages/a/", "/pt-br/pages/a/", "/old/1999/", "/de/old/1999/"):
        assert site(path) == "200"
    assert of(registry) == {
        "/pages/<slug:slug>/",
        "/<language>/pages/<slug:slug>/",
        "/old/<year>/",
        "/<language>/old/<year>/",
    }


@configured(MIDDLEWARE=[f"{HERE}.login"])
def test_fault_04_a_redirect_elsewhere_has_the_route_that_was_asked_for(
    site: Site, registry: CollectorRegistry
) -> None:
    """Not that of the login page, wherever it is."""
    for path in ("/users/1/", "/no/such/"):
        assert site(path) == "302"
    assert requests(registry) == {
        ("GET", "/users/<int:pk>/", "302"): 1,
        ("GET", "_unmatched", "302"): 1,
    }


@configured(MIDDLEWARE=[f"{HERE}.hosts"])
def test_hosts_with_urls_of_their_own(site: Site, registry: CollectorRegistry) -> None:
    """The same route may be another view there, and that one excluded."""
    for _ in range(2):
        site("/")
        site("/", HTTP_HOST="example.org")
        site("/foo/", HTTP_HOST="example.org")
    assert requests(registry) == {("GET", "/", "200"): 2, ("GET", "/foo/", "200"): 2}


@configured(MIDDLEWARE=[f"{HERE}.hosts", OURS, f"{HERE}.maintenance"])
def test_hosts_above_the_middleware(site: Site, registry: CollectorRegistry) -> None:
    """Their URLs count for what is answered early, and for the scrape."""
    assert site("/only-here/") == site("/only-here/", HTTP_HOST="example.org") == "503"
    assert requests(registry) == {("GET", "_unmatched", "503"): 1, ("GET", "/only-here/", "503"): 1}
    assert site("/internal/metrics") == "503"
    assert site("/internal/metrics", HTTP_HOST="example.org") == "200"


@configured(MIDDLEWARE=[])
def test_a_404_is_not_resolved_again(
    site: Site, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever tries URLs costs no more than Django itself does."""
    from django.urls import URLResolver

    paths: list[str] = []
    resolve = URLResolver.resolve

    def note(self: Any, path: str) -> Any:
        paths.append(path)
        return resolve(self, path)

    monkeypatch.setattr(URLResolver, "resolve", note)
    assert site("/no/such/") == "404"
    assert paths.count("/no/such/") == 1


def test_what_is_remembered_is_bounded(
    site: Site, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver that makes its patterns anew for each request must not fill the memory."""
    monkeypatch.setattr(routes, "_MAX_CACHED_ROUTES", 2)
    for path in ("/", "/foo/", "/foobar/", "/users/1/"):
        site(path)
    assert len(routes.route_cache) == 2
    assert of(registry) == {"/", "/foo/", "/foobar/", "/users/<int:pk>/"}


def test_a_match_that_does_not_tell_its_patterns(registry: CollectorRegistry) -> None:
    """Made by hand, or by a resolver of another kind: the text alone has to do."""
    from django.test import RequestFactory
    from django.urls import ResolverMatch

    from django_prom.middleware import PrometheusMiddleware

    def view(request: Any) -> Any:
        return views.hello(request)

    for route in ("users/<int:pk>/", r"^old/(?P<year>\d+)/$", r"^v1\.0/$"):
        request = RequestFactory().get("/whatever/")
        request.resolver_match = ResolverMatch(view, (), {}, route=route)
        PrometheusMiddleware(view)(request).close()
    assert of(registry) == {"/users/<int:pk>/", "/old/<year>/", "/v1.0/"}
    assert errors(registry) == {}


@pytest.mark.parametrize(
    ("regex", "template"),
    [
        (r"^users/(?P<pk>[^/.]+)/$", "users/<pk>/"),
        (r"^users\.(?P<format>[a-z0-9]+)/?$", "users.<format>/"),
        (r"^(?P<a>(x|y(z)))/b/(\w+)\Z", "<a>/b/<var>"),
        (r"^api/(?:v1|v2)/x$", "api/(v1|v2)/x"),
        (r"^(?:page-(?P<page>\d+)/)?$", "page-<page>/"),
        (r"^\d+/\w{2,3}-[a-z]*?/", "<var>/<var>-<var>/"),
        (r"^a[.]b[^/]c[\]]d", "a.b<var>c]d"),
        (r"^a[]b]c[^]]d[\\]e", "a<var>c<var>d\\e"),
        (r"^robots.txt$", "robots.txt"),
        (r"^files/.*$", "files/<var>"),
        (r"^x/(?!admin)(?=b)(?<!c)b(?#note)/", "x/b/"),
        (r"(?i)^x/(?i:y)/", "x/y/"),
        (r"^(\w)+\b/(?P<a>.)(?P=a)/", "<var>/<a><a>/"),
        (r"^a{2}/b{x}", "a/b{x}"),
        (r"^\/x\-y/", "/x-y/"),
        (r"", ""),
    ],
)
def test_regular_expressions_are_made_regex_template(regex: str, template: str) -> None:
    """One template for each, without escapes or anchors."""
    re.compile(regex)
    assert regex_template(regex) == template


@examples(deadline=None)
@given(st.text(alphabet=r"ab/()[]{}?*+|\.^$<>P:=!#-,0d"))
def test_whatever_is_written_gets_a_template(regex: str) -> None:
    """Also what is no regular expression; none takes long, and none fails."""
    assert template_of_text(regex).startswith("/")
    assert isinstance(regex_template(regex), str)
