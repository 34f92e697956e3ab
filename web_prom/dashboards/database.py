"""The dashboard of databases, caches, outgoing requests, templates and Django's models."""

from __future__ import annotations

from web_prom import family_names
from web_prom.cache import conventions as cache
from web_prom.dashboards.model import Column, Dashboard, Limits, Panel, Query, Row
from web_prom.dashboards.names import RANGE, Names, family
from web_prom.dashboards.pool_panels import pool_panels
from web_prom.database import conventions as database
from web_prom.http_client import conventions as calls
from web_prom.metrics import conventions

_PURPOSE = """\
What do requests wait for: databases, caches, other services?

The first row shows which routes run too many queries, the next rows show whether the databases, the
pools and the caches are slow. Each row needs its setting: `PROM_DATABASE`, `PROM_CACHE`,
`PROM_HTTP_CLIENT`, `PROM_TEMPLATES`, `PROM_MODELS`, `PROM_MIGRATIONS`."""

_OF_ROUTES = 'route=~"$route"'


def dashboard(names: Names) -> Dashboard:
    """Return the dashboard."""
    return Dashboard(
        title="Databases, caches and calls",
        purpose=_PURPOSE,
        has_route=True,
        rows=(
            Row("Queries by route", _routes(names)),
            Row("Databases", _databases(names)),
            Row("Connections and pools", pool_panels(names)),
            Row("Caches", _caches(names)),
            Row("Outgoing requests", _calls(names)),
            Row("Django and templates", _django(names)),
        ),
    )


def _routes(names: Names) -> tuple[Panel, ...]:
    def per_request(
        title: str, spec: conventions.MetricSpec, unit: str, limits: Limits | None = None
    ) -> Column:
        return Column(Query(names.per_request(spec, _OF_ROUTES, window=RANGE)), title, unit, limits)

    return (
        Panel(
            title="Repeated queries per request (N+1)",
            description="Executions of one SQL text beyond the second in the same request. From 1 on the "
            "route runs a query for each object: load them at once, for example with select_related, "
            "prefetch_related or joinedload.",
            unit="short",
            limits=Limits(1, 10),
            queries=(
                Query(f"{names.per_request(conventions.DB_REPEATED_QUERIES, _OF_ROUTES)} > 0", "{{route}}"),
            ),
        ),
        Panel(
            title="Queries by route, in the time range that is shown",
            description="Sort by repeated queries to find N+1, and by seconds to find slow queries.",
            kind="table",
            labels={"route": "Route"},
            route_label="route",
            columns=(
                per_request("Repeated per request", conventions.DB_REPEATED_QUERIES, "short", Limits(1, 10)),
                per_request("Queries per request", conventions.DB_QUERIES, "short", Limits(20, 50)),
                per_request("Time per request", conventions.DB_SECONDS, "s", Limits(0.1, 0.5)),
            ),
        ),
    )


def _databases(names: Names) -> tuple[Panel, ...]:
    by = "db_namespace, db_operation_name"
    legend = "{{db_namespace}} {{db_operation_name}}"
    spec = database.OPERATION_DURATION
    failed = names.sum_rate(spec, 'error_type!=""', by="db_namespace, error_type", part="_count")
    return (
        Panel(
            title="Operations per second",
            description="What the databases do, by operation. More reads with the same traffic: a cache "
            "does not hit, or a query is in a loop.",
            unit="ops",
            queries=(Query(names.sum_rate(spec, by=by, part="_count"), legend),),
        ),
        Panel(
            title="Duration of operations, p95",
            description="95 % of the operations take no longer. If all are slow, the database is full: look"
            " at its own metrics. If one is slow: look for a missing index, or for locks.",
            unit="s",
            limits=Limits(0.1, 1),
            queries=(Query(names.quantile(0.95, spec, by=by), legend),),
        ),
        Panel(
            title="Failed operations by type",
            description="Operations that raised an exception. Operational errors: the database is not "
            "reached. Integrity errors: a constraint, often two requests at once.",
            unit="ops",
            queries=(Query(failed, "{{db_namespace}} {{error_type}}"),),
        ),
        Panel(
            title="Transactions per second",
            description="How transactions end. SQLAlchemy rolls back each transaction that was only read. "
            "Otherwise many rollbacks are errors.",
            unit="ops",
            queries=(
                Query(
                    names.sum_rate(database.TRANSACTIONS, by="db_namespace, outcome"),
                    "{{db_namespace}} {{outcome}}",
                ),
            ),
        ),
    )


