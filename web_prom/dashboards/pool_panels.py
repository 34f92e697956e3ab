"""Panels about the connections to databases."""

from __future__ import annotations

from web_prom.dashboards.model import Limits, Panel, Query
from web_prom.dashboards.names import Names
from web_prom.database import conventions as database

_POOL = "db_client_connection_pool_name"
_LEGEND = f"{{{{{_POOL}}}}}"


def pool_panels(names: Names) -> tuple[Panel, ...]:
    """Return the panels of connections and pools."""
    is_used = 'db_client_connection_state="used"'
    used = f"sum by ({_POOL}) ({names.of(database.CONNECTION_COUNT, is_used)})"
    most = f"sum by ({_POOL}) ({names.of(database.CONNECTION_MAX)})"
    return (
        Panel(
            title="Pools in use",
            description="Used connections of those that the pool may have, now. A short peak falls between "
            "two scrapes: see the time to get a connection. Near 100 %: a larger pool, or shorter "
            "transactions.",
            unit="percentunit",
            width=8,
            limits=Limits(0.8, 0.95),
            queries=(Query(f"{used} / ({most} > 0)", _LEGEND),),
        ),
        Panel(
            title="Time to get a connection, p95",
            description="How long requests wait for a connection of the pool. From 10 ms on the pool is too"
            " small, or connections are held for too long.",
            unit="s",
            width=8,
            limits=Limits(0.01, 0.1),
            queries=(Query(names.quantile(0.95, database.WAIT_TIME, by=_POOL), _LEGEND),),
        ),
        Panel(
            title="Time that a connection is held, p95",
            description="Between the checkout of a connection and its return. Far above the duration of "
            "operations: requests hold a connection while they do something else.",
            unit="s",
            width=8,
            queries=(Query(names.quantile(0.95, database.USE_TIME, by=_POOL), _LEGEND),),
        ),
        Panel(
            title="New connections per second",
            description="Connections that were opened. As many as requests: there is no pool, and each "
            "request pays for a connection. In Django set CONN_MAX_AGE or a pool.",
            unit="cps",
            width=8,
            queries=(Query(names.sum_rate(database.OPENED, by=_POOL), _LEGEND),),
        ),
        Panel(
            title="Time to open a connection, p95",
            description="A slow start of connections makes the first requests slow: look at the network, "
            "TLS and the name server.",
            unit="s",
            width=8,
            limits=Limits(0.1, 1),
            queries=(Query(names.quantile(0.95, database.CREATE_TIME, by=_POOL), _LEGEND),),
        ),
        Panel(
            title="Connections that failed, and waits that timed out",
            description="Above 0 requests fail. Failed: the database refuses connections. Timed out: the "
            "pool has none that is free.",
            unit="cps",
            width=8,
            limits=Limits(0.001, 0.1),
            queries=(
                Query(
                    names.sum_rate(database.FAILURES, by=f"{_POOL}, error_type"),
                    f"{_LEGEND} {{{{error_type}}}}",
                ),
                Query(names.sum_rate(database.TIMEOUTS, by=_POOL), f"{_LEGEND} timed out"),
                Query(f"sum by ({_POOL}) ({names.of(database.PENDING_REQUESTS)})", f"{_LEGEND} waiting now"),
            ),
        ),
    )
