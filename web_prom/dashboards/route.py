"""The dashboard of one or several routes."""

from __future__ import annotations

from web_prom.dashboards.model import Dashboard, Limits, Panel, Query, Row
from web_prom.dashboards.names import Names
from web_prom.dashboards.request_panels import exceptions_panel, request_panels
from web_prom.metrics import conventions

_PURPOSE = """\
What happens in one route?

Select the route above. Durations and errors show the fault, the rows below show what the time is spent
on. Graphs of queries need `PROM_DATABASE`, those of sizes and first bytes need `PROM_REQUEST_SIZE`,
`PROM_RESPONSE_SIZE` and `PROM_FIRST_BYTE`."""

_OF_QUERIES = 'route=~"$route"'


def dashboard(names: Names) -> Dashboard:
    """Return the dashboard."""
    return Dashboard(
        title="Route",
        purpose=_PURPOSE,
        has_route=True,
        rows=(
            Row("Requests", request_panels(names, names.matches_route())),
            Row(
                "What the time is spent on", (_queries(names), _share(names), _repeated(names), _mean(names))
            ),
            Row("Errors", (exceptions_panel(names, names.matches_route()), _statuses(names))),
            Row("Bodies", (_first_byte(names), _sizes(names))),
        ),
    )


def _queries(names: Names) -> Panel:
    return Panel(
        title="Queries per request",
        description="Database queries that a request of the route runs, on average. A number that grows "
        "with the data is a query in a loop.",
        unit="short",
        limits=Limits(20, 50),
        queries=(Query(names.per_request(conventions.DB_QUERIES, _OF_QUERIES), "{{route}}"),),
    )


def _repeated(names: Names) -> Panel:
    return Panel(
        title="Repeated queries per request (N+1)",
        description="Executions of one SQL text beyond the second in the same request. From 1 on load the "
        "objects at once, for example with select_related, prefetch_related or joinedload.",
        unit="short",
        limits=Limits(1, 10),
        queries=(Query(names.per_request(conventions.DB_REPEATED_QUERIES, _OF_QUERIES), "{{route}}"),),
    )


def _share(names: Names) -> Panel:
    seconds = names.sum_rate(names.duration, by=names.route, part="_sum")
    spent = names.sum_rate(conventions.DB_SECONDS, _OF_QUERIES, by="route")
    return Panel(
        title="The database's share of the time",
        description="Near 100 %: the route waits for the database, so look for slow or for many queries. "
        "Near 0: the time is spent in Python or in other services.",
        unit="percentunit",
        queries=(Query(f"{spent} / ({names.by_route(seconds)} > 0)", "{{route}}"),),
    )


def _mean(names: Names) -> Panel:
    matcher = names.matches_route()
    seconds = names.sum_rate(names.duration, matcher, by=names.route, part="_sum")
    count = names.sum_rate(names.duration, matcher, by=names.route, part="_count")
    return Panel(
        title="Mean duration by route",
        description="It is exact, unlike the percentiles. A mean far above p50 comes from a few slow "
        "requests.",
        unit="s",
        queries=(Query(f"{seconds} / ({count} > 0)", f"{{{{{names.route}}}}}"),),
    )


def _statuses(names: Names) -> Panel:
    return Panel(
        title="Requests per second by status",
        description="Which status exactly. 499: the client closed the connection before the answer was "
        "complete.",
        unit="reqps",
        queries=(
            Query(
                names.sum_rate(names.requests, names.matches_route(), by=names.status),
                f"{{{{{names.status}}}}}",
            ),
        ),
    )


def _first_byte(names: Names) -> Panel:
    return Panel(
        title="First byte",
        description="From the call of the application to the first byte of the body. Far below the "
        "duration: the rest is a stream, or a client that reads slowly.",
        unit="s",
        queries=tuple(
            Query(names.quantile(quantile, conventions.FIRST_BYTE, _OF_QUERIES), f"p{quantile * 100:g}")
            for quantile in (0.5, 0.95)
        ),
    )


def _sizes(names: Names) -> Panel:
    matcher = names.matches_route()
    return Panel(
        title="Sizes of bodies, p95",
        description="Bytes that were read and sent. Large responses take long on slow connections: use "
        "pages or compression.",
        unit="bytes",
        queries=(
            Query(names.quantile(0.95, names.request_size, matcher), "request"),
            Query(names.quantile(0.95, names.response_size, matcher), "response"),
        ),
    )
