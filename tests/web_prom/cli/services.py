"""Services on loopback ports, for the tests of the commands."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """Answer GET with a function; yield the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(ConnectionError):
                answer(self)

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
        finally:
            server.shutdown()
            thread.join()


def text(body: str, status: int = 200, content_type: str = "") -> Answer:
    """Return a function that answers with a text."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        data = body.encode()
        handler.send_response(status)
        if content_type:
            handler.send_header("Content-Type", content_type)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def growing(**options: Any) -> Answer:
    """Return a function that answers with the metrics of 10 more requests each time."""
    numbers = count(10, 10)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        text(shop(requests=next(numbers), **options))(handler)

    return answer


def shop(*, requests: int, failed: int = 0, route: str = "/orders", worker: str = "0") -> str:
    """Return the metrics of a service with one route, with requests of 0.02 s."""
    name = "http_request_duration_seconds"
    labels = f'method="GET",route="{route}"'
    statuses = {"200": requests - failed, "500": failed}
    buckets = {"0.01": 0, "0.1": requests, "+Inf": requests}
    counters = "".join(
        f'http_requests_total{{{labels},status="{status}"}} {value}\n' for status, value in statuses.items()
    )
    histogram = "".join(
        f'{name}_bucket{{{labels},le="{bound}"}} {value}\n' for bound, value in buckets.items()
    )
    return (
        f"# HELP http_requests_total Requests.\n# TYPE http_requests_total counter\n{counters}"
        f"# HELP {name} Durations.\n# TYPE {name} histogram\n{histogram}"
        f"{name}_sum{{{labels}}} {requests * 0.02}\n{name}_count{{{labels}}} {requests}\n"
        "# HELP process_resident_memory_bytes Memory.\n# TYPE process_resident_memory_bytes gauge\n"
        f'process_resident_memory_bytes{{worker="{worker}"}} 64000000\n'
    )
