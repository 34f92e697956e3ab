"""The Flask application of the real servers, with every kind of response and failure."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator

from flask import Flask, Response, abort, request, send_file
from prometheus_client import Counter

from flask_prom import FlaskProm

ORDERS = Counter("shop_orders_total", "Orders taken.")

app = Flask(__name__)
FlaskProm(app)


class SoldOutError(Exception):
    pass


@app.errorhandler(SoldOutError)
def sold_out(error: SoldOutError) -> tuple[str, int]:
    return "sold out", 503


@app.get("/")
def index() -> str:
    return str(os.getpid())


@app.get("/items/<int:number>")
def item(number: int) -> str:
    if number == 0:
        abort(404)
    return f"item {number}"


@app.post("/orders")
def order() -> tuple[str, int]:
    size = len(request.get_data())
    ORDERS.inc()
    return str(size), 201


@app.get("/error")
def error() -> str:
    raise RuntimeError("as meant")


@app.get("/sold-out")
def handled() -> str:
    raise SoldOutError


@app.get("/slow")
def slow() -> str:
    time.sleep(0.03)
    return "at last"


@app.get("/stream")
def stream() -> Response:
    def chunks() -> Iterator[bytes]:
        for _ in range(3):
            yield b"x" * 100
            time.sleep(0.003)

    return Response(chunks())


@app.get("/long-stream")
def long_stream() -> Response:
    return Response(b"x" * 65536 for _ in range(64))


@app.get("/breaks-half-way")
def breaks_half_way() -> Response:
    def chunks() -> Iterator[bytes]:
        yield b"x" * 100
        raise RuntimeError("as meant")

    return Response(chunks())


@app.get("/breaks-at-once")
def breaks_at_once() -> Response:
    def chunks() -> Iterator[bytes]:
        yield from ()
        raise RuntimeError("as meant")

    return Response(chunks())


@app.get("/file")
def file() -> Response:
    return send_file(os.environ["BIG_FILE"])


@app.get("/hold")
def hold() -> Response:
    """Respond with the id of the process, and keep the request in progress."""

    def chunks() -> Iterator[bytes]:
        yield f"{os.getpid()}\n".encode()
        time.sleep(60)

    return Response(chunks())


# A process ends faster where the garbage collector does not visit its modules.
gc.freeze()
