"""Measurements of this process, kept in memory. Requests and event loops never wait for a file."""

from __future__ import annotations

import gc
import platform
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from web_prom import family_names
from web_prom.runtime import garbage_collection
from web_prom.runtime.garbage_collection import GarbageCollections
from web_prom.runtime.loop_lag import AsyncioLag, GeventLag
from web_prom.runtime.thread_pools import (
    AnyioThreads,
    anyio_limiter,
    anyio_threads,
    probe_asgiref_thread,
)

if TYPE_CHECKING:  # importing it takes 20 ms, and WSGI applications do not need it
    import asyncio

LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds. A lag below 50 ms does not matter. Users notice a lag of a second."""


class Durations:
    """A histogram in memory. Safe to share between threads.

    It has a lock. So callbacks of the garbage collector must not use it.

    Args:
        buckets: The upper bounds in seconds, in order.
    """

    def __init__(self, buckets: Sequence[float]) -> None:
        self._buckets = buckets
        self._lock = Lock()
        self._counts = [0] * (len(buckets) + 1)
        self._seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        with self._lock:
            self._counts[bisect_left(self._buckets, seconds)] += 1
            self._seconds += seconds

    def read(self) -> tuple[list[int], float]:
        """Return the count of each bucket, not cumulative, and the sum in seconds."""
        with self._lock:
            return list(self._counts), self._seconds

    def renew_lock(self) -> None:
        """Replace the lock. In a forked child, the thread that holds it may not exist."""
        self._lock = Lock()


class Measurements:
    """The measurements of one process.

    Attributes:
        capacity: How many requests the process serves at once; None where that is not known.
        loop: Measures asyncio loops and their threads.
        hub: Measures gevent's hubs.
        collections: Times collections of garbage, once it is started.
        interpreter: Whether the families of the interpreter are wanted.
    """

    def __init__(self) -> None:
        self.capacity: int | None = None
        self.interpreter = False
        self._inherited: list[dict[str, int]] = [{} for _ in gc.get_stats()]
        self._loop_lag = Durations(LAG_BUCKETS)
        self._hub_lag = Durations(LAG_BUCKETS)
        self._asgiref_wait = Durations(LAG_BUCKETS)
        self._threads: WeakKeyDictionary[asyncio.AbstractEventLoop, AnyioThreads] = WeakKeyDictionary()
        self._limiters: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()
        self.loop = AsyncioLag(self._loop_lag.observe, self._look_at_threads)
        self.hub = GeventLag(self._hub_lag.observe)
        self.collections = GarbageCollections()

    def start_interpreter(self) -> None:
        """Start to measure the interpreter."""
        self.interpreter = True
        self.collections.start()

    def families(self, worker: str, *, shared: bool) -> list[Metric]:
        """Return the measurements. A family without a measurement is left out.

        Args:
            worker: The value of the label ``worker``.
            shared: Whether prometheus_client's own ``python_*`` families, which know no worker, are missing
                and have to be here.
        """
        found: list[Metric] = []
        if self.capacity is not None:
            capacity = GaugeMetricFamily(
                family_names.WORKER_CAPACITY, "Requests that a worker serves at once.", labels=["worker"]
            )
            capacity.add_metric([worker], self.capacity)
            found.append(capacity)
        found += [
            _histogram(name, documentation, durations)
            for name, documentation, durations in (
                (family_names.LOOP_LAG, "Seconds that timers of event loops were late.", self._loop_lag),
                (family_names.HUB_LAG, "Seconds that timers of gevent's hubs were late.", self._hub_lag),
                (
                    "asgiref_thread_wait_seconds",
                    "Seconds that a call waited for asgiref's one thread for sync code.",
                    self._asgiref_wait,
                ),
            )
            if sum(durations.read()[0])
        ]
        found += self._anyio_families()
        if self.interpreter:
            found.append(self._collections_family())
            if shared:
                found += _interpreter_families(worker, self._inherited)
        return found

    def begin_in_child(self) -> None:
        """Drop the capacity and the collections of the parent, and replace the locks.

        The child of a worker does not serve requests. The thread that held a lock does not exist in it.
        """
        self.capacity = None
        self._inherited = gc.get_stats()
        for durations in (self._loop_lag, self._hub_lag, self._asgiref_wait):
            durations.renew_lock()

    def _look_at_threads(self) -> None:
        from asyncio import get_running_loop

        loop = get_running_loop()
        limiter = self._limiters.get(loop)
        if limiter is None:
            # anyio needs a task. The first call comes from a task, the later calls come from a timer.
            limiter = anyio_limiter()
            if limiter is not None:
                self._limiters[loop] = limiter
        if limiter is not None and (threads := anyio_threads(limiter)) is not None:
            self._threads[loop] = threads
            if self.capacity is None and threads.used:
                self.capacity = threads.total
        probe_asgiref_thread(self._asgiref_wait.observe)

    def _anyio_families(self) -> list[Metric]:
        every = list(self._threads.values())
        if not every:
            return []
        tokens = GaugeMetricFamily(
            "anyio_threadpool_tokens", "Threads of anyio's pools, by what they do.", labels=["state"]
        )
        tokens.add_metric(["used"], sum(each.used for each in every))
        tokens.add_metric(["free"], sum(each.total - each.used for each in every))
        waiting = GaugeMetricFamily(
            "anyio_threadpool_tasks_waiting",
            "Calls that wait for a thread of anyio's pools.",
            value=sum(each.waiting for each in every),
        )
        return [tokens, waiting]

    def _collections_family(self) -> Metric:
        family = HistogramMetricFamily(
            family_names.GC_DURATION,
            "Seconds that a collection of garbage stopped a process.",
            labels=["generation"],
        )
        for generation, (counts, seconds) in enumerate(self.collections.read()):
            family.add_metric([str(generation)], _buckets(garbage_collection.BUCKETS, counts), seconds)
        return family


def _histogram(name: str, documentation: str, durations: Durations) -> Metric:
    counts, seconds = durations.read()
    family = HistogramMetricFamily(name, documentation)
    family.add_metric([], _buckets(LAG_BUCKETS, counts), seconds)
    return family


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    names = [*map(str, bounds), "+Inf"]
    return list(zip(names, map(float, accumulate(counts)), strict=True))


def _interpreter_families(worker: str, inherited: list[dict[str, int]]) -> list[Metric]:
    """Return prometheus_client's families of the interpreter, with the label ``worker``."""
    collected = CounterMetricFamily(
        "python_gc_objects_collected", "Objects collected during gc", labels=["generation", "worker"]
    )
    uncollectable = CounterMetricFamily(
        "python_gc_objects_uncollectable",
        "Uncollectable objects found during GC",
        labels=["generation", "worker"],
    )
    collections = CounterMetricFamily(
        "python_gc_collections",
        "Number of times this generation was collected",
        labels=["generation", "worker"],
    )
    for generation, (stats, parent) in enumerate(zip(gc.get_stats(), inherited, strict=True)):
        for family, name in (
            (collected, "collected"),
            (uncollectable, "uncollectable"),
            (collections, "collections"),
        ):
            family.add_metric([str(generation), worker], stats[name] - parent.get(name, 0))
    major, minor, patchlevel = platform.python_version_tuple()
    info = GaugeMetricFamily(
        "python_info",
        "Python platform information",
        labels=["version", "implementation", "major", "minor", "patchlevel", "worker"],
    )
    version, implementation = platform.python_version(), platform.python_implementation()
    info.add_metric([version, implementation, major, minor, patchlevel, worker], 1)
    return [collected, uncollectable, collections, info]
