"""urllib3: each attempt of a pool is counted once, also through a proxy and for other libraries."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
import requests
import urllib3
from prometheus_client import CollectorRegistry
from urllib3.util.retry import Retry

from tests.web_prom.http_client.support import (
    Server,
    answered,
    calls,
    counted,
    free_port,
    seconds,
    total,
)

VERSION = version("urllib3")
pytestmark = pytest.mark.usefixtures("measured")


def test_request_counts_each_request(registry: CollectorRegistry, server: Server) -> None:
    manager = urllib3.PoolManager()
    assert manager.request("GET", f"{server.url}/ok?secret=1").status == 200
    assert manager.request("POST", f"{server.url}/status/400", body=b"x").status == 400
    assert calls(registry) == {
        ("GET", "127.0.0.1", "200", ""): 1,
        ("POST", "127.0.0.1", "400", "400"): 1,
    }


def test_pool_without_a_manager_is_measured(registry: CollectorRegistry, server: Server) -> None:
    pool = urllib3.HTTPConnectionPool("127.0.0.1", server.server_port)
    assert pool.request("GET", "/redirect/2").status == 200
    assert counted(registry) == answered(server) == {("GET", "302"): 2, ("GET", "200"): 1}


def test_redirects_and_retries_of_a_manager_are_counted_each(
    registry: CollectorRegistry, server: Server
) -> None:
    manager = urllib3.PoolManager(retries=Retry(9, status_forcelist=[503], backoff_factor=0))
    manager.request("GET", f"{server.url}/redirect/2")
    manager.request("GET", f"{server.url}/flaky/5")
    assert counted(registry) == answered(server) == {("GET", "302"): 2, ("GET", "200"): 2, ("GET", "503"): 2}


def test_unknown_method_is_other(registry: CollectorRegistry, server: Server) -> None:
    urllib3.PoolManager().request("PURGE", server.url)
    assert calls(registry) == {("_OTHER", "127.0.0.1", "200", ""): 1}


def refused(_: Server) -> Any:
    return urllib3.PoolManager().request("GET", f"http://127.0.0.1:{free_port()}/", retries=False)


def read_timeout(server: Server) -> Any:
    return urllib3.PoolManager().request("GET", f"{server.url}/wait", timeout=0.05, retries=False)


def dropped(server: Server) -> Any:
    return urllib3.PoolManager().request("GET", f"{server.url}/drop", retries=False)


def not_tls(server: Server) -> Any:
    return urllib3.PoolManager().request("GET", server.url.replace("http", "https"), retries=False)


def unknown_host(_: Server) -> Any:
    return urllib3.PoolManager().request("GET", "http://127.0.0.1.invalid/", retries=False)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (refused, urllib3.exceptions.NewConnectionError),
        (read_timeout, urllib3.exceptions.ReadTimeoutError),
        (dropped, urllib3.exceptions.ProtocolError),
        (not_tls, urllib3.exceptions.SSLError),
        (unknown_host, urllib3.exceptions.HTTPError),
    ],
)
def test_errors_have_the_name_that_the_user_sees(
    registry: CollectorRegistry, server: Server, call: Callable[[Server], Any], error: type[Exception]
) -> None:
    with pytest.raises(error) as raised:
        call(server)
    assert [(code, name) for _, _, code, name in calls(registry)] == [("", type(raised.value).__name__)]
    assert total(registry) == 1


def test_retried_errors_are_counted_each(registry: CollectorRegistry) -> None:
    with pytest.raises(urllib3.exceptions.MaxRetryError):
        urllib3.PoolManager().request(
            "GET", f"http://127.0.0.1:{free_port()}/", retries=Retry(2, backoff_factor=0)
        )
    assert calls(registry) == {("GET", "127.0.0.1", "", "NewConnectionError"): 3}


def test_full_pool_is_counted_once(registry: CollectorRegistry, server: Server) -> None:
    """No request is sent, because no connection becomes free in time."""
    pool = urllib3.HTTPConnectionPool("127.0.0.1", server.server_port, maxsize=1, block=True)
    held = pool.urlopen("GET", "/", preload_content=False)
    with pytest.raises(urllib3.exceptions.EmptyPoolError):
        pool.urlopen("POST", "/redirect/1", pool_timeout=0.01)  # type: ignore[arg-type]
    held.drain_conn()
    assert calls(registry) == {
        ("GET", "127.0.0.1", "200", ""): 1,
        ("POST", "127.0.0.1", "", "EmptyPoolError"): 1,
    }


def test_response_without_preloaded_body_is_timed_to_its_headers(
    registry: CollectorRegistry, server: Server
) -> None:
    response = urllib3.PoolManager().request("GET", f"{server.url}/stream", preload_content=False)
    assert total(registry) == 1
    before = seconds(registry)
    server.body.set()
    assert response.data == b"ok"
    assert (total(registry), seconds(registry)) == (1, before)


# Proxies ---------------------------------------------------------------------------------------------


def test_proxied_request_has_the_address_of_its_server(registry: CollectorRegistry, server: Server) -> None:
    proxies = {"http": server.url, "https": server.url}
    assert requests.get("http://Shop.example/ok", proxies=proxies).status_code == 200
    assert urllib3.ProxyManager(server.url).request("GET", "http://shop.example/ok").status == 200
    assert calls(registry) == {("GET", "shop.example", "200", ""): 2}


def test_refused_tunnel_is_a_failed_attempt(registry: CollectorRegistry, server: Server) -> None:
    with pytest.raises(requests.exceptions.ProxyError):
        requests.get("https://shop.example/", proxies={"https": server.url})
    with pytest.raises(urllib3.exceptions.MaxRetryError):
        urllib3.ProxyManager(server.url).request(
            "PUT", "https://shop.example/", retries=Retry(2, backoff_factor=0)
        )
    assert len(server.log) == 4
    assert calls(registry) == {
        ("GET", "shop.example", "", "ProxyError"): 1,
        ("PUT", "shop.example", "", "ProxyError"): 3,
    }


def test_proxy_that_refuses_connections_is_counted(registry: CollectorRegistry) -> None:
    proxy = f"http://127.0.0.1:{free_port()}"
    for scheme in ("http", "https"):
        with pytest.raises(requests.exceptions.ProxyError):
            requests.get(f"{scheme}://shop.example/", proxies={scheme: proxy})
    assert calls(registry) == {("GET", "shop.example", "", "ProxyError"): 2}


# Attribution -----------------------------------------------------------------------------------------


class OwnPool(urllib3.HTTPConnectionPool):
    """A pool of a library that builds on urllib3, as botocore does."""


def test_library_with_pools_of_its_own_is_measured(registry: CollectorRegistry, server: Server) -> None:
    manager = urllib3.PoolManager()
    manager.pool_classes_by_scheme = {"http": OwnPool}
    pool = manager.connection_from_url(server.url)
    response = pool.urlopen(
        *("PUT", "/ok"), body=b"x", retries=Retry(False), assert_same_host=False, preload_content=False
    )
    assert response.status == 200
    response.drain_conn()
    assert calls(registry) == {("PUT", "127.0.0.1", "200", ""): 1}


def test_signatures_are_unchanged() -> None:
    for name in ("_make_request", "_get_conn"):
        method = getattr(urllib3.HTTPConnectionPool, name)
        own = inspect.signature(method, follow_wrapped=False)
        assert inspect.signature(method) == inspect.signature(method.__wrapped__)
        if VERSION >= "2":
            assert list(own.parameters) == list(inspect.signature(method).parameters)
