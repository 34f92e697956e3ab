"""Route templates of all kinds of URL patterns."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
from django import urls
from django.http import HttpResponse
from django.test import override_settings
from django.utils import translation
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from django_prom import exclude, routes
from django_prom.patterns import VARIABLE, regex_template, template_of_text
from tests.web_prom.support import errors, requests

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
def test_routes_of_all_kinds_of_url_patterns(
    path: str, route: str, site: Site, registry: CollectorRegistry
) -> None:
    """Each route starts with a slash, which Django omits."""
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
def test_routes_of_rest_framework(
    path: str, method: str, status: str, route: str, registry: CollectorRegistry
) -> None:
    """Its routers use regular expressions."""
    assert Site()(path, method) == status
    assert requests(registry) == {(method, route, status): 1}


def test_character_set_of_one_escape_keeps_routes_apart(site: Site, registry: CollectorRegistry) -> None:
    from django.urls import path, re_path

    urls = ModuleType("urls")
    urls.urlpatterns = [  # type: ignore[attr-defined]
        re_path(r"^orders/[\d]/$", views.hello),
        path("orders/d/", views.hello),
    ]
    with override_settings(ROOT_URLCONF=urls):
        assert site("/orders/1/") == site("/orders/d/") == "200"
    assert of(registry) == {f"/orders/{VARIABLE}/", "/orders/d/"}


def test_exclude_applies_to_rest_framework_views(site: Site, registry: CollectorRegistry) -> None:
    """The mark is on the class from which the view was made."""
    assert site("/api/internals/") == "200"
    assert requests(registry) == {}


class Item(View):  # type: ignore[misc]
    """A view with one excluded method."""

    @exclude
    def get(self, request: Any) -> Any:
        return HttpResponse("read")

    def post(self, request: Any) -> Any:
        if "fail" in request.GET:
            raise SystemExit
        return HttpResponse("written")


@method_decorator(exclude, name="dispatch")
class Hidden(Item):
    """An excluded view."""


class Items(ViewSet):  # type: ignore[misc]
    """A view set with one excluded action."""

    @exclude
    def list(self, request: Any) -> Any:
        return Response([])

    def create(self, request: Any) -> Any:
        return Response({})


urlpatterns = [
    urls.path("item/", csrf_exempt(Item.as_view())),
    urls.path("hidden/", csrf_exempt(Hidden.as_view())),
    urls.path("items/", Items.as_view({"get": "list", "post": "create"})),
]


@configured(ROOT_URLCONF=__name__, MIDDLEWARE=[])
def test_excluded_method_of_a_class_excludes_its_http_method(site: Site, registry: CollectorRegistry) -> None:
    for method in ("GET", "HEAD", "POST"):
        for route in ("/item/", "/hidden/", "/items/"):
            assert site(route, method) == "200"
    with pytest.raises(SystemExit):
        site("/item/", "POST", QUERY_STRING="fail")
    assert requests(registry) == {
        ("POST", "/item/", "200"): 1,
        ("POST", "/item/", "500"): 1,
        ("POST", "/items/", "200"): 1,
    }


@configured(ROOT_URLCONF="tests.django_prom.urls_i18n", MIDDLEWARE=[LOCALE, COMMON])
def test_languages_share_one_series(site: Site, registry: CollectorRegistry) -> None:
    """This applies to the prefix and to translated routes."""
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
def test_redirect_to_a_language_has_the_route_of_its_target(site: Site, registry: CollectorRegistry) -> None:
    """Other unknown URLs are unmatched."""
    assert site("/pages/a/", HTTP_ACCEPT_LANGUAGE="de") == "302"
    assert site("/benutzer/1", HTTP_ACCEPT_LANGUAGE="de") == "302"
    assert site("/no/such/") == "404"
    assert requests(registry) == {
        ("GET", "/<language>/pages/<slug:slug>/", "302"): 1,
        ("GET", "/<language>/users/<int:pk>/", "302"): 1,
        ("GET", "_unmatched", "404"): 1,
    }


@configured(ROOT_URLCONF="tests.django_prom.urls_i18n_bare", MIDDLEWARE=[LOCALE])
def test_default_language_without_a_prefix_has_its_own_route(site: Site, registry: CollectorRegistry) -> None:
    """All other languages share one route."""
    for path in (
        "/pages/a/",
        "/de/pages/a/",
        "/pt-br/pages/a/",
        "/old/1999/",
        "/de/old/1999/",
        "/de/benutzer/1/",
    ):
        assert site(path) == "200"
    assert of(registry) == {
        "/pages/<slug:slug>/",
        "/<language>/pages/<slug:slug>/",
        "/old/<year>/",
        "/<language>/old/<year>/",
        "/<language>/users/<int:pk>/",
    }


@configured(ROOT_URLCONF="tests.django_prom.urls_i18n_bare", MIDDLEWARE=[LOCALE])
@pytest.mark.parametrize(
    ("path", "route"), [("/users/1/", "/users/<int:pk>/"), ("/years/1999/", "/years/<year>/")]
)
def test_language_that_a_view_activates_does_not_change_the_route(
    path: str, route: str, site: Site, registry: CollectorRegistry
) -> None:
    """Neither that of this request nor that of later ones."""
    views.hooks["view"] = lambda request: translation.activate("de")
    with translation.override(None):
        assert site(path) == site(path) == "200"
    assert of(registry) == {route}


@configured(MIDDLEWARE=[f"{HERE}.login"])
def test_fault_04_redirect_to_another_page_has_the_requested_route(
    site: Site, registry: CollectorRegistry
) -> None:
    """It is not the route of the login page."""
    for path in ("/users/1/", "/no/such/"):
        assert site(path) == "302"
    assert requests(registry) == {
        ("GET", "/users/<int:pk>/", "302"): 1,
        ("GET", "_unmatched", "302"): 1,
    }


@configured(MIDDLEWARE=[f"{HERE}.hosts"])
def test_hosts_can_have_their_own_urls(site: Site, registry: CollectorRegistry) -> None:
    """The same route can be another view there, and that view can be excluded."""
    for _ in range(2):
        site("/")
        site("/", HTTP_HOST="example.org")
        site("/foo/", HTTP_HOST="example.org")
    assert requests(registry) == {("GET", "/", "200"): 2, ("GET", "/foo/", "200"): 2}


@configured(MIDDLEWARE=[f"{HERE}.hosts", OURS, f"{HERE}.maintenance"])
def test_urlconf_set_by_an_upper_middleware_is_used(site: Site, registry: CollectorRegistry) -> None:
    """For early responses, and for scrapes."""
    assert site("/only-here/") == site("/only-here/", HTTP_HOST="example.org") == "503"
    assert requests(registry) == {("GET", "_unmatched", "503"): 1, ("GET", "/only-here/", "503"): 1}
    assert site("/internal/metrics") == "503"
    assert site("/internal/metrics", HTTP_HOST="example.org") == "200"


@configured(MIDDLEWARE=[])
def test_404_is_not_resolved_again(
    site: Site, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that tries many URLs causes no further work."""
    from django.urls import URLResolver

    paths: list[str] = []
    resolve = URLResolver.resolve

    def note(self: Any, path: str) -> Any:
        paths.append(path)
        return resolve(self, path)

    monkeypatch.setattr(URLResolver, "resolve", note)
    assert site("/no/such/") == "404"
    assert paths.count("/no/such/") == 1


