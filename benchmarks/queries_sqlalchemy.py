"""One query of SQLAlchemy: bare, by hand, and with web-prom."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

import sqlalchemy
from prometheus_client import CollectorRegistry, Histogram

from benchmarks.pairing import BARE, FLOOR, OURS, Variant
from web_prom.config import Config
from web_prom.database.activation import activate
from web_prom.database.conventions import DURATION_BUCKETS, OPERATION_DURATION
from web_prom.database.sqlalchemy_hooks import instrument_all, uninstrument
from web_prom.metrics.query_tally import open_tally
from web_prom.metrics.recorder import Recorder

PEERS: dict[str, Callable[[int], Variant]] = {}

QUERY = sqlalchemy.text("SELECT id, number FROM (SELECT 1 AS id, 2 AS number) AS shop_order WHERE id = :id")


def path_of(_number: int) -> str:
    """Return the path of a request: there is one."""
    return "/"


def _app(connection: Any) -> Any:
    def app(environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
        connection.execute(QUERY, {"id": 1}).close()
        start_response("200 OK", [])
        return (b"ok",)

    return app


def _bare(_paths: int) -> Variant:
    engine = sqlalchemy.create_engine("sqlite://")
    uninstrument(engine)
    return Variant(BARE, _app(engine.connect()))


def _floor(_paths: int) -> Variant:
    engine = sqlalchemy.create_engine("sqlite://")
    uninstrument(engine)
    labels = tuple(OPERATION_DURATION.labels)
    histogram = Histogram(
        "floor_seconds", "Floor.", labels, registry=CollectorRegistry(), buckets=DURATION_BUCKETS
    )
    observe = histogram.labels("sqlite", "default", "SELECT", "").observe
    connection = engine.connect()

    def app(environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
        started = perf_counter()
        try:
            connection.execute(QUERY, {"id": 1}).close()
        finally:
            observe(perf_counter() - started)
        start_response("200 OK", [])
        return (b"ok",)

    return Variant(FLOOR, app)


def _web_prom(_paths: int) -> Variant:
    recorder = Recorder(Config.load({"database": True, "queue_time": False}), CollectorRegistry())
    open_tally(activate(recorder))  # as in a request
    instrument_all()
    _recorders.append(recorder)
    return Variant(OURS, _app(sqlalchemy.create_engine("sqlite://").connect()))


_recorders: list[Recorder] = []

VARIANTS: dict[str, Callable[[int], Variant]] = {BARE: _bare, FLOOR: _floor, OURS: _web_prom}
