"""Cases in which other instrumentations of HTTP clients had faults, by the number of their issue.

The numbers are those of open-telemetry/opentelemetry-python-contrib.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx
import pytest
import requests
import trio
import urllib3
from prometheus_client import CollectorRegistry

from tests.web_prom.http_client.support import Server, calls, free_port, total
from web_prom.config import Config
from web_prom.http_client import activation, instrument
from web_prom.metrics.recorder import Recorder

pytestmark = pytest.mark.usefixtures("measured")


def test_2850_error_has_a_type_with_and_without_a_response(
    registry: CollectorRegistry, server: Server
) -> None:
    requests.get(f"{server.url}/status/503")
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{free_port()}")
    assert sorted(error for *_, error in calls(registry)) == ["503", "ConnectionError"]


def test_3020_no_proxy_in_the_environment(
    registry: CollectorRegistry, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives a client of httpx mounts without a transport."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    with httpx.Client() as client:
        instrument(client, registry=registry)
        client.get(server.url)
    requests.get(server.url)
    assert calls(registry) == {("GET", "127.0.0.1", "200", ""): 2}


def test_2341_client_with_a_proxy(registry: CollectorRegistry, server: Server) -> None:
    with httpx.Client(proxy=server.url) as client:
        client.get("http://shop.example/ok")
        with pytest.raises(httpx.ProxyError):
            client.get("https://shop.example/")
    assert calls(registry) == {
        ("GET", "shop.example", "200", ""): 1,
        ("GET", "shop.example", "", "ProxyError"): 1,
    }


def test_2364_subclass_that_is_defined_before_and_after(registry: CollectorRegistry, server: Server) -> None:
    class After(httpx.Client):  # type: ignore[misc]
        def __init__(self, *, own: str) -> None:
            super().__init__()
            self.own = own

    with After(own="x") as client:
        client.get(server.url)
        assert (type(client), client.own) == (After, "x")
    assert total(registry) == 1


def test_1207_many_sessions_and_activations_count_each_request_once(
    registry: CollectorRegistry, server: Server
) -> None:
    kept = [activation.activate(Recorder(Config(), registry)) for _ in range(5)]
    for _ in range(5):
        session = requests.Session()
        instrument(session, registry=registry)
        session.get(server.url)
        session.close()
    assert total(registry) == len(server.log) == 5
    del kept


def test_pool_timeout_of_httpx_is_counted(registry: CollectorRegistry, server: Server) -> None:
    limits, timeout = httpx.Limits(max_connections=1), httpx.Timeout(5, pool=0.01)
    with httpx.Client(limits=limits, timeout=timeout) as client, client.stream("GET", f"{server.url}/stream"):
        with pytest.raises(httpx.PoolTimeout):
            client.get(server.url)
        server.body.set()
    assert calls(registry) == {
        ("GET", "127.0.0.1", "200", ""): 1,
        ("GET", "127.0.0.1", "", "PoolTimeout"): 1,
    }


def test_cancellation_under_trio_is_counted(registry: CollectorRegistry, server: Server) -> None:
    async def run() -> None:
        async with httpx.AsyncClient() as client:
            with trio.move_on_after(0.2) as scope:
                await client.get(f"{server.url}/wait")
            assert scope.cancelled_caught

    trio.run(run)
    assert calls(registry) == {("GET", "127.0.0.1", "", "Cancelled"): 1}


def test_application_behind_a_transport_that_calls_others_counts_both(
    registry: CollectorRegistry, server: Server
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.to_thread(requests.get, server.url)
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def run() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            await client.get("http://inner.example/")

    asyncio.run(run())
    assert calls(registry) == {
        ("GET", "127.0.0.1", "200", ""): 1,
        ("GET", "inner.example", "201", ""): 1,
    }


def test_call_in_another_thread_of_an_instrumented_session_is_counted(server: Server) -> None:
    registry = CollectorRegistry()
    session = requests.Session()
    instrument(session, registry=registry)
    thread = threading.Thread(target=session.get, args=(server.url,))
    thread.start()
    thread.join()
    urllib3.PoolManager().request("GET", server.url)
    assert total(registry) == 1


def test_body_that_breaks_after_the_headers_is_raised(registry: CollectorRegistry, server: Server) -> None:
    """Requests and httpx are timed to the headers; urllib3 reads the body in the same step."""
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(f"{server.url}/broken")
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{server.url}/broken")
    assert calls(registry) == {("GET", "127.0.0.1", "200", ""): 2}
