"""An application with handwritten metrics and scrapes by prometheus_client, and with web-prom."""

from __future__ import annotations

import os
import time

from flask import Flask, Response, g
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    make_wsgi_app,
    multiprocess,
)
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from flask_prom import FlaskProm

ANSWERED = Counter("own_answers_total", "Answers.", ["method", "status"])
SECONDS = Histogram("own_seconds", "Seconds.", ["method"], buckets=(0.1, 1.0))
RUNNING = Gauge("own_running", "Requests now.", multiprocess_mode="livesum")

app = Flask(__name__)
FlaskProm(app)


@app.before_request
def begin() -> None:
    RUNNING.inc()
    g.begun = time.perf_counter()


@app.after_request
def end(response: Response) -> Response:
    RUNNING.dec()
    SECONDS.labels("GET").observe(time.perf_counter() - g.begun)
    ANSWERED.labels("GET", str(response.status_code)).inc()
    return response


@app.get("/work")
def work() -> str:
    return str(os.getpid())


@app.get("/die")
def die() -> str:
    os.kill(os.getpid(), 9)
    return "never"


def merged() -> CollectorRegistry:
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


@app.get("/written-by-hand")
def written_by_hand() -> Response:
    return Response(generate_latest(merged()), content_type=CONTENT_TYPE_LATEST)


app.wsgi_app = DispatcherMiddleware(  # type: ignore[method-assign]
    app.wsgi_app, {"/upstream": make_wsgi_app(merged())}
)
