"""Panels about requests, for all routes or for the selected ones."""

from __future__ import annotations

from web_prom.dashboards.model import Limits, Panel, Query
from web_prom.dashboards.names import Names

ERROR_LIMITS = Limits(0.01, 0.05)
LATENCY_LIMITS = Limits(0.5, 1.0)

_CLASS_COLORS = {"2xx": "green", "3xx": "blue", "4xx": "yellow", "5xx": "red"}

ESTIMATED = (
    "Percentiles are estimates: the values between the bounds of two buckets are taken as evenly spread."
)


def request_panels(names: Names, *matchers: str) -> tuple[Panel, ...]:
    """Return the panels for rate, errors and durations.

    Args:
        names: The names of the series.
        *matchers: Which requests they are about; none for all.
    """
    return (
        Panel(
            title="Requests per second by status class",
            description="How much traffic there is and how it ends. A drop to nothing with a healthy "
            "target: look at the proxy or the clients. Many 4xx on one route: a broken link, or somebody "
            "tries paths.",
            unit="reqps",
            stacked=True,
            colors=_CLASS_COLORS,
            queries=tuple(
                Query(names.sum_rate(names.requests, f'{names.status}=~"{digit}.."', *matchers), f"{digit}xx")
                for digit in "2345"
            ),
        ),
        Panel(
            title="Share of requests that fail",
            description="Server errors (5xx) of all requests. Above 1 % look at the exceptions and at the "
            "table of routes. No line: no requests. 0: requests and no error.",
            unit="percentunit",
            limits=ERROR_LIMITS,
            queries=(Query(names.errors(*matchers), "5xx"),),
        ),
        Panel(
            title="Duration",
            description="From the call of the application to the last byte of its body. p95: 95 % of the "
            "requests take no longer. p99 rises alone: a few slow requests; all rise: the whole service is "
            f"slow. {ESTIMATED}",
            unit="s",
            limits=LATENCY_LIMITS,
            queries=tuple(
                Query(names.quantile(quantile, names.duration, *matchers), f"p{quantile * 100:g}")
                for quantile in (0.5, 0.95, 0.99)
            ),
        ),
        Panel(
            title="Durations as a heat map",
            description="Each cell is the number of requests with a duration between two bounds. Two bands "
            "are two kinds of requests, for example hits and misses of a cache. A band that moves up is a "
            "change for all.",
            kind="heatmap",
            unit="s",
            low=None,
            queries=(
                Query(
                    f"sum by (le) (increase({names.of(names.duration, *matchers, part='_bucket')}"
                    "[$__rate_interval]))",
                    "{{le}}",
                ),
            ),
        ),
    )


def exceptions_panel(names: Names, *matchers: str) -> Panel:
    """Return the panel of exceptions by type."""
    expression, label = names.exceptions(*matchers)
    return Panel(
        title="Exceptions by type",
        description="Exceptions that left a view and ended the request with a server error or in no "
        "response. A new type after a deploy is a fault of that deploy. The traceback is in the log.",
        unit="cps",
        queries=(Query(expression, f"{{{{{label}}}}}"),),
    )
