"""Sizes of bodies and the time to the first byte."""

from __future__ import annotations

import io
from pathlib import Path
from wsgiref.util import FileWrapper

import pytest
from django.test import override_settings
from prometheus_client import CollectorRegistry

from tests.web_prom.support import (
    Clock,
    errors,
    requests,
    samples,
)

from . import views
from .conftest import Site, configured

HERE = "tests.django_prom.middleware"


OURS = "django_prom.middleware.PrometheusMiddleware"


SIZED = configured(PROM_REQUEST_SIZE=True, PROM_RESPONSE_SIZE=True, PROM_FIRST_BYTE=True)


def sums(registry: CollectorRegistry, name: str) -> dict[tuple[str, ...], float]:
    """Return the sums of a histogram by method and route, if it was observed."""
    counts = samples(registry, f"{name}_count", "method", "route")
    summed = samples(registry, f"{name}_sum", "method", "route")
    return {labels: total for labels, total in summed.items() if counts[labels]}


@pytest.mark.parametrize("length", ["abc", "-1", "", "1e3", "\xb2"])
def test_fault_34_invalid_content_length_is_ignored(
    length: str, site: Site, registry: CollectorRegistry
) -> None:
    """Django decides about the request."""
    with override_settings(PROM_REQUEST_SIZE=True, PROM_RESPONSE_SIZE=True):
        assert site("/read/", "POST", CONTENT_LENGTH=length) == "200"
    assert errors(registry) == {}


@SIZED
def test_response_size_is_the_number_of_encoded_bytes(site: Site, registry: CollectorRegistry) -> None:
    """For a file that the server sends itself, it is the announced length."""
    size = Path(views.__file__).stat().st_size
    site("/")
    site("/", "HEAD")
    site("/status/204/")
    site("/stream/")
    site("/file/")
    assert sums(registry, "http_response_size_bytes") == {
        ("GET", "/"): 5,
        ("HEAD", "/"): 0,
        ("GET", "/status/<int:code>/"): 0,
        ("GET", "/stream/"): len("one,zwölf".encode()),
        ("GET", "/file/"): size,
    }
    site("/file/", **{"wsgi.file_wrapper": FileWrapper})
    assert sums(registry, "http_response_size_bytes")[("GET", "/file/")] == 2 * size


@SIZED
def test_request_size_is_the_number_of_bytes_read(site: Site, registry: CollectorRegistry) -> None:
    """It is not the announced length, because a view can leave most of a body unread."""
    body = {"wsgi.input": io.BytesIO(b"x" * 100), "CONTENT_LENGTH": "100"}
    site("/read/", "POST", **body)
    assert site.text == "x" * 10
    form = {"CONTENT_TYPE": "application/x-www-form-urlencoded", "CONTENT_LENGTH": "7"}
    site("/post/", "POST", **form, **{"wsgi.input": io.BytesIO(b"a=1&b=2")})
    assert site.text == "a,b"
    site("/")
    assert sums(registry, "http_request_size_bytes") == {
        ("POST", "/read/"): 10,
        ("POST", "/post/"): 7,
        ("GET", "/"): 0,
    }


@configured(MIDDLEWARE=[f"{HERE}.reading", OURS, OURS], PROM_REQUEST_SIZE=True, PROM_RESPONSE_SIZE=True)
def test_sizes_include_bytes_that_an_upper_middleware_read(site: Site, registry: CollectorRegistry) -> None:
    """The middleware is listed twice, and the sizes are observed once."""
    site("/stream/", "POST", CONTENT_LENGTH="100", **{"wsgi.input": io.BytesIO(b"x" * 100)})
    assert sums(registry, "http_request_size_bytes") == {("POST", "/stream/"): 100}
    assert sums(registry, "http_response_size_bytes") == {("POST", "/stream/"): 10}


@SIZED
def test_first_byte_of_the_body_is_timed(site: Site, registry: CollectorRegistry, clock: Clock) -> None:
    """An empty body has no first byte."""
    views.hooks["start"] = lambda: clock.go(0.1)
    views.hooks["between"] = lambda: clock.go(0.5)
    site("/stream/")
    views.hooks["view"] = lambda request: clock.go(0.2)
    site("/")
    site("/status/204/")
    site("/", "HEAD")
    site("/empty-chunk/")
    views.hooks["last"] = lambda: b""
    site("/empty-chunk/", "POST")
    assert sums(registry, "http_response_first_byte_seconds") == {
        ("GET", "/stream/"): pytest.approx(0.1),
        ("GET", "/"): pytest.approx(0.2),
        ("GET", "/empty-chunk/"): pytest.approx(0.5),
    }


@SIZED
def test_custom_response_class_has_no_size(site: Site, registry: CollectorRegistry) -> None:
    """Its chunks cannot be counted."""
    assert site("/own-iteration/") == "200"
    assert sums(registry, "http_response_size_bytes") == {}
    assert requests(registry) == {("GET", "/own-iteration/", "200"): 1}
    assert errors(registry) == {}