def _caches(names: Names) -> tuple[Panel, ...]:
    hits = names.sum_rate(cache.OPERATIONS, 'result="hit"', by="cache")
    reads = names.sum_rate(cache.OPERATIONS, 'result=~"hit|miss"', by="cache")
    failed = names.sum_rate(cache.OPERATIONS, 'result="error"', by="cache, operation")
    return (
        Panel(
            title="Hits of caches",
            description="The share of the keys that were in the cache. A drop after a deploy: keys changed,"
            " or the cache is new. Low at all times: entries expire too early, or each worker has a cache "
            "of its own.",
            unit="percentunit",
            high=1,
            queries=(Query(f"({hits} or 0 * {reads}) / ({reads} > 0)", "{{cache}}"),),
        ),
        Panel(
            title="Operations of caches per second",
            description="What is done with the caches, by operation and result. As many sets as "
            "hits: entries are written and not read again.",
            unit="ops",
            queries=(
                Query(
                    names.sum_rate(cache.OPERATIONS, by="cache, operation, result"),
                    "{{cache}} {{operation}} {{result}}",
                ),
            ),
        ),
        Panel(
            title="Duration of cache operations, p95",
            description="95 % of the operations take no longer. A cache server answers in a millisecond. If"
            " it does not, look at its load, the network and the size of the values.",
            unit="s",
            limits=Limits(0.05, 0.5),
            queries=(
                Query(names.quantile(0.95, cache.DURATION, by="cache, operation"), "{{cache}} {{operation}}"),
            ),
        ),
        Panel(
            title="Failed operations of caches",
            description="Operations that raised an exception: the cache server is not reached, or a value "
            "cannot be stored.",
            unit="ops",
            queries=(Query(failed, "{{cache}} {{operation}}"),),
        ),
    )


def _calls(names: Names) -> tuple[Panel, ...]:
    address = calls.ADDRESS_LABEL
    legend = f"{{{{{address}}}}}"
    every = names.sum_rate(calls.DURATION, by=address, part="_count")
    failed = names.sum_rate(calls.DURATION, 'error_type!=""', by=address, part="_count")
    return (
        Panel(
            title="Outgoing requests per second",
            description="Requests to other services, by server. More of them with the same traffic are "
            "retries or a loop.",
            unit="reqps",
            width=8,
            queries=(Query(every, legend),),
        ),
        Panel(
            title="Outgoing requests that fail",
            description="The share of the requests that got no response or a status from 400 on, by server."
            " Set time-outs, and find out whether that service is all right.",
            unit="percentunit",
            width=8,
            limits=Limits(0.01, 0.05),
            queries=(Query(f"({failed} or 0 * {every}) / ({every} > 0)", legend),),
        ),
        Panel(
            title="Duration of outgoing requests, p95",
            description="Until the headers of the response, by server. Our routes cannot be faster than the"
            " services that they wait for.",
            unit="s",
            width=8,
            limits=Limits(0.5, 2),
            queries=(Query(names.quantile(0.95, calls.DURATION, by=address), legend),),
        ),
    )


def _django(names: Names) -> tuple[Panel, ...]:
    unapplied = names.of(family(family_names.MIGRATIONS_UNAPPLIED))
    changes = names.sum_rate(family(family_names.MODEL_CHANGES), by="model, operation")
    slow = names.quantile(0.95, family(family_names.TEMPLATE_RENDER), by="template")
    return (
        Panel(
            title="Migrations that are not applied",
            description="Above 0: the code is newer than the database. Run 'manage.py migrate'.",
            kind="stat",
            unit="short",
            width=8,
            limits=Limits(1, 1),
            queries=(Query(f"max by (db_namespace) ({unapplied})", "{{db_namespace}}"),),
        ),
        Panel(
            title="Changes of models per second",
            description="Objects that were created, changed or deleted in transactions that were committed."
            " None where there are some otherwise: a job or a form does not work.",
            unit="ops",
            width=8,
            queries=(Query(changes, "{{model}} {{operation}}"),),
        ),
        Panel(
            title="Duration of templates, p95",
            description="How long templates are rendered, with those that they include. A slow template "
            "often runs queries: compare it with the queries of its route.",
            unit="s",
            width=8,
            limits=Limits(0.1, 0.5),
            queries=(Query(slow, "{{template}}"),),
        ),
    )
