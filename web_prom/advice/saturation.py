"""Checks of how full a service is: workers, queues, event loops and threads."""

from __future__ import annotations

from collections.abc import Iterator

from web_prom.advice.erlang import mean_wait, servers_for
from web_prom.advice.scrapes import Window
from web_prom.advice.verdict import Severity, Verdict, counted

FULL, BUSY, IDLE = 0.9, 0.7, 0.1
"""Shares of the capacity in use that are critical, a warning, and more than is needed."""

CPU_BOUND, IO_BOUND = 0.7, 0.3
"""Seconds of CPU for each second of a request: above the first threads do not help, below the second they
do."""

QUEUE_SECONDS = (0.1, 1.0)
BACKLOG_SHARES = (0.1, 0.5)
LAG_SECONDS = (0.1, 1.0)
"""From which value on a verdict is a warning, and from which it is critical."""

_ACCEPTABLE_WAIT = 0.1  # of the time of service

# The noun and its plural.
_MORE_PLACES = "more place", "more places"
_MORE_PROCESSES = "more worker process", "more worker processes"


def workers(window: Window) -> Iterator[Verdict]:
    """Compare the requests that are served at once with how many the workers can serve at once.

    By Little's law the seconds of all requests in each second are the mean number of requests in service.
    """
    capacity = window.after.total("http_server_worker_capacity")
    busy = window.rate(f"{window.duration}_sum") if window.duration else None
    finished = window.rate(f"{window.duration}_count") if window.duration else None
    if busy is None or not finished:
        return
    if not capacity:
        yield Verdict(
            name="capacity_unknown",
            severity=Severity.INFO,
            summary=f"{busy:.2f} requests are served at once, of an unknown number that could be.",
            remedy="Set PROM_WORKER_CAPACITY to how many requests one worker serves at once.",
            numbers={"busy": busy},
        )
        return
    share = busy / capacity
    numbers = {"busy": busy, "capacity": capacity, "utilisation": share, "requests_per_second": finished}
    verb = "is" if capacity == 1 else "are"
    described = f"{busy:.2f} of {counted(capacity, 'place')} for requests {verb} in use ({share:.0%})"
    used = window.rate("process_cpu_seconds_total")
    processes = len(window.after.sum_by_label("http_server_worker_capacity", "worker"))
    # The threads of a process share one interpreter: it can be full while places are free.
    core_share = (used or 0.0) / processes
    if max(share, core_share) >= BUSY:
        cpu = None if used is None or busy <= 0 else used / busy
        if cpu is not None:
            numbers |= {"cpu_share": cpu, "core_share": core_share}
        if core_share >= BUSY:
            described += f", and each worker process uses {core_share:.0%} of a core"
        if used is not None and cpu is not None and (cpu >= CPU_BOUND or core_share >= BUSY):
            remedy = (
                f"The requests compute ({cpu:.0%} of their time is CPU): add worker processes, up to the "
                "number of cores. Threads do not help. "
                f"{_more_processes(window, used, finished, processes, numbers)}"
            )
        else:
            remedy = f"{_threads_or_workers(cpu)} {_more_places(window, busy, finished, capacity, numbers)}"
        full = max(share, core_share) >= FULL
        yield Verdict(
            name="workers_full",
            severity=Severity.CRITICAL if full else Severity.WARNING,
            summary=f"The workers are {'full' if full else 'busy'}: {described}.",
            remedy=remedy.strip(),
            numbers=numbers,
        )
    elif share <= IDLE and capacity > 1:
        yield Verdict(
            name="workers_idle",
            severity=Severity.INFO,
            summary=f"The workers are mostly idle: {described}.",
            remedy="Fewer workers or threads would do, if this is the load at its peak.",
            numbers=numbers,
        )
    else:
        yield Verdict(
            name="workers",
            severity=Severity.OK,
            summary=f"The workers have room: {described}.",
            numbers=numbers,
        )


def queue(window: Window) -> Iterator[Verdict]:
    """Look at how long requests waited before a worker took them."""
    waited = window.quantile(window.queue_time, 0.95) if window.queue_time else None
    if waited is None or waited < QUEUE_SECONDS[0]:
        return
    yield Verdict(
        name="queue_time",
        severity=_severity(waited, QUEUE_SECONDS),
        summary=(
            f"One request in twenty waited {waited:.2g} s or longer for a worker (an estimate from buckets)."
        ),
        remedy="Add workers or threads, or make the slowest routes faster.",
        numbers={"p95_seconds": waited},
    )


