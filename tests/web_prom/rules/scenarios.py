"""Series of a minute's interval for each alert: some that make it fire, and some that must not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Series = Mapping[str, str]
"""The values of each series in promtool's notation, by its name and labels without the job."""

SUM = 'http_request_duration_seconds_sum{method="GET", route="/"}'
BUCKET = 'http_request_duration_seconds_bucket{method="GET", route="/", le="%s"}'
SERIES = 'web_prom_scrape_series{instance="a"}'
UP = 'up{instance="a"}'
POOL = 'db_client_connection_pool_name="main"'


@dataclass(frozen=True)
class Scenario:
    """An alert, what makes it fire, and what does not.

    Attributes:
        labels: The labels of the alert that fires, without the job.
        summary: Its summary, after the job.
        at: When it fires, in minutes.
        fires: Each makes it fire alike.
        silent: None makes it fire, by the reason.
    """

    labels: Mapping[str, str]
    summary: str
    at: int
    fires: Mapping[str, Series]
    silent: Mapping[str, Series] = field(default_factory=dict)


def requests(status: int, count: float, *, resets: bool = False) -> dict[str, str]:
    """Return a counter that rises by a count in each minute, for 70 minutes."""
    return {
        f'http_requests_total{{method="GET", route="/", status="{status}"}}': rising(count, resets=resets)
    }


def rising(count: float, *, resets: bool = False) -> str:
    """Return values that rise by a count in each minute; with resets from the start again at minute 25."""
    return f"0+{count}x24 0+{count}x50" if resets else f"0+{count}x75"


def histogram(bucket: str, counts: Mapping[str, float], *, resets: bool = False) -> dict[str, str]:
    """Return a histogram's buckets, each of which rises by a count in each minute."""
    return {bucket % bound: rising(count, resets=resets) for bound, count in counts.items()}


def slow(fast: float, every: float, *, resets: bool = False) -> Series:
    """Return requests of which some take less than half a second."""
    counted = requests(200, every, resets=resets)
    return {**counted, **histogram(BUCKET, {"0.5": fast, "+Inf": every}, resets=resets)}


def errors(succeed: float, fail: float, *, resets: bool = False) -> Series:
    """Return requests of which some fail."""
    return {**requests(200, succeed, resets=resets), **requests(500, fail, resets=resets)}


def busy(seconds: float, *, each_minute: float = 60, resets: bool = False) -> Series:
    """Return requests that take so many seconds in each minute, of a worker with one place."""
    return {
        **requests(200, each_minute, resets=resets),
        SUM: rising(seconds, resets=resets),
        'http_server_worker_capacity{instance="a", worker="0"}': "1x75",
    }


def waiting(fast: float, *, each_minute: float = 100, resets: bool = False) -> Series:
    """Return requests that wait for a worker, of which some wait less than half a second."""
    bounds = {"0.1": 0, "0.5": fast, "1.0": each_minute, "+Inf": each_minute}
    return {
        **requests(200, each_minute, resets=resets),
        **histogram('http_request_queue_seconds_bucket{le="%s"}', bounds, resets=resets),
    }


def late(family: str, on_time: float, *, resets: bool = False) -> Series:
    """Return timers of which some are less than 50 ms late, and the others less than half a second."""
    bounds = {"0.05": on_time, "0.5": 1000, "+Inf": 1000}
    return histogram(f'{family}_bucket{{le="%s"}}', bounds, resets=resets)


def queries(count: float, repeated: float | None, *, resets: bool = False) -> Series:
    """Return queries of a route, of which some are repeated."""
    labels = '{method="GET", route="/list"}'
    found = {f"http_request_db_queries_total{labels}": rising(count, resets=resets)}
    if repeated is not None:
        found[f"http_request_db_repeated_queries_total{labels}"] = rising(repeated, resets=resets)
    return found


def rises(counter: str, labels: Mapping[str, str], summary: str) -> Scenario:
    """Return the scenario of an alert on any rise of a counter."""
    return Scenario(
        labels,
        summary,
        at=60,
        fires={
            "a rise": {counter: "5x57 7x20"},
            "the first error": {UP: "1x75", counter: "_x57 1x20"},
            "a rise after a reset": {counter: "5x55 0 1x20"},
        },
        silent={
            "no rise": {counter: "5x75"},
            "no series": {},
            "a reset": {counter: "5x55 0x20"},
            "errors before Prometheus started": {UP: "_x57 1x20", counter: "_x57 7x20"},
            "errors before the target was down": {UP: "1x9 0x47 1x20", counter: "7x9 _x47 7x20"},
        },
    )


def above(series: str, fires: str, silent: str, labels: Mapping[str, str], summary: str) -> Scenario:
    """Return the scenario of an alert on the value of one series."""
    return Scenario(
        labels,
        summary,
        at=60,
        fires={"above": {series: f"{fires}x75"}},
        silent={
            "just below": {series: f"{silent}x75"},
            "no series": {},
            "too short": {series: f"_x75 {fires}"},
        },
    )


