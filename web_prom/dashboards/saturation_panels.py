"""Panels about the places of workers, and the queues before them."""

from __future__ import annotations

from web_prom import family_names
from web_prom.dashboards.model import Limits, Panel, Query
from web_prom.dashboards.names import Names
from web_prom.metrics import conventions

USED_LIMITS = Limits(0.7, 0.9)
QUEUE_LIMITS = Limits(0.1, 0.5)


def utilisation(names: Names) -> str:
    """Return the share of the workers' places that are in use.

    By Little's law the seconds of all requests in each second are the mean number of busy places.
    """
    busy = names.sum_rate(names.duration, part="_sum")
    return f"{busy} / sum({names.of(family_names.WORKER_CAPACITY)})"


def saturation_panels(names: Names) -> tuple[Panel, ...]:
    """Return the panels that say whether there are enough workers."""
    backlog, limit = (
        f"sum by (instance, listener) ({names.of(name)})"
        for name in (family_names.BACKLOG, family_names.BACKLOG_LIMIT)
    )
    cpu = names.sum_rate(family_names.PROCESS_CPU)
    busy = names.sum_rate(names.duration, part="_sum")
    return (
        Panel(
            title="Utilisation",
            description="Busy seconds in each second, divided by the places of all workers. From 70 % on "
            "requests begin to wait: add places. Below 10 % at all times fewer workers would do.",
            unit="percentunit",
            limits=USED_LIMITS,
            queries=(Query(utilisation(names), "in use"),),
        ),
        Panel(
            title="Places",
            description="How many requests the workers can serve at once, and how many they serve on "
            "average. Places that vanish are workers that do not run.",
            unit="short",
            queries=(
                Query(f"sum({names.of(family_names.WORKER_CAPACITY)})", "places"),
                Query(busy, "busy"),
            ),
        ),
        Panel(
            title="Queue time",
            description="How long requests wait for a worker. A queue with low utilisation comes from "
            "bursts, or from something that blocks: look at the lag of event loops and at garbage "
            "collection.",
            unit="s",
            limits=QUEUE_LIMITS,
            queries=tuple(
                Query(names.quantile(quantile, conventions.QUEUE_TIME), f"p{quantile * 100:g}")
                for quantile in (0.5, 0.95)
            ),
        ),
        Panel(
            title="CPU for each busy second",
            description="It says which kind of places to add. Below 30 % the requests wait: add threads. "
            "Above 70 % they compute: add processes up to the number of cores, or make the code faster.",
            unit="percentunit",
            queries=(Query(f"{cpu} / ({busy} > 0)", "CPU / busy"),),
        ),
        Panel(
            title="Backlog",
            description="The share of the kernel's queue that is taken, by listener. From 50 % on the "
            "workers do not accept: add places. A longer queue only makes clients wait longer.",
            unit="percentunit",
            limits=Limits(0.2, 0.5),
            queries=(Query(f"{backlog} / ({limit} > 0)", "{{instance}} {{listener}}"),),
        ),
        Panel(
            title="Refused connections",
            description="TCP connections per second that the kernel refused, because a queue was full. It "
            "counts for all programs of the container or host. Above 0 clients get errors: add places.",
            unit="cps",
            limits=Limits(0.001, 1),
            queries=(Query(names.sum_rate(family_names.LISTEN_OVERFLOWS, by="instance"), "{{instance}}"),),
        ),
        Panel(
            title="Lag of event loops, p99",
            description="How late one timer in a hundred is. From 0.1 s on something blocks the loop: move "
            "it to a thread or a task queue. Only under asyncio and gevent.",
            unit="s",
            limits=Limits(0.1, 0.25),
            queries=(
                Query(names.quantile(0.99, family_names.LOOP_LAG), "asyncio"),
                Query(names.quantile(0.99, family_names.HUB_LAG), "gevent"),
            ),
        ),
        Panel(
            title="Garbage collection, p99",
            description="How long one collection in a hundred stops a process, by generation. From 0.1 s on"
            " call gc.freeze() after the start, or raise the thresholds. Needs PROM_RUNTIME.",
            unit="s",
            limits=Limits(0.1, 0.5),
            queries=(
                Query(
                    names.quantile(0.99, family_names.GC_DURATION, by="generation"),
                    "generation {{generation}}",
                ),
            ),
        ),
    )
