"""A shop under several workers, measured by web-prom and by OpenTelemetry's SDK. It prints both totals.

::

    gunicorn --config python:web_prom.gunicorn --workers 2 opentelemetry_workers:app
    python opentelemetry_workers.py http://127.0.0.1:8000 400

Web-prom answers at /metrics, the SDK's exporter at /sdk-metrics.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.request import urlopen

from prometheus_client import CollectorRegistry, generate_latest

from web_prom.wsgi import PrometheusMiddleware, set_route

os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")

COUNT = re.compile(
    r'^http_server_request_duration_seconds_count\{.*http_response_status_code="200".*\} (\S+)$', re.MULTILINE
)
WORKERS = 2
SCRAPES = 6
SETTLE_SECONDS = 2.0
START_SECONDS = 30.0

Environ = dict[str, Any]


def shop(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Serve the shop's only page."""
    set_route(environ, "/")
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "8")])
    return [b"Teapots\n"]


def make_app() -> Callable[..., Any]:
    """Return the shop measured by both, with the endpoint of the SDK's exporter."""
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
    from opentelemetry.sdk.metrics import MeterProvider

    registry = CollectorRegistry()
    provider = MeterProvider(metric_readers=[PrometheusMetricReader(registry=registry)])
    measured = OpenTelemetryMiddleware(shop, meter_provider=provider)

    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/sdk-metrics":
            body: Iterable[bytes] = measured(environ, start_response)
            return body
        set_route(environ, "/sdk-metrics")
        start_response("200 OK", [("Content-Type", "text/plain"), ("Worker", str(os.getpid()))])
        return [generate_latest(registry)]

    return PrometheusMiddleware(app, naming="opentelemetry", exclude=["/sdk-metrics"])


def read(url: str) -> str:
    """Return the text of a page."""
    with urlopen(url, timeout=30) as answer:
        text: str = answer.read().decode()
        return text


def counted(url: str) -> int:
    """Return the requests with status 200 that one scrape reports."""
    return sum(int(float(count)) for count in COUNT.findall(read(url)))


def main() -> None:
    """Send requests, each with its own connection, and print the totals of both."""
    url, times = sys.argv[1], int(sys.argv[2])
    # Wait for all workers. Otherwise the first one would serve all requests.
    seen: set[str] = set()
    deadline = time.monotonic() + START_SECONDS
    while len(seen) < WORKERS and time.monotonic() < deadline:
        with urlopen(f"{url}/sdk-metrics", timeout=30) as answer:
            seen.add(answer.headers["Worker"])

    def visit(_number: int) -> None:
        read(url)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(visit, range(times)))
    deadline = time.monotonic() + SETTLE_SECONDS
    while counted(f"{url}/metrics") != times and time.monotonic() < deadline:
        time.sleep(0.05)  # the client can have the answer before the server has counted the request
    for name, path in (("web-prom", "/metrics"), ("the SDK", "/sdk-metrics")):
        print(f"{name}, of {times}, in {SCRAPES} scrapes:", *[counted(url + path) for _ in range(SCRAPES)])


if __name__ == "__main__":
    main()
else:
    app = make_app()
