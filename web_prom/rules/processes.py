"""Alerts on the processes of a service, on its databases, and on web-prom itself."""

from __future__ import annotations

from web_prom import family_names
from web_prom.advice.health import SCRAPE_SECONDS
from web_prom.database import conventions as database
from web_prom.metrics.conventions import (
    DB_QUERIES,
    DB_REPEATED_QUERIES,
    ERRORS,
    LABEL_OVERFLOW,
    MetricSpec,
    same_names,
)
from web_prom.rules.model import Alert, Group, RuleOptions
from web_prom.rules.names import Names

RESTARTS = 3
"""How often a worker may be replaced in a quarter of an hour."""

POOL_SHARE = 0.9
REPEATED_SHARE = 0.5
REPEATED_MIN_RATE = 1.0
"""Queries per second of a route from which on their repetition matters."""

_UNAPPLIED = MetricSpec(
    name=family_names.MIGRATIONS_UNAPPLIED, documentation="", labels=same_names("db_namespace")
)


def groups(names: Names, options: RuleOptions) -> list[Group]:
    """Return the groups."""
    return [
        Group("web-prom-processes", (_crash_loop(names),)),
        Group("web-prom-databases", tuple(_databases(names))),
        Group("web-prom-itself", tuple(_exporter(names, options))),
    ]


def _crash_loop(names: Names) -> Alert:
    started = names.plain("process_start_time_seconds")
    measured = names.plain(family_names.SCRAPE_SERIES)
    return Alert(
        alert="CrashLoop",
        # Each software has this metric. A replacement takes over the label of the worker.
        expr=(
            f"max by (job, instance) (changes({started}[15m])) > {RESTARTS}\n"
            f"and on (job, instance) last_over_time({measured}[15m])"
        ),
        severity="page",
        summary=(
            "{{ $labels.job }}: a worker of {{ $labels.instance }} was replaced {{ $value }} times within "
            "15 minutes"
        ),
    )


def _databases(names: Names) -> list[Alert]:
    timeouts = database.TIMEOUTS
    (pool,) = timeouts.labels
    state = next(label for label in database.CONNECTION_COUNT.labels if label != pool)
    used = names.of(database.CONNECTION_COUNT, f'{state}="used"')
    unapplied = names.translated(_UNAPPLIED)
    (alias,) = unapplied.labels
    queries, repeated = (
        f"sum by (job, route) (rate({names.of(spec)}[15m]))" for spec in (DB_QUERIES, DB_REPEATED_QUERIES)
    )
    by_pool = f"sum by (job, instance, {pool})"
    return [
        Alert(
            alert="DatabasePoolExhausted",
            expr=_rises(names, names.of(timeouts), f"job, {pool}", "5m"),
            severity="page",
            summary=(
                f"{{{{ $labels.job }}}}: requests get no connection of the pool {{{{ $labels.{pool} }}}} "
                "within its timeout"
            ),
        ),
        Alert(
            alert="DatabasePoolFull",
            expr=f"{by_pool} ({used})\n/ {by_pool} ({names.of(database.CONNECTION_MAX)}) > {POOL_SHARE:g}",
            wait="10m",
            severity="ticket",
            summary=(
                "{{ $labels.job }}: {{ $value | humanizePercentage }} of the connections of the pool "
                f"{{{{ $labels.{pool} }}}} of {{{{ $labels.instance }}}} are in use"
            ),
        ),
        Alert(
            alert="RepeatedQueries",
            expr=f"{repeated}\n/ {queries} > {REPEATED_SHARE:g}\nand {queries} > {REPEATED_MIN_RATE:g}",
            wait="30m",
            severity="ticket",
            summary=(
                "{{ $labels.job }} {{ $labels.route }}: {{ $value | humanizePercentage }} of the database "
                "queries repeat an earlier one of the same request (N+1)"
            ),
        ),
        Alert(
            alert="UnappliedMigrations",
            expr=f"max by (job, {alias}) ({names.of(_UNAPPLIED)}) > 0",
            wait="15m",
            severity="ticket",
            summary=(
                f"{{{{ $labels.job }}}}: {{{{ $value }}}} migrations are not applied to the database "
                f"{{{{ $labels.{alias} }}}}"
            ),
        ),
    ]


def _exporter(names: Names, options: RuleOptions) -> list[Alert]:
    scrape_seconds = names.plain(family_names.SCRAPE_DURATION)
    found = [
        # It stays so until the replica starts again.
        Alert(
            alert="LabelOverflow",
            expr=f"sum by (job, family) ({names.plain(LABEL_OVERFLOW.name)}) > 0",
            severity="ticket",
            summary=(
                "{{ $labels.job }}: {{ $labels.family }} has too many label sets; the rest is counted as "
                "_overflow"
            ),
        ),
        Alert(
            alert="SlowScrape",
            expr=f"max by (job, instance) ({scrape_seconds}) > {SCRAPE_SECONDS[0]:g}",
            wait="10m",
            severity="ticket",
            summary=(
                "{{ $labels.job }}: a scrape of {{ $labels.instance }} takes {{ $value | humanizeDuration }}"
            ),
        ),
        Alert(
            alert="DamagedFiles",
            expr=f"max by (job, instance) ({names.plain(family_names.DAMAGED_FILES)}) > 0",
            wait="5m",
            severity="ticket",
            summary=(
                "{{ $labels.job }}: {{ $value }} value files of {{ $labels.instance }} are damaged, and "
                "their numbers are missing"
            ),
        ),
        Alert(
            alert="StorageErrors",
            expr=_rises(names, names.plain(family_names.STORAGE_ERRORS), "job, instance", "15m"),
            severity="ticket",
            summary="{{ $labels.job }}: {{ $labels.instance }} cannot write its value files",
        ),
        Alert(
            alert="InstrumentationErrors",
            expr=_rises(names, names.plain(ERRORS.name), "job, stage", "15m"),
            severity="ticket",
            summary=(
                "{{ $labels.job }}: errors in the instrumentation ({{ $labels.stage }}); its log has the "
                "traceback"
            ),
        ),
    ]
    if options.sample_limit:
        found.append(
            Alert(
                alert="TargetNearSampleLimit",
                expr=f"{names.plain(family_names.SCRAPE_SERIES)} > {options.sample_limit * 4 // 5}",
                wait="10m",
                severity="ticket",
                summary=(
                    "{{ $labels.job }}: {{ $labels.instance }} has {{ $value }} series, and "
                    f"{options.sample_limit} may be scraped"
                ),
            )
        )
    return found


def _rises(names: Names, counter: str, labels: str, window: str) -> str:
    """Return an expression for a counter that rose.

    increase() does not see the first error, because the series begins with it. A series can begin with old
    errors if its target was not up before the window. These do not count.
    """
    return (
        f"sum by ({labels}) (increase({counter}[{window}])) > 0\n"
        f"or sum by ({labels}) (\n"
        f"  {counter} unless {counter} offset {window}\n"
        f"  and on (job, instance) ({names.plain('up')} offset {window} == 1)\n"
        ") > 0"
    )