def test_route_cache_is_bounded(
    site: Site, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver that creates new patterns for each request does not fill the memory."""
    monkeypatch.setattr(routes, "_MAX_CACHED_ROUTES", 2)
    for path in ("/", "/foo/", "/foobar/", "/users/1/"):
        site(path)
    assert len(routes.route_cache) == 2
    assert of(registry) == {"/", "/foo/", "/foobar/", "/users/<int:pk>/"}


@dataclass
class ViewWithoutHash:
    """A callable object. Only its fields are compared, so Python gives it no hash."""

    status: int = 200

    def __call__(self, request: Any) -> Any:
        if self.status == 500:
            raise ValueError
        return HttpResponse(status=self.status)


class ViewWithBrokenHash(ViewWithoutHash):
    def __hash__(self) -> int:
        raise AttributeError


@pytest.mark.parametrize("view", [ViewWithoutHash, ViewWithBrokenHash])
@pytest.mark.parametrize("status", [200, 404, 500])
def test_route_and_exclusion_of_a_view_without_a_hash(
    view: Any, status: int, site: Site, registry: CollectorRegistry
) -> None:
    from django.urls import path

    urls = ModuleType("urls")
    urls.urlpatterns = [  # type: ignore[attr-defined]
        path("view/", view(status)),
        path("hidden/", exclude(view(status))),
    ]
    with override_settings(ROOT_URLCONF=urls):
        for where in ("/view/", "/view/", "/hidden/", "/hidden/"):
            assert site(where) == str(status)
    assert requests(registry) == {("GET", "/view/", str(status)): 2}
    assert errors(registry) == {}


@configured(MIDDLEWARE=[f"{HERE}.maintenance"])
def test_early_answer_has_the_route_of_a_view_without_a_hash(site: Site, registry: CollectorRegistry) -> None:
    from django.urls import path

    urls = ModuleType("urls")
    urls.urlpatterns = [path("view/", ViewWithoutHash())]  # type: ignore[attr-defined]
    with override_settings(ROOT_URLCONF=urls):
        assert site("/view/") == "503"
    assert requests(registry) == {("GET", "/view/", "503"): 1}


def test_match_without_patterns_uses_the_text_of_the_route(registry: CollectorRegistry) -> None:
    """It was created by hand or by a custom resolver."""
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
        (r"^[\d]/[\w]+/[\S]?[\b]/", "<var>/<var>/<var>/"),
        (r"^[\.][\^][^\.][\x41][\-\.]", ".^<var>A<var>"),
        (r"^\x41\u00e9\U00000042\n\N{DIGIT ONE}\012/", "AéB<var>/"),
        (r"^(?P<a>x)?(?(a)y|z)/(?(1)b)$", "<a>(y|z)/b"),
        (r"^a(?#note (x|y)+/(?#\))", "a/"),
        (
            "(?x) ^ a[ ]b\\ c / # (the | part\n (?P<x> \\d +) / . * (?-x: d#) (?# note )\n $",
            "a b c/<x>/<var> d#",
        ),
        ("^(?x: a # b\n /) #/", "a/ #/"),
        (r"", ""),
    ],
)
def test_regex_template_has_no_escapes_and_no_anchors(regex: str, template: str) -> None:
    re.compile(regex)
    assert regex_template(regex) == template


@examples(deadline=None)
@given(st.text(alphabet=r"ab/()[]{}?*+|\.^$<>P:=!#-,0d"))
def test_every_text_has_a_template(regex: str) -> None:
    """Also if it is not a regular expression. No text raises an error or takes long."""
    assert template_of_text(regex).startswith("/")
    assert isinstance(regex_template(regex), str)
