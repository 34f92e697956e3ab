"""The Flask application of the request benchmark: bare, by hand, with web-prom, and with each peer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import cycle
from time import perf_counter
from typing import Any

from flask import Flask
from prometheus_client import CollectorRegistry

from benchmarks.floor import Children, bound_children
from benchmarks.opentelemetry import meter_provider
from benchmarks.pairing import BARE, FLOOR, OURS, Environ, Variant, WSGIApp
from flask_prom import FlaskProm

Make = Callable[[int], Variant]


def path_of(number: int) -> str:
    """Return the path of a route."""
    return f"/route{number}/"


def _application(paths: int) -> Flask:
    app = Flask("benchmark")
    for number in range(paths):
        app.add_url_rule(path_of(number), f"view{number}", _view)
    return app


def _view() -> str:
    return "ok"


def _bare(paths: int) -> Variant:
    return Variant(BARE, _application(paths))


def _floor(paths: int) -> Variant:
    app = _application(paths)
    by_hand = [_by_hand(app.wsgi_app, children) for children in bound_children(paths)]
    app.wsgi_app = by_hand[0] if paths == 1 else _in_turn(by_hand)  # type: ignore[assignment, method-assign]
    return Variant(FLOOR, app)


def _by_hand(app: WSGIApp, children: Children) -> WSGIApp:
    in_progress, requests, duration = children

    def measured(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        started = perf_counter()
        in_progress.inc()
        try:
            return app(environ, start_response)
        finally:
            in_progress.dec()
            requests.inc()
            duration.observe(perf_counter() - started)

    return measured


def _in_turn(apps: list[WSGIApp]) -> WSGIApp:
    """Measure each route with its own children, so the floor looks up none."""
    turn = cycle(apps).__next__

    def next_app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        return turn()(environ, start_response)

    return next_app


def _web_prom(paths: int) -> Variant:
    app = _application(paths)
    FlaskProm(app, registry=CollectorRegistry())
    return Variant(OURS, app)


def _prometheus_flask_exporter(paths: int) -> Variant:
    from prometheus_flask_exporter import PrometheusMetrics

    app = _application(paths)
    PrometheusMetrics(app, registry=CollectorRegistry(), group_by="url_rule")
    return Variant("prometheus-flask-exporter", app)


def _opentelemetry(paths: int) -> Variant:
    provider = meter_provider()
    from opentelemetry.instrumentation.flask import FlaskInstrumentor

    app = _application(paths)
    FlaskInstrumentor.instrument_app(app, meter_provider=provider)
    return Variant("OpenTelemetry", app)


VARIANTS: dict[str, Make] = {BARE: _bare, FLOOR: _floor, OURS: _web_prom}
PEERS: dict[str, Make] = {
    "prometheus-flask-exporter": _prometheus_flask_exporter,
    "OpenTelemetry": _opentelemetry,
}
