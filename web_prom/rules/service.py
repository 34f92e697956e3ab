"""Alerts on what the users of a service see: targets, errors and latency.

The alerts on errors and latency follow "Alerting on SLOs" of Google's Site Reliability Workbook
(https://sre.google/workbook/alerting-on-slos/): several windows and several burn rates. A burn rate of 1 uses
up the error budget of 30 days in 30 days. An alert fires if the rate is high within a long window, which
shows that it matters, and within a short window, which shows that it goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from web_prom import family_names
from web_prom.rules import recordings
from web_prom.rules.model import FASTEST_BURN, Alert, Group, RuleOptions, Severity
from web_prom.rules.names import Names, string


class Burn(NamedTuple):
    """A burn rate that alerts: budgets per budget period, and the windows in which it must be exceeded."""

    rate: float
    long: str
    short: str


FAST = (Burn(FASTEST_BURN, "1h", "5m"), Burn(6, "6h", "30m"))
SLOW = (Burn(3, "1d", "2h"), Burn(1, "3d", "6h"))
"""2 % of the budget in 1 hour, 5 % in 6 hours; 10 % in 1 day, 10 % in 3 days."""

SEEN = "1d"
"""For how long the alerts on targets remember a job that web-prom measured."""


def groups(names: Names, options: RuleOptions) -> list[Group]:
    """Return the groups."""
    return [
        Group("web-prom-targets", (_target_down(names, options), _all_gone(names, options))),
        Group("web-prom-objectives", _budget_alerts(names, options)),
    ]


def _target_down(names: Names, options: RuleOptions) -> Alert:
    down = f"{names.plain('up')} == 0"
    if not options.jobs:
        # The targets of other software are the business of other rules.
        down += f"\nand on (job) group by (job) (last_over_time({family_names.SCRAPE_SERIES}[{SEEN}]))"
    return Alert(
        alert="TargetDown",
        expr=down,
        wait="2m",
        severity="ticket",
        summary="{{ $labels.job }}: {{ $labels.instance }} cannot be scraped",
    )


def _all_gone(names: Names, options: RuleOptions) -> Alert:
    if options.jobs:
        absent = [f"absent(up{{job={string(job)}}})" for job in options.jobs]
        gone = "\nor ".join((*absent, f"sum by (job) ({names.plain('up')}) == 0"))
    else:
        gone = (
            f"group by (job) (last_over_time({family_names.SCRAPE_SERIES}[{SEEN}]))\n"
            "unless on (job) (up == 1)"
        )
    return Alert(
        alert="AllTargetsGone",
        expr=gone,
        wait="2m",
        severity="page",
        summary="{{ $labels.job }}: no replica can be scraped",
    )


def _budget_alerts(names: Names, options: RuleOptions) -> tuple[Alert, ...]:
    value = "{{ $labels.job }}: {{ $value | humanizePercentage }} of the requests"
    # Averages of the recorded rates cost little over days, and survive restarts of the counters.
    every, errors = names.plain(recordings.REQUESTS), names.plain(recordings.ERRORS)
    fast, timed = (
        names.plain(recordings.DURATION_BUCKETS, f'le="{bound}"') for bound in (options.latency_bound, "+Inf")
    )

    def error_ratio(window: str) -> str:
        return f"avg_over_time({errors}[{window}])\n    / avg_over_time({every}[{window}])"

    def slow_ratio(window: str) -> str:
        return (
            f"1 - sum by (job) (avg_over_time({fast}[{window}]))\n"
            f"    / sum by (job) (avg_over_time({timed}[{window}]))"
        )

    def alerts(name: str, ratio: Callable[[str], str], objective: float, summary: str) -> Iterator[Alert]:
        budget = (100 - objective) / 100
        for suffix, severity, burns, wait in _LEVELS:
            yield Alert(
                alert=name + suffix,
                expr="\nor ".join(
                    _burning(burn, ratio, f"{burn.rate * budget:.10g}", f"{every}[{burn.long}]", options)
                    for burn in burns
                ),
                wait=wait,
                severity=severity,
                summary=(
                    f"{value} {summary} within {' or '.join(burn.long for burn in burns)}; the objective "
                    f"allows {100 * budget:.10g} %"
                ),
            )

    return (
        *alerts("ErrorBudget", error_ratio, options.slo, "end in a server error"),
        *alerts("LatencyBudget", slow_ratio, options.latency_slo, f"take longer than {options.latency:g} s"),
    )


_LEVELS: tuple[tuple[str, Severity, tuple[Burn, ...], str], ...] = (
    ("BurnsFast", "page", FAST, "2m"),
    ("Burns", "ticket", SLOW, "15m"),
)


def _burning(burn: Burn, ratio: Callable[[str], str], limit: str, requests: str, options: RuleOptions) -> str:
    return (
        f"(\n  {ratio(burn.long)} > {limit}\n"
        f"  and {ratio(burn.short)} > {limit}\n"
        f"  and avg_over_time({requests}) > {options.min_rate:g}\n)"
    )