PAGE, TICKET = {"severity": "page"}, {"severity": "ticket"}
POOL_COUNT = f'db_client_connection_count{{instance="a", {POOL}, db_client_connection_state="%s"}}'
POOL_MAX = f'db_client_connection_max{{instance="a", {POOL}}}'


def replaced(started: str) -> Series:
    """Return two workers: one that was replaced at some times, and one that was replaced once."""
    return {
        'process_start_time_seconds{instance="a", worker="0"}': started,
        'process_start_time_seconds{instance="a", worker="1"}': "7x55 8x20",
        SERIES: "300x75",
    }


SCENARIOS: Mapping[str, Scenario] = {
    "TargetDown": Scenario(
        {"instance": "a", **TICKET},
        ": a cannot be scraped",
        at=60,
        fires={"down": {UP: "1x50 0x25", SERIES: "300x50 _x25"}},
        silent={
            "up": {UP: "1x75", SERIES: "300x75"},
            "down for a minute": {UP: "1x58 0x20", SERIES: "300x58 _x20"},
            "other software": {UP: "0x75"},
        },
    ),
    "AllTargetsGone": Scenario(
        PAGE,
        ": no replica can be scraped",
        at=60,
        fires={
            "down": {UP: "1x50 0x25", SERIES: "300x50 _x25"},
            "gone": {UP: "1x50 _x25", SERIES: "300x50 _x25"},
        },
        silent={
            "one is up": {UP: "1x50 0x25", SERIES: "300x75", 'up{instance="b"}': "1x75"},
            "other software": {UP: "0x75"},
        },
    ),
    "ErrorBudgetBurnsFast": Scenario(
        PAGE,
        ": 1.5% of the requests end in a server error within 1h or 6h; the objective allows 0.1 %",
        at=65,
        fires={"steady": errors(985, 15), "resets": errors(985, 15, resets=True)},
        silent={
            "just below": errors(994.1, 5.9),
            "low traffic": errors(0, 5),
            "no error series": requests(200, 1000),
            "resets": requests(200, 1000, resets=True),
            "no requests": requests(500, 0),
        },
    ),
    "LatencyBudgetBurnsFast": Scenario(
        PAGE,
        ": 15% of the requests take longer than 0.5 s within 1h or 6h; the objective allows 1 %",
        at=65,
        fires={"steady": slow(850, 1000), "resets": slow(850, 1000, resets=True)},
        silent={
            "just below": slow(941, 1000),
            "low traffic": slow(0, 5),
            "no slow request": slow(1000, 1000),
            "resets": slow(1000, 1000, resets=True),
            "no requests": slow(0, 0),
        },
    ),
    "CrashLoop": Scenario(
        {"instance": "a", **PAGE},
        ": a worker of a was replaced 4 times within 15 minutes",
        at=60,
        fires={"four": replaced("1x50 2 3 3 4 4 5 5x25")},
        silent={
            "three": replaced("1x50 2 3 3 4 4 4 4x25"),
            "other software": {'process_start_time_seconds{instance="a"}': "1x50 2 3 3 4 4 5 5x25"},
        },
    ),
    "DatabasePoolExhausted": rises(
        f'db_client_connection_timeouts_total{{instance="a", {POOL}}}',
        {"db_client_connection_pool_name": "main", **PAGE},
        ": requests get no connection of the pool main within its timeout",
    ),
    "DatabasePoolFull": Scenario(
        {"instance": "a", "db_client_connection_pool_name": "main", **TICKET},
        ": 95% of the connections of the pool main of a are in use",
        at=60,
        fires={"19 of 20": {POOL_COUNT % "used": "19x75", POOL_COUNT % "idle": "1x75", POOL_MAX: "20x75"}},
        silent={
            "18 of 20": {POOL_COUNT % "used": "18x75", POOL_MAX: "20x75"},
            "no limit": {POOL_COUNT % "used": "18x75"},
        },
    ),
    "RepeatedQueries": Scenario(
        {"route": "/list", **TICKET},
        " /list: 60% of the database queries repeat an earlier one of the same request (N+1)",
        at=65,
        fires={"steady": queries(100, 60), "resets": queries(100, 60, resets=True)},
        silent={
            "just below": queries(100, 49.9),
            "low traffic": queries(59, 59),
            "no repeated series": queries(100, None),
            "resets": queries(100, 40, resets=True),
        },
    ),
    "UnappliedMigrations": above(
        'django_migrations_unapplied{instance="a", db_namespace="default"}',
        *("2", "0"),
        {"db_namespace": "default", **TICKET},
        ": 2 migrations are not applied to the database default",
    ),
    "LabelOverflow": Scenario(
        {"family": "http_requests_total", **TICKET},
        ": http_requests_total has too many label sets; the rest is counted as _overflow",
        at=60,
        fires={"one": {'web_prom_label_overflow_total{family="http_requests_total"}': "1x75"}},
        silent={
            "none": {'web_prom_label_overflow_total{family="http_requests_total"}': "0x75"},
            "no series": {},
        },
    ),
    "SlowScrape": above(
        'web_prom_scrape_duration_seconds{instance="a"}',
        *("1.5", "1"),
        {"instance": "a", **TICKET},
        ": a scrape of a takes 1.5s",
    ),
    "DamagedFiles": above(
        'web_prom_damaged_files{instance="a"}',
        *("1", "0"),
        {"instance": "a", **TICKET},
        ": 1 value files of a are damaged, and their numbers are missing",
    ),
    "StorageErrors": rises(
        'web_prom_storage_errors_total{instance="a"}',
        {"instance": "a", **TICKET},
        ": a cannot write its value files",
    ),
    "InstrumentationErrors": rises(
        'web_prom_instrumentation_errors_total{instance="a", stage="route"}',
        {"stage": "route", **TICKET},
        ": errors in the instrumentation (route); its log has the traceback",
    ),
    "TargetNearSampleLimit": above(
        SERIES,
        *("4001", "4000"),
        {"instance": "a", **TICKET},
        ": a has 4001 series, and 5000 may be scraped",
    ),
    "WorkersFull": Scenario(
        PAGE,
        ": 95% of the workers' places are in use",
        at=65,
        fires={"steady": busy(57), "resets": busy(57, resets=True)},
        silent={
            "just below": busy(53.9),
            "low traffic": busy(57, each_minute=5),
            "no capacity": {SUM: rising(57), **requests(200, 60)},
            "resets": busy(50, resets=True),
        },
    ),
    "WorkersBusy": Scenario(
        TICKET,
        ": 75% of the workers' places are in use",
        at=65,
        fires={"steady": busy(45), "resets": busy(45, resets=True)},
        silent={
            "just below": busy(41.9),
            "low traffic": busy(45, each_minute=5),
            "resets": busy(40, resets=True),
        },
    ),
    "RequestsWait": Scenario(
        PAGE,
        ": 5 % of the requests wait longer than 750ms for a worker",
        at=65,
        fires={"steady": waiting(90), "resets": waiting(90, resets=True)},
        silent={
            "just below": waiting(95.1),
            "low traffic": waiting(0, each_minute=5),
            "no queue time": requests(200, 100),
            "resets": waiting(96, resets=True),
        },
    ),
    "BacklogFills": Scenario(
        {"instance": "a", "listener": "0.0.0.0:8000", **PAGE},
        ": 62.5% of the queue of a at 0.0.0.0:8000 is taken",
        at=60,
        fires={
            "40 of 64": {
                'http_server_backlog{instance="a", listener="0.0.0.0:8000"}': "40x75",
                'http_server_backlog_limit{instance="a", listener="0.0.0.0:8000"}': "64x75",
                # The other listener of the same replica has room.
                'http_server_backlog{instance="a", listener="unix:/run/shop.sock"}': "32x75",
                'http_server_backlog_limit{instance="a", listener="unix:/run/shop.sock"}': "64x75",
            }
        },
        silent={
            "half": {
                'http_server_backlog{instance="a", listener="0.0.0.0:8000"}': "32x75",
                'http_server_backlog_limit{instance="a", listener="0.0.0.0:8000"}': "64x75",
            },
            "no limit": {'http_server_backlog{instance="a", listener="0.0.0.0:8000"}': "40x75"},
        },
    ),
    "ConnectionsRefused": Scenario(
        {"instance": "a", **PAGE},
        ": the kernel of a refuses connections, because a queue is full",
        at=60,
        fires={
            "a rise": {'http_server_listen_overflows_total{instance="a"}': "5x57 8x20"},
            "a rise after a reset": {'http_server_listen_overflows_total{instance="a"}': "5x55 0 1x20"},
        },
        silent={
            "no rise": {'http_server_listen_overflows_total{instance="a"}': "5x75"},
            "a reset": {'http_server_listen_overflows_total{instance="a"}': "5x55 0x20"},
            "no series": {},
        },
    ),
    "EventLoopBlocked": Scenario(
        TICKET,
        ": one timer in a hundred is 275ms late",
        at=65,
        fires={
            "asyncio": late("asyncio_loop_lag_seconds", 980),
            "gevent": late("gevent_hub_lag_seconds", 980),
            "resets": late("asyncio_loop_lag_seconds", 980, resets=True),
        },
        silent={
            "just below": late("asyncio_loop_lag_seconds", 982.5),
            "no series": {},
            "resets": late("asyncio_loop_lag_seconds", 991, resets=True),
        },
    ),
}
"""By the name of the alert."""
