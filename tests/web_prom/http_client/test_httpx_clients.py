"""httpx and httpx2: each request that a client gives to a transport is counted once."""

from __future__ import annotations

import asyncio
import sys
import traceback
from typing import Any

import httpx
import httpx2
import pytest
import respx
from prometheus_client import CollectorRegistry

from tests.web_prom.http_client.support import (
    Server,
    answered,
    calls,
    counted,
    free_port,
    seconds,
    total,
)
from web_prom.http_client import instrument, uninstrument

pytestmark = pytest.mark.usefixtures("measured")

both = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])


@both
def test_client_counts_each_request(registry: CollectorRegistry, server: Server, library: Any) -> None:
    with library.Client() as client:
        client.get(f"{server.url}/redirect/2", follow_redirects=True)
        client.get(f"{server.url}/status/404")
        client.get(f"{server.url}/digest", auth=library.DigestAuth("user", "password"))
    library.get(f"{server.url}/ok?secret=1", auth=("user", "password"))
    assert counted(registry) == answered(server)
    assert calls(registry) == {
        ("GET", "127.0.0.1", "302", ""): 2,
        ("GET", "127.0.0.1", "200", ""): 3,
        ("GET", "127.0.0.1", "404", "404"): 1,
        ("GET", "127.0.0.1", "401", "401"): 1,
    }


@both
def test_async_client_counts_each_request(registry: CollectorRegistry, server: Server, library: Any) -> None:
    async def run() -> None:
        async with library.AsyncClient() as client:
            await client.get(f"{server.url}/redirect/2", follow_redirects=True)
            await asyncio.gather(*(client.get(f"{server.url}/ok") for _ in range(5)))
            await client.get(f"{server.url}/digest", auth=library.DigestAuth("user", "password"))

    asyncio.run(run())
    assert counted(registry) == answered(server)
    assert total(registry) == len(server.log) == 10


@both
def test_errors_are_counted_by_class(registry: CollectorRegistry, server: Server, library: Any) -> None:
    port = free_port()
    with pytest.raises(library.ConnectError):
        library.get(f"http://127.0.0.1:{port}/")
    with pytest.raises(library.ReadTimeout):
        library.get(f"{server.url}/wait", timeout=0.05)
    with pytest.raises(library.RemoteProtocolError):
        library.get(f"{server.url}/drop")
    with pytest.raises(library.UnsupportedProtocol):
        library.get("nothing://example.com/")

    async def run() -> None:
        async with library.AsyncClient() as client:
            with pytest.raises(library.ConnectError):
                await client.get(f"http://127.0.0.1:{port}/")

    asyncio.run(run())
    assert {(error, number) for (*_, error), number in calls(registry).items()} == {
        ("ConnectError", 2),
        ("ReadTimeout", 1),
        ("RemoteProtocolError", 1),
        ("UnsupportedProtocol", 1),
    }


@both
def test_cancelled_call_is_counted_and_stays_cancelled(
    registry: CollectorRegistry, server: Server, library: Any
) -> None:
    async def run() -> None:
        async with library.AsyncClient() as client:
            task = asyncio.create_task(client.get(f"{server.url}/wait"))
            while not server.log:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelled()

    asyncio.run(run())
    assert calls(registry) == {("GET", "127.0.0.1", "", "CancelledError"): 1}


@both
def test_streamed_response_is_timed_to_its_headers(
    registry: CollectorRegistry, server: Server, library: Any
) -> None:
    with library.stream("GET", f"{server.url}/stream") as response:
        assert total(registry) == 1
        before = seconds(registry)
        server.body.set()
        assert response.read() == b"ok"
    assert (total(registry), seconds(registry)) == (1, before)


@both
def test_custom_transports_are_measured(registry: CollectorRegistry, library: Any) -> None:
    transport = library.MockTransport(lambda request: library.Response(418))
    with library.Client(transport=transport) as client:
        assert client.get("https://user:password@Bücher.example:8443/path").status_code == 418

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def run() -> None:
        transport = library.ASGITransport(app)
        async with library.AsyncClient(transport=transport, base_url="http://[::1]:80") as client:
            assert (await client.get("/")).text == "ok"

    asyncio.run(run())
    assert calls(registry) == {
        ("GET", "xn--bcher-kva.example", "418", "418"): 1,
        ("GET", "::1", "200", ""): 1,
    }


@both
def test_mounted_transport_is_measured(registry: CollectorRegistry, server: Server, library: Any) -> None:
    mounts = {"all://mocked": library.MockTransport(lambda request: library.Response(200))}
    with library.Client(mounts=mounts) as client:
        client.get("http://mocked/")
        client.get(server.url)
    assert calls(registry) == {("GET", "mocked", "200", ""): 1, ("GET", "127.0.0.1", "200", ""): 1}


@respx.mock
def test_respx_works_and_is_measured(registry: CollectorRegistry) -> None:
    respx.get("https://example.com/").respond(204)
    assert httpx.get("https://example.com/").status_code == 204
    assert calls(registry) == {("GET", "example.com", "204", ""): 1}


@both
def test_exception_of_an_event_hook_passes(registry: CollectorRegistry, server: Server, library: Any) -> None:
    def check(response: Any) -> None:
        response.raise_for_status()

    with library.Client(event_hooks={"response": [check]}) as client, pytest.raises(library.HTTPStatusError):
        client.get(f"{server.url}/status/500")
    assert calls(registry) == {("GET", "127.0.0.1", "500", "500"): 1}


@both
def test_subclass_that_overrides_send_is_counted_once(
    registry: CollectorRegistry, server: Server, library: Any
) -> None:
    class Logged(library.Client):  # type: ignore[misc]
        def send(self, *args: Any, **kwargs: Any) -> Any:
            return super().send(*args, **kwargs)

    with Logged() as client:
        client.get(server.url)
    assert total(registry) == 1


@both
def test_instrument_measures_one_client(server: Server, library: Any) -> None:
    registry = CollectorRegistry()
    with library.Client() as client, library.Client() as other:
        instrument(client, registry=registry)
        client.get(server.url)
        other.get(server.url)
        assert total(registry) == 1
        uninstrument(client)
        client.get(server.url)
        assert total(registry) == 1


@both
def test_instrument_measures_one_async_client(server: Server, library: Any) -> None:
    registry = CollectorRegistry()

    async def run() -> None:
        async with library.AsyncClient() as client, library.AsyncClient() as other:
            instrument(client, registry=registry)
            await asyncio.gather(client.get(server.url), other.get(server.url))

    asyncio.run(run())
    assert total(registry) == 1


def test_traceback_of_a_failed_call_has_no_frame_of_web_prom(server: Server) -> None:
    with pytest.raises(httpx.RemoteProtocolError) as raised:
        httpx.get(f"{server.url}/drop")
    names = [frame.filename for frame in traceback.extract_tb(raised.value.__traceback__)]
    kept = [name for name in names if "web_prom/http_client" in name and "/tests/" not in name]
    assert (kept == []) is (sys.version_info >= (3, 11))
