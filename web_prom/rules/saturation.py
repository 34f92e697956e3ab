"""Rules on how full a service is: workers, queues and event loops."""

from __future__ import annotations

from web_prom import family_names
from web_prom.advice.saturation import BACKLOG_SHARES, BUSY, FULL
from web_prom.metrics.conventions import QUEUE_TIME
from web_prom.rules import recordings
from web_prom.rules.model import Alert, Group, Recording, RuleOptions
from web_prom.rules.names import Names

UTILISATION = "job:http_server:utilisation5m"
CPU_SHARE = "job:http_server:cpu_share5m"
QUEUE = "job:http_request_queue_seconds:p95_5m"
BACKLOG = "job_listener:http_server_backlog:ratio"
LOOP_LAG = "job:asyncio_loop_lag_seconds:p99_5m"
HUB_LAG = "job:gevent_hub_lag_seconds:p99_5m"

QUEUE_SECONDS = 0.5
LAG_SECONDS = 0.25


def groups(names: Names, options: RuleOptions) -> list[Group]:
    """Return the groups."""
    return [
        Group("web-prom-saturation", tuple(_recordings(names))),
        Group("web-prom-saturation-alerts", tuple(_alerts(names, options))),
    ]


def _recordings(names: Names) -> list[Recording]:
    # By Little's law, the seconds of all requests in each second are the mean number of busy places.
    busy = f"sum by (job) (rate({names.of(names.naming.duration, part='_sum')}[5m]))"
    cpu = f"sum by (job) (rate({names.plain('process_cpu_seconds_total')}[5m]))"
    capacity = f"sum by (job) ({names.plain(family_names.WORKER_CAPACITY)})"
    by_listener = "sum by (job, instance, listener)"
    waiting, limit = (names.plain(name) for name in (family_names.BACKLOG, family_names.BACKLOG_LIMIT))
    return [
        Recording(UTILISATION, f"{busy}\n/ {capacity}"),
        # Near 0 the requests wait, near 1 they compute.
        Recording(CPU_SHARE, f"{cpu}\n/ ({busy} > 0)"),
        Recording(QUEUE, _quantile("0.95", names.of(QUEUE_TIME, part="_bucket"))),
        Recording(BACKLOG, f"{by_listener} ({waiting})\n/ {by_listener} ({limit})"),
        Recording(LOOP_LAG, _quantile("0.99", names.plain(f"{family_names.LOOP_LAG}_bucket"))),
        Recording(HUB_LAG, _quantile("0.99", names.plain(f"{family_names.HUB_LAG}_bucket"))),
    ]


def _quantile(quantile: str, buckets: str) -> str:
    return f"histogram_quantile({quantile}, sum by (job, le) (rate({buckets}[5m])))"


def _alerts(names: Names, options: RuleOptions) -> list[Alert]:
    # One long request, or one that waited, is no reason to wake somebody.
    enough = f"and {names.plain(recordings.REQUESTS)} > {options.min_rate:g}"
    places = "{{ $labels.job }}: {{ $value | humanizePercentage }} of the workers' places are in use"
    utilisation, queue, backlog, loop_lag, hub_lag = map(
        names.plain, (UTILISATION, QUEUE, BACKLOG, LOOP_LAG, HUB_LAG)
    )
    overflows = names.plain(family_names.LISTEN_OVERFLOWS)
    return [
        Alert(
            alert="WorkersFull",
            expr=f"{utilisation} > {FULL:g} {enough}",
            wait="5m",
            severity="page",
            summary=places,
        ),
        Alert(
            alert="WorkersBusy",
            expr=f"{utilisation} > {BUSY:g} {enough}",
            wait="30m",
            severity="ticket",
            summary=places,
        ),
        Alert(
            alert="RequestsWait",
            expr=f"{queue} > {QUEUE_SECONDS:g} {enough}",
            wait="5m",
            severity="page",
            summary=(
                "{{ $labels.job }}: 5 % of the requests wait longer than {{ $value | humanizeDuration }} "
                "for a worker"
            ),
        ),
        Alert(
            alert="BacklogFills",
            expr=f"{backlog} > {BACKLOG_SHARES[1]:g}",
            wait="2m",
            severity="page",
            summary=(
                "{{ $labels.job }}: {{ $value | humanizePercentage }} of the queue of "
                "{{ $labels.instance }} at {{ $labels.listener }} is taken"
            ),
        ),
        Alert(
            alert="ConnectionsRefused",
            expr=f"sum by (job, instance) (increase({overflows}[5m])) > 0",
            severity="page",
            summary=(
                "{{ $labels.job }}: the kernel of {{ $labels.instance }} refuses connections, because a "
                "queue is full"
            ),
        ),
        # The lag is that of timers, which run without requests too.
        Alert(
            alert="EventLoopBlocked",
            expr=f"{loop_lag} > {LAG_SECONDS:g} or {hub_lag} > {LAG_SECONDS:g}",
            wait="10m",
            severity="ticket",
            summary="{{ $labels.job }}: one timer in a hundred is {{ $value | humanizeDuration }} late",
        ),
    ]
