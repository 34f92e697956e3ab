"""One query of Django: bare, by hand, with web-prom, and with django-prometheus' engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

import django
from django.apps import apps
from django.conf import settings
from django.db import connections
from prometheus_client import CollectorRegistry, Histogram

from benchmarks.pairing import BARE, FLOOR, OURS, Variant

PEER = "django-prometheus"
_ENGINES = {
    BARE: "django.db.backends.sqlite3",
    FLOOR: "django.db.backends.sqlite3",
    OURS: "django.db.backends.sqlite3",
    PEER: "django_prometheus.db.backends.sqlite3",
}
ALIASES = {BARE: "default", FLOOR: "floor", OURS: "ours", PEER: "peer"}
"""The alias of the database of each variant."""

QUERY = (
    'SELECT "shop_order"."id", "shop_order"."number", "shop_order"."customer_id" FROM '
    '(SELECT 1 AS "id", 2 AS "number", 3 AS "customer_id") AS "shop_order" WHERE "shop_order"."id" = %s '
)


def path_of(_number: int) -> str:
    """Return the path of a request: there is one."""
    return "/"


def configure() -> None:
    """Set up Django with a database for each variant. Further calls change nothing."""
    if settings.configured:
        return
    databases = {ALIASES[name]: {"ENGINE": engine, "NAME": ":memory:"} for name, engine in _ENGINES.items()}
    settings.configure(
        ALLOWED_HOSTS=["localhost"],
        DATABASES=databases,
        CACHES={"default": {"BACKEND": "benchmarks.caches_django.OurCache"}},
        PROM_DATABASE=True,
        PROM_CACHE=True,
    )
    django.setup()


def connection_of(name: str) -> Any:
    """Return the connection object of a variant, connected, with the hooks of this variant only."""
    connection = connections[ALIASES[name]]
    connection.ensure_connection()
    if name != OURS:
        from django_prom.database.connection import MeasuredConnection

        MeasuredConnection.remove(connection)
    return connection


def bound_histogram() -> Histogram:
    """Return a child of a histogram with the labels and buckets of web-prom's."""
    from web_prom.database.conventions import DURATION_BUCKETS, OPERATION_DURATION

    labels = tuple(OPERATION_DURATION.labels)
    histogram = Histogram(
        "floor_seconds", "Floor.", labels, registry=CollectorRegistry(), buckets=DURATION_BUCKETS
    )
    return histogram.labels("sqlite", "default", "SELECT", "")


def query(connection: Any, sql: str) -> None:
    """Execute a query, as Django's ORM does: each time with a new text and a new cursor."""
    with connection.cursor() as cursor:
        cursor.execute("".join((sql, "")), (1,))


def _variant(name: str) -> Variant:
    configure()
    connection = connection_of(name)
    return Variant(name, app_of(lambda: query(connection, QUERY)))


def app_of(run: Callable[[], None]) -> Any:
    """Return an application that calls a function in each request."""

    def app(environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
        run()
        start_response("200 OK", [])
        return (b"ok",)

    return app


def _floor(_paths: int) -> Variant:
    configure()
    connection, observe = connection_of(FLOOR), bound_histogram().observe

    def run() -> None:
        with connection.cursor() as cursor:
            sql = "".join((QUERY, ""))
            started = perf_counter()
            try:
                cursor.execute(sql, (1,))
            finally:
                observe(perf_counter() - started)

    return Variant(FLOOR, app_of(run))


def install() -> None:
    """Install web-prom's app, and create its metrics as its middleware does."""
    apps.set_installed_apps(["django_prom"])
    from django_prom import conf

    conf.instrumentation()


def _web_prom(_paths: int) -> Variant:
    configure()
    install()
    from web_prom.metrics.query_tally import open_tally

    open_tally(None)  # as in a request
    return _variant(OURS)


VARIANTS: dict[str, Callable[[int], Variant]] = {
    BARE: lambda _: _variant(BARE),
    FLOOR: _floor,
    OURS: _web_prom,
}
PEERS: dict[str, Callable[[int], Variant]] = {PEER: lambda _: _variant(PEER)}