def backlog(window: Window) -> Iterator[Verdict]:
    """Look at the connections that wait to be accepted."""
    waiting = window.after.sum_by_label("http_server_backlog", "listener")
    limits = window.after.sum_by_label("http_server_backlog_limit", "listener")
    for listener, count in sorted(waiting.items()):
        limit = limits.get(listener, 0.0)
        share = count / limit if limit else 0.0
        if share >= BACKLOG_SHARES[0]:
            yield Verdict(
                name="backlog",
                severity=_severity(share, BACKLOG_SHARES),
                summary=(
                    f"{count:.0f} of {counted(limit, 'place')} of the queue of {listener} are taken "
                    f"({share:.0%})."
                ),
                remedy="Add workers. When the queue is full, the kernel refuses connections.",
                numbers={"waiting": count, "limit": limit, "share": share},
            )
    refused = window.increase("http_server_listen_overflows_total")
    if refused:
        yield Verdict(
            name="listen_overflows",
            severity=Severity.CRITICAL,
            summary=(
                f"The kernel refused {counted(refused, 'connection')} in {window.seconds:.0f} s "
                "because a queue was full."
            ),
            remedy=(
                "Add workers; a longer queue (gunicorn --backlog, net.core.somaxconn) only makes requests "
                "wait longer."
            ),
            numbers={"refused": refused},
        )


def event_loop(window: Window) -> Iterator[Verdict]:
    """Look at how late the timers of event loops are."""
    for kind, family in (
        ("asyncio loop", "asyncio_loop_lag_seconds"),
        ("gevent hub", "gevent_hub_lag_seconds"),
    ):
        lag = window.quantile(family, 0.99)
        if lag is not None and lag >= LAG_SECONDS[0]:
            yield Verdict(
                name="loop_blocked",
                severity=_severity(lag, LAG_SECONDS),
                summary=(
                    f"Something blocks the {kind}: one timer in a hundred is {lag:.2g} s late (an "
                    "estimate from buckets)."
                ),
                remedy=(
                    "Find the view that computes or waits without await, and move that work to a thread "
                    "or to a task queue."
                ),
                numbers={"p99_seconds": lag},
            )


def threads(window: Window) -> Iterator[Verdict]:
    """Look at calls that wait for a thread of anyio's pool."""
    waiting = window.after.total("anyio_threadpool_tasks_waiting")
    tokens = window.after.total("anyio_threadpool_tokens")
    if waiting:
        yield Verdict(
            name="threads_exhausted",
            severity=Severity.WARNING,
            summary=(
                f"{counted(waiting, 'call')} wait{'s' if round(waiting) == 1 else ''} for one of "
                f"{counted(tokens or 0.0, 'thread')} of anyio's pool."
            ),
            remedy=(
                "Make the sync endpoints async, add workers, or raise total_tokens of anyio's default "
                "limiter."
            ),
            numbers={"waiting": waiting, "tokens": tokens or 0.0},
        )


def _threads_or_workers(cpu: float | None) -> str:
    """Say what to add for requests that do not mostly compute."""
    if cpu is None:
        return "Add workers."
    if cpu <= IO_BOUND:
        return (
            f"The requests mostly wait ({cpu:.0%} of their time is CPU): add threads, which cost less "
            "than processes."
        )
    return (
        f"The requests compute and wait ({cpu:.0%} of their time is CPU): add worker processes with two "
        "threads each."
    )


def _more_places(
    window: Window, busy: float, finished: float, capacity: float, numbers: dict[str, float]
) -> str:
    """Estimate how many more places are needed; "" for none."""
    more, text = _estimate(_arriving(window, finished), busy / finished, capacity, _MORE_PLACES)
    if more:
        numbers["more_needed_estimate"] = more
    return text


def _more_processes(
    window: Window, used: float, finished: float, processes: int, numbers: dict[str, float]
) -> str:
    """Estimate how many more processes are needed, by CPU time alone; "" for none."""
    more, text = _estimate(_arriving(window, finished), used / finished, processes, _MORE_PROCESSES)
    if more:
        numbers["more_processes_estimate"] = more
    return text


def _arriving(window: Window, finished: float) -> float:
    """Return the requests that arrive in a second: those that finish, and those by which the queue grows."""
    waiting_now = window.after.total("http_server_backlog") or 0.0
    waiting_then = (window.before.total("http_server_backlog") or 0.0) if window.before else 0.0
    return finished + max(0.0, waiting_now - waiting_then) / window.seconds


def _estimate(arriving: float, service: float, servers: float, noun: tuple[str, str]) -> tuple[float, str]:
    """Return how many more servers keep the wait short, and a sentence about it; 0 and "" for none."""
    load = arriving * service
    needed = servers_for(load, service, _ACCEPTABLE_WAIT * service)
    if needed is None or needed <= servers:
        return 0.0, ""
    more = needed - servers
    wait = mean_wait(needed, load, service)
    return more, (
        f"Estimate (Erlang C, {arriving:.3g} requests/s of {service:.3g} s): at least "
        f"{counted(more, *noun)} bring{'s' if more == 1 else ''} the mean wait down to {wait:.2g} s."
    )


def _severity(value: float, limits: tuple[float, float]) -> Severity:
    return Severity.CRITICAL if value >= limits[1] else Severity.WARNING
