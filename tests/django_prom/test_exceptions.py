"""Exceptions of requests: of views, templates, middleware and Django itself."""

from __future__ import annotations

import pytest
from django.test import Client
from prometheus_client import CollectorRegistry

from tests.web_prom.support import (
    exceptions,
    in_progress,
    requests,
    samples,
)

from .conftest import Site, configured

HERE = "tests.django_prom.middleware"


def timed(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """Return the number of observed durations by route."""
    return samples(registry, "http_request_duration_seconds_count", "route")


def test_fault_03_exception_of_a_view_is_counted_once(site: Site, registry: CollectorRegistry) -> None:
    """In each family."""
    assert site("/fail/") == "500"
    assert requests(registry) == {("GET", "/fail/", "500"): 1}
    assert timed(registry) == {("/fail/",): 1}
    assert exceptions(registry) == {("/fail/", "ValueError"): 1}
    assert in_progress(registry) == 0


def test_fault_03_exception_with_the_test_client_is_counted_once(
    client: Client, registry: CollectorRegistry
) -> None:
    """The test client raises the exception after the response."""
    with pytest.raises(ValueError, match="the view failed"):
        client.get("/fail/")
    assert requests(registry) == {("GET", "/fail/", "500"): 1}
    assert exceptions(registry) == {("/fail/", "ValueError"): 1}


@configured(MIDDLEWARE=[f"{HERE}.BadGateway"])
def test_fault_06_exception_that_a_middleware_answers_is_counted(
    site: Site, registry: CollectorRegistry
) -> None:
    """Django calls the last process_exception first and then sends no signal."""
    assert site("/fail/") == site("/rendered/") == "502"
    assert requests(registry) == {("GET", "/fail/", "502"): 1, ("GET", "/rendered/", "502"): 1}
    assert exceptions(registry) == {("/fail/", "ValueError"): 1, ("/rendered/", "LookupError"): 1}


@configured(MIDDLEWARE=[f"{HERE}.Apology"])
def test_exception_answered_with_200_is_not_counted(site: Site, registry: CollectorRegistry) -> None:
    assert site("/fail/") == "200"
    assert exceptions(registry) == {}


@pytest.mark.parametrize(
    ("path", "status"), [("/missing/", "404"), ("/forbidden/", "403"), ("/suspicious/", "400")]
)
def test_fault_09_http404_is_not_counted_as_an_exception(
    path: str, status: str, site: Site, registry: CollectorRegistry
) -> None:
    """The same applies to Django's exceptions for other client errors."""
    assert site(path) == status
    assert requests(registry) == {("GET", path, status): 1}
    assert exceptions(registry) == {}


def test_exception_outside_of_the_view_is_counted(site: Site, registry: CollectorRegistry) -> None:
    """In a template that is rendered later, and Django's own for a view that returns None."""
    assert site("/rendered/") == site("/nothing/") == "500"
    assert exceptions(registry) == {("/rendered/", "LookupError"): 1, ("/nothing/", "ValueError"): 1}


@configured(MIDDLEWARE=[f"{HERE}.raising"])
def test_exception_of_a_middleware_is_counted_once(site: Site, registry: CollectorRegistry) -> None:
    """With the status of Django's answer."""
    assert site("/") == "500"
    assert requests(registry) == {("GET", "/", "500"): 1}
    assert exceptions(registry) == {("/", "TypeError"): 1}


@configured(DEBUG_PROPAGATE_EXCEPTIONS=True)
def test_propagated_exception_is_counted_with_status_500(site: Site, registry: CollectorRegistry) -> None:
    """The server answers 500."""
    with pytest.raises(ValueError, match="the view failed"):
        site("/fail/")
    assert requests(registry) == {("GET", "/fail/", "500"): 1}
    assert exceptions(registry) == {("/fail/", "ValueError"): 1}
    assert in_progress(registry) == 0


def test_base_exception_is_counted_with_status_500(site: Site, registry: CollectorRegistry) -> None:
    """Django does not catch a worker's timeout or Ctrl-C."""
    with pytest.raises(KeyboardInterrupt):
        site("/leave/")
    assert requests(registry) == {("GET", "/leave/", "500"): 1}
    assert exceptions(registry) == {("/leave/", "KeyboardInterrupt"): 1}
    assert in_progress(registry) == 0


@configured(DEBUG=True)
def test_debug_page_is_counted_as_500(site: Site, registry: CollectorRegistry) -> None:
    """The same as without DEBUG."""
    assert site("/fail/") == "500"
    assert requests(registry) == {("GET", "/fail/", "500"): 1}
    assert exceptions(registry) == {("/fail/", "ValueError"): 1}
