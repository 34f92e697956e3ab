"""The dashboard of a service: is it all right, and which routes are not?"""

from __future__ import annotations

from web_prom.dashboards.model import Column, Dashboard, Limits, Panel, Query, Row
from web_prom.dashboards.names import RANGE, Names
from web_prom.dashboards.request_panels import (
    ERROR_LIMITS,
    ESTIMATED,
    LATENCY_LIMITS,
    exceptions_panel,
    request_panels,
)
from web_prom.dashboards.saturation_panels import QUEUE_LIMITS, USED_LIMITS, utilisation
from web_prom.metrics import conventions

_PURPOSE = """\
Is the service all right, and which of its routes are not?

The first line answers the first question: green is all right. The graphs show since when, and the
vertical lines show deploys and starts of workers. The table answers the second question: click a route
to open its dashboard."""


def dashboard(names: Names) -> Dashboard:
    """Return the dashboard."""
    return Dashboard(
        title="Service",
        purpose=_PURPOSE,
        rows=(
            Row("Now", _stats(names), height=4),
            Row("Requests", request_panels(names)),
            Row("Routes", (_routes(names),), height=11),
            Row("Errors and load", (exceptions_panel(names), _in_progress(names))),
            Row("WebSockets", _websockets(names)),
        ),
    )


def _stat(title: str, description: str, unit: str, expression: str, limits: Limits | None = None) -> Panel:
    return Panel(
        title=title,
        description=description,
        unit=unit,
        kind="stat",
        width=4,
        limits=limits,
        queries=(Query(expression, title),),
    )


def _stats(names: Names) -> tuple[Panel, ...]:
    return (
        _stat(
            "Targets up",
            "The share of the selected instances whose last scrape succeeded. Below 100 %: an instance is "
            "down, or Prometheus does not reach its metrics; see Status > Target health in Prometheus.",
            "percentunit",
            f"avg({names.of('up')})",
            Limits(0.5, 1.0, low=True),
        ),
        _stat(
            "Requests",
            "Requests that ended, in each second. Compare it with the same time of yesterday.",
            "reqps",
            names.sum_rate(names.requests),
        ),
        _stat(
            "Failed requests",
            "The share of the requests that ended in a server error (5xx). From 1 % on look at the "
            "exceptions below. No value: there are no requests.",
            "percentunit",
            names.errors(),
            ERROR_LIMITS,
        ),
        _stat(
            "Duration, p95",
            f"95 % of the requests take no longer. If it is high, sort the table by p95. {ESTIMATED}",
            "s",
            names.quantile(0.95, names.duration),
            LATENCY_LIMITS,
        ),
        _stat(
            "Utilisation",
            "The share of the workers' places that are in use. From 70 % on requests begin to wait: see the"
            " dashboard of workers.",
            "percentunit",
            utilisation(names),
            USED_LIMITS,
        ),
        _stat(
            "Queue, p95",
            "95 % of the requests wait no longer for a worker. From 0.1 s on there are too few places: see "
            "the dashboard of workers. No value: the server gives no time of arrival.",
            "s",
            names.quantile(0.95, conventions.QUEUE_TIME),
            QUEUE_LIMITS,
        ),
    )


def _routes(names: Names) -> Panel:
    def rate(part: str = "") -> str:
        return names.by_route(names.sum_rate(names.duration, by=names.route, part=part, window=RANGE))

    total = names.sum_rate(names.duration, part="_sum", window=RANGE)
    errors = names.by_route(names.errors(by=names.route, window=RANGE))
    slow = names.by_route(names.quantile(0.95, names.duration, by=names.route, window=RANGE))
    return Panel(
        title="Routes, in the time range that is shown",
        description="The routes that take most of the time are first. A large share of the time with a "
        "short p95: reduce the number of calls, or cache the answer. Repeated queries: load the objects at "
        "once, for example with select_related. Click a route for its graphs. Columns of queries need "
        "PROM_DATABASE.",
        kind="table",
        unit="none",
        width=24,
        labels={"route": "Route"},
        route_label="route",
        columns=(
            Column(
                Query(f"{rate('_sum')} / on () group_left () ({total} > 0)"), "Share of time", "percentunit"
            ),
            Column(Query(f"{rate('_count')} > 0"), "Requests", "reqps"),
            Column(Query(errors), "Failed", "percentunit", ERROR_LIMITS),
            Column(Query(f"{slow} > 0"), "p95", "s", LATENCY_LIMITS),
            Column(
                Query(names.per_request(conventions.DB_QUERIES, window=RANGE)),
                "Queries per request",
                "short",
                Limits(20, 50),
            ),
            Column(
                Query(names.per_request(conventions.DB_REPEATED_QUERIES, window=RANGE)),
                "Repeated per request",
                "short",
                Limits(1, 10),
            ),
        ),
    )


def _in_progress(names: Names) -> Panel:
    return Panel(
        title="Requests in progress",
        description="Requests that are served now, by instance. If it rises while the rate of requests does"
        " not, they wait for something: a database, a lock or another service.",
        unit="short",
        queries=(Query(f"sum by (instance) ({names.of(names.in_progress)})", "{{instance}}"),),
    )


def _websockets(names: Names) -> tuple[Panel, ...]:
    return (
        Panel(
            title="Open WebSockets",
            description="Connections that are open now, by instance. A drop to nothing: a deploy or a proxy "
            "closed them all, and the clients connect again at the same time. No line: the service has no "
            "WebSockets.",
            unit="short",
            width=8,
            queries=(
                Query(f"sum by (instance) ({names.of(conventions.WEBSOCKETS_IN_PROGRESS)})", "{{instance}}"),
            ),
        ),
        Panel(
            title="WebSockets that end, per second, by close code",
            description="1000 and 1001 are ordinary ends. 1006: the connection broke. 1011: the application "
            "failed. _rejected: the application did not accept the connection.",
            unit="cps",
            width=8,
            queries=(Query(names.sum_rate(conventions.WEBSOCKETS, by="code"), "{{code}}"),),
        ),
        Panel(
            title="WebSocket messages per second",
            description="Messages from clients and to them. If one message is sent to each open connection, "
            "the rate grows with their number.",
            unit="cps",
            width=8,
            queries=(Query(names.sum_rate(conventions.WEBSOCKET_MESSAGES, by="direction"), "{{direction}}"),),
        ),
    )
