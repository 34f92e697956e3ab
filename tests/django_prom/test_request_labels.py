"""Labels of requests: routes, methods, exclusion, constant and extra labels."""

from __future__ import annotations

from typing import Any

import pytest
from django import urls
from prometheus_client import CollectorRegistry

from tests.web_prom.support import (
    errors,
    in_progress,
    requests,
    samples,
)

from .conftest import Site, configured


def broken_label(request: Any, response: Any) -> str:
    raise RuntimeError


def test_fault_10_unknown_urls_share_one_series(site: Site, registry: CollectorRegistry) -> None:
    """Also with invalid bytes in them."""
    for number in range(20):
        assert site(f"/no/such/{number}") == "404"
    assert site("/\xff\xfe\x00") == "404"
    assert requests(registry) == {("GET", "_unmatched", "404"): 21}


def test_fault_10_redirect_that_adds_a_slash_has_the_route_of_its_target(
    site: Site, registry: CollectorRegistry
) -> None:
    assert site("/users/1") == "301"
    assert requests(registry) == {("GET", "/users/<int:pk>/", "301"): 1}


def test_fault_11_unknown_methods_share_one_series(site: Site, registry: CollectorRegistry) -> None:
    """Clients can send any method."""
    for method in ("FOO", "BAR", "GE T", "X" * 5000):
        site("/", method)
    assert requests(registry) == {("_OTHER", "/", "200"): 1 * 4}


def test_fault_12_spoofed_host_adds_no_series(site: Site, registry: CollectorRegistry) -> None:
    """It is answered 400 with the requested route. A label value never contains the text of an object."""
    for number in range(5):
        assert site("/users/1/", HTTP_HOST=f"evil{number}.example") == "400"
    site("/health/partial/")
    site("/pages/a/")
    assert requests(registry) == {
        ("GET", "/users/<int:pk>/", "400"): 5,
        ("GET", "/pages/<slug:slug>/", "200"): 1,
    }


def test_fault_13_405_has_its_route(site: Site, registry: CollectorRegistry) -> None:
    """With a decorated function, and with a class of methods."""
    assert site("/only-get/", "POST") == site("/pages/a/", "POST") == "405"
    assert requests(registry) == {
        ("POST", "/only-get/", "405"): 1,
        ("POST", "/pages/<slug:slug>/", "405"): 1,
    }


@configured(PROM_EXCLUDE=["/foo/*"])
def test_fault_19_excluded_route_does_not_affect_similar_routes(
    site: Site, registry: CollectorRegistry
) -> None:
    """``/foo/*`` excludes everything below ``/foo/``, and not ``/foobar/``."""
    for path in ("/foo/", "/foo/bar/", "/foobar/"):
        assert site(path) == "200"
    assert requests(registry) == {("GET", "/foobar/", "200"): 1}


@pytest.mark.parametrize("path", ["/health/", "/health/class/", "/health/partial/"])
def test_excluded_views_are_not_counted(path: str, site: Site, registry: CollectorRegistry) -> None:
    """Functions, classes and partial objects."""
    assert site(path) == site(path) == "200"
    assert requests(registry) == {}
    assert in_progress(registry) == 0


@configured(
    PROM_CONSTANT_LABELS={"service": "shop"},
    PROM_EXTRA_LABELS={"kind": lambda request, response: response.headers["Content-Type"].split(";")[0]},
)
def test_constant_and_extra_labels_are_added(site: Site, registry: CollectorRegistry) -> None:
    site("/")
    assert samples(registry, "http_requests_total", "route", "service", "kind") == {
        ("/", "shop", "text/html"): 1
    }


@configured(PROM_EXTRA_LABELS={"tenant": broken_label})
def test_fault_34_failing_extra_label_is_empty(
    site: Site, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """The request succeeds. There is one warning, and each error is counted."""
    assert site("/") == site("/") == "200"
    assert samples(registry, "http_requests_total", "route", "tenant") == {("/", ""): 2}
    assert errors(registry) == {("label tenant",): 2}
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def leave(request: Any) -> Any:
    """Raise an exception that Django does not answer."""
    raise SystemExit


urlpatterns = [urls.path("leave/", leave)]


@configured(
    ROOT_URLCONF=__name__,
    PROM_EXTRA_LABELS={"made": lambda request, response: f"{request.resolver_match.route} {response}"},
)
def test_extra_label_of_an_exception_that_leaves_django_is_computed(
    site: Site, registry: CollectorRegistry
) -> None:
    with pytest.raises(SystemExit):
        site("/leave/")
    found = samples(registry, "http_requests_total", "route", "status", "made")
    assert found == {("/leave/", "500", "leave/ None"): 1}
    assert errors(registry) == {}
