"""Disconnected clients and cancelled requests under ASGI."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from django.test import override_settings
from prometheus_client import CollectorRegistry

from tests.web_prom.support import Clock, exceptions, in_progress, requests, seconds

from . import views
from .asgi_site import ASGISite, hears_disconnects

HERE = "tests.django_prom.middleware"


@pytest.fixture
def site() -> ASGISite:
    """Return the project behind a new ASGI server."""
    return ASGISite()


@hears_disconnects
def test_fault_02_disconnect_before_the_response_is_499(
    site: ASGISite, registry: CollectorRegistry, clock: Clock
) -> None:
    """The server cancels the request. That is not an exception of the view."""

    async def run() -> None:
        disconnect = asyncio.Event()

        async def wait(request: Any = None) -> None:
            clock.go(2)
            disconnect.set()
            await asyncio.Event().wait()

        views.hooks["view"] = wait
        await site.serve("/async/", disconnect=disconnect)

    asyncio.run(run())
    assert site.status is None
    assert requests(registry) == {("GET", "/async/", "499"): 1}
    assert exceptions(registry) == {}
    assert seconds(registry) == pytest.approx(2)
    assert in_progress(registry) == 0


@hears_disconnects
def test_disconnect_with_sync_middleware_is_499(site: ASGISite, registry: CollectorRegistry) -> None:
    """The cancellation passes through the thread of the middleware."""

    async def run() -> None:
        disconnect = asyncio.Event()

        async def wait(request: Any = None) -> None:
            loop.call_soon_threadsafe(disconnect.set)
            await asyncio.Event().wait()

        loop = asyncio.get_running_loop()
        views.hooks["view"] = wait
        await site.serve("/async/", disconnect=disconnect)

    with override_settings(MIDDLEWARE=[f"{HERE}.plain"]):
        asyncio.run(run())
    assert site.status is None
    assert requests(registry) == {("GET", "/async/", "499"): 1}
    assert in_progress(registry) == 0


@hears_disconnects
def test_fault_02_disconnect_during_a_stream_keeps_the_sent_status(
    site: ASGISite, registry: CollectorRegistry, clock: Clock
) -> None:
    """The client has the status."""

    async def run() -> None:
        disconnect = asyncio.Event()

        async def wait() -> None:
            clock.go(2)
            disconnect.set()
            await asyncio.Event().wait()

        views.hooks["between"] = wait
        await site.serve("/async-stream/", disconnect=disconnect)

    asyncio.run(run())
    assert requests(registry) == {("GET", "/async-stream/", "200"): 1}
    assert exceptions(registry) == {}
    assert seconds(registry) == pytest.approx(2)
    assert in_progress(registry) == 0


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Task.cancelling() is new in Python 3.11")
def test_cancellation_by_the_application_is_an_error(site: ASGISite, registry: CollectorRegistry) -> None:
    """The client is connected: the view awaited a task that the application had cancelled."""

    async def wait_for_cancelled(request: Any) -> None:
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task

    views.hooks["view"] = wait_for_cancelled
    with pytest.raises(asyncio.CancelledError):
        site("/async/")
    assert requests(registry) == {("GET", "/async/", "500"): 1}
    assert exceptions(registry) == {("/async/", "CancelledError"): 1}
