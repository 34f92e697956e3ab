"""One outgoing request of a library: bare, by hand, and with web-prom."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

import httpx
import requests
from prometheus_client import CollectorRegistry, Histogram

from benchmarks import outgoing_transports
from benchmarks.pairing import BARE, FLOOR, OURS, Variant
from web_prom.config import Config
from web_prom.http_client import activation
from web_prom.http_client.conventions import DURATION, DURATION_BUCKETS
from web_prom.metrics.recorder import Recorder

URL = "http://shop.example/orders"

Send = Callable[[], object]


def path_of(_number: int) -> str:
    """Return the path of a request: there is one."""
    return "/"


def of_urllib3(*, measured: bool) -> Send:
    """Return a request of a connection pool."""
    pool = (outgoing_transports.Pool if measured else outgoing_transports.UnmeasuredPool)("shop.example")
    return lambda: pool.urlopen("GET", "/orders", preload_content=False)


def of_requests(*, measured: bool) -> Send:
    """Return a request of a session."""
    session = outgoing_transports.session(measured=measured)
    request = session.prepare_request(requests.Request("GET", URL))
    return lambda: session.send(request, stream=True)


def of_httpx(*, measured: bool) -> Send:
    """Return a request of a client."""
    client = outgoing_transports.client(measured=measured)
    request = httpx.Request("GET", URL)
    return lambda: client.send(request)


def variants(library: Callable[..., Send]) -> dict[str, Callable[[int], Variant]]:
    """Return the variants of a benchmark of one library."""

    def bare(_paths: int) -> Variant:
        return Variant(BARE, _app(library(measured=False)))

    def floor(_paths: int) -> Variant:
        histogram = Histogram(
            *("floor_seconds", "Floor.", tuple(DURATION.labels)),
            registry=CollectorRegistry(),
            buckets=DURATION_BUCKETS,
        )
        observe = histogram.labels("GET", "shop.example", "200", "").observe
        send = library(measured=False)

        def timed() -> None:
            started = perf_counter()
            try:
                send()
            finally:
                observe(perf_counter() - started)

        return Variant(FLOOR, _app(timed))

    def web_prom(_paths: int) -> Variant:
        recorder = Recorder(Config.load({"queue_time": False}), CollectorRegistry())
        _kept.append(activation.activate(recorder))
        return Variant(OURS, _app(library(measured=True)))

    return {BARE: bare, FLOOR: floor, OURS: web_prom}


_kept: list[object] = []


def _app(send: Send) -> Any:
    def app(environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
        send()
        start_response("200 OK", [])
        return (b"ok",)

    return app
