"""A plain WSGI application; for a client it equals flask_app.py, and it takes much less time to start."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import Counter

from web_prom.wsgi import PrometheusMiddleware, set_route

Environ = dict[str, Any]
Answer = tuple[str, Iterable[bytes]]
View = Callable[[Environ], Answer]

ORDERS = Counter("shop_orders_total", "Orders taken.")


def index(environ: Environ) -> Answer:
    return "200 OK", [str(os.getpid()).encode()]


def item(environ: Environ) -> Answer:
    number = int(environ["PATH_INFO"].rpartition("/")[2])
    return ("200 OK", [f"item {number}".encode()]) if number else ("404 Not Found", [])


def order(environ: Environ) -> Answer:
    expected, size = int(environ["CONTENT_LENGTH"]), 0
    with contextlib.suppress(OSError):
        size = len(environ["wsgi.input"].read(expected))
    if size < expected:
        return "400 Bad Request", []
    ORDERS.inc()
    return "201 Created", [str(size).encode()]


def error(environ: Environ) -> Answer:
    raise RuntimeError("as meant")


def sold_out(environ: Environ) -> Answer:
    return "503 Service Unavailable", [b"sold out"]


def slow(environ: Environ) -> Answer:
    time.sleep(0.03)
    return "200 OK", [b"at last"]


def stream(environ: Environ) -> Answer:
    def chunks() -> Iterator[bytes]:
        for _ in range(3):
            yield b"x" * 100
            time.sleep(0.003)

    return "200 OK", chunks()


def long_stream(environ: Environ) -> Answer:
    return "200 OK", (b"x" * 65536 for _ in range(64))


def breaks_half_way(environ: Environ) -> Answer:
    def chunks() -> Iterator[bytes]:
        yield b"x" * 100
        raise RuntimeError("as meant")

    return "200 OK", chunks()


def breaks_at_once(environ: Environ) -> Answer:
    def chunks() -> Iterator[bytes]:
        yield from ()
        raise RuntimeError("as meant")

    return "200 OK", chunks()


def file(environ: Environ) -> Answer:
    return "200 OK", environ["wsgi.file_wrapper"](open(os.environ["BIG_FILE"], "rb"))


def hold(environ: Environ) -> Answer:
    """Respond with the id of the process, and keep the request in progress."""

    def chunks() -> Iterator[bytes]:
        yield f"{os.getpid()}\n".encode()
        time.sleep(60)

    return "200 OK", chunks()


READ = ("GET", "HEAD")
VIEWS: dict[str, tuple[tuple[str, ...], View]] = {
    "/": (READ, index),
    "/items/<int:number>": (READ, item),
    "/orders": (("POST",), order),
    "/error": (READ, error),
    "/sold-out": (READ, sold_out),
    "/slow": (READ, slow),
    "/stream": (READ, stream),
    "/long-stream": (READ, long_stream),
    "/breaks-half-way": (READ, breaks_half_way),
    "/breaks-at-once": (READ, breaks_at_once),
    "/file": (READ, file),
    "/hold": (READ, hold),
}


def respond(environ: Environ) -> Answer:
    path = environ["PATH_INFO"]
    route = "/items/<int:number>" if path.startswith("/items/") else path
    if route not in VIEWS:
        return "404 Not Found", []
    set_route(environ, route)
    methods, view = VIEWS[route]
    return view(environ) if environ["REQUEST_METHOD"] in methods else ("405 Method Not Allowed", [])


def serve(environ: Environ, start_response: Any) -> Iterable[bytes]:
    status, body = respond(environ)
    start_response(status, [("Content-Type", "text/plain")])
    return body


app = PrometheusMiddleware(serve)
# A process ends faster where the garbage collector does not visit its modules.
gc.freeze()
