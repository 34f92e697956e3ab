"""Streaming responses and body sizes under ASGI."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from django_prom.middleware import PrometheusMiddleware
from tests.web_prom.support import Clock, exceptions, in_progress, requests, samples, seconds

from . import views
from .asgi_site import ASGISite
from .conftest import configured


@pytest.fixture
def site() -> ASGISite:
    """Return the project behind a new ASGI server."""
    return ASGISite()


def _warning_of_sync_body(path: str) -> Any:
    if path == "/async-stream/":
        return contextlib.nullcontext()
    return pytest.warns(Warning, match="must consume synchronous iterators")


def _request() -> Any:
    from django.test import AsyncRequestFactory

    return AsyncRequestFactory().get("/async-stream/")


def test_fault_01_duration_includes_the_whole_async_stream(
    site: ASGISite, registry: CollectorRegistry, clock: Clock
) -> None:
    views.hooks["between"] = lambda: clock.go(0.3)
    assert site("/async-stream/") == "200"
    assert site.text == "one,two"
    assert seconds(registry) == pytest.approx(0.3)
    assert requests(registry) == {("GET", "/async-stream/", "200"): 1}
    assert in_progress(registry) == 0


def test_fault_01_duration_includes_the_sending_of_a_sync_stream(
    site: ASGISite, registry: CollectorRegistry, clock: Clock
) -> None:
    """Django reads it completely before it sends it, so the request ends after the iteration."""

    async def slowly(message: dict[str, Any]) -> None:
        clock.go(1)

    with pytest.warns(Warning, match="must consume synchronous iterators"):
        asyncio.run(site.serve("/stream/", send=slowly))
    assert site.text == "one,zwölf"
    assert seconds(registry) == pytest.approx(len(site.sent) + 1)
    assert requests(registry) == {("GET", "/stream/", "200"): 1}


def test_fault_02_exception_during_a_stream_finishes_the_request(
    site: ASGISite, registry: CollectorRegistry, clock: Clock
) -> None:
    """Django neither calls close() nor sends request_finished."""

    def fail() -> None:
        clock.go(0.1)
        raise KeyError

    views.hooks["between"] = fail
    with pytest.raises(KeyError):
        site("/async-stream/")
    assert requests(registry) == {("GET", "/async-stream/", "200"): 1}
    assert exceptions(registry) == {("/async-stream/", "KeyError"): 1}
    assert seconds(registry) == pytest.approx(0.1)
    assert in_progress(registry) == 0


@pytest.mark.parametrize("path", ["/async-stream/", "/stream/", "/broken-file/"])
def test_fault_02_exception_at_the_start_of_a_stream_keeps_the_sent_status(
    path: str, site: ASGISite, registry: CollectorRegistry
) -> None:
    """An ASGI server gets the status before it reads the body."""

    def fail() -> None:
        raise OSError

    views.hooks["start"] = fail
    with _warning_of_sync_body(path), pytest.raises(OSError):  # noqa: PT011
        site(path)
    assert site.status == "200"
    assert requests(registry) == {("GET", path, "200"): 1}
    assert exceptions(registry) == {(path, "OSError"): 1}
    assert in_progress(registry) == 0


@pytest.mark.parametrize("path", ["/users/1/", "/async-stream/"])
def test_unsent_response_is_finished_later(
    path: str, site: ASGISite, registry: CollectorRegistry, clock: Clock
) -> None:
    """Django does not close it. The recording is finished when it is freed."""

    async def broken(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            clock.go(1)
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError) as raised:
        asyncio.run(site.serve(path, send=broken))
    del raised
    gc.collect()  # Django's exception and its exception group refer to each other
    site("/metrics")
    assert [labels[2] for labels in requests(registry)] == ["200"]
    assert in_progress(registry) == 0
    assert seconds(registry) == pytest.approx(1)


def test_async_stream_stays_a_generator(site: ASGISite) -> None:
    """Another middleware can still use the attributes of the response."""
    from django.http import StreamingHttpResponse

    async def view(request: Any) -> Any:
        return await views.async_stream(request)

    response = asyncio.run(PrometheusMiddleware(view)(_request()))
    assert isinstance(response, StreamingHttpResponse)
    assert response.is_async
    assert inspect.isasyncgen(response.streaming_content)
    response.close()


@configured(PROM_REQUEST_SIZE=True, PROM_RESPONSE_SIZE=True, PROM_FIRST_BYTE=True)
def test_sizes_and_first_byte_are_measured(site: ASGISite, registry: CollectorRegistry, clock: Clock) -> None:
    """Django reads the whole request body first. Only bytes of the body count, not those of messages."""
    views.hooks["start"] = lambda: clock.go(0.1)
    views.hooks["between"] = lambda: clock.go(0.1)
    site("/async-stream/", "POST", body=b"x" * 3000)
    site("/read/", "POST", body=b"x" * 3000)
    assert samples(registry, "http_request_size_bytes_sum", "route") == {
        ("/async-stream/",): 3000,
        ("/read/",): 3000,
    }
    assert samples(registry, "http_response_size_bytes_sum", "route") == {
        ("/async-stream/",): 7,
        ("/read/",): 10,
    }
    assert samples(registry, "http_response_first_byte_seconds_sum", "route")[
        ("/async-stream/",)
    ] == pytest.approx(0.1)
