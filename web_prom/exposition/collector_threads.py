"""Custom collectors: each in a thread of its own, beside each other, and no scrape waits for one too long."""

from __future__ import annotations

import contextvars
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from prometheus_client.metrics_core import Metric

from web_prom.exposition.scrape_context import ContextFactory


class CollectorExecutor:
    """Runs the collectors of one registry, at once, for as long as a scrape may wait for them.

    Each collector keeps its thread from scrape to scrape, with what is the thread's own: a connection is
    not made anew each time. One that raised gets another thread, as its connection may be what failed.
    One that is late is left to itself: while it runs it is not started again. Threads are daemons: none
    holds up the end of a program. They end with this object, or when their collector is no longer given;
    a forked child makes its own.

    For one scrape at a time, as web_prom.exposition.single_flight has them: a second one would take the
    first one's collectors for late.

    Args:
        limit: Seconds that all of them may take together; 0 for no limit and no threads.
        surrounding: Returns a context manager, entered around each run in the collector's own thread.
    """

    def __init__(self, limit: float, surrounding: ContextFactory) -> None:
        self._limit = limit
        self._surrounding = surrounding
        # The process is looked at each time: at-fork hooks are not run everywhere (uWSGI).
        self._lanes: dict[int, dict[int, CollectorThread]] = {}

    def begin(self, collectors: Sequence[Any]) -> dict[int, Callable[[], list[Metric]]]:
        """Begin to run collectors; return by ``id()`` what waits for each and returns its families.

        It raises what ``collect()`` raised, or a TimeoutError. There is none for a collector
        that the caller is to run itself.
        """
        if not self._limit:
            return {}
        deadline = time.monotonic() + self._limit
        lanes = self._lanes.setdefault(os.getpid(), {})
        for gone in lanes.keys() - {id(collector) for collector in collectors}:
            del lanes[gone]
        runs = {id(collector): self._begin_one(lanes, collector) for collector in collectors}
        return {key: partial(result, deadline, self._limit) for key, result in runs.items()}

    def _begin_one(
        self, lanes: dict[int, CollectorThread], collector: Any
    ) -> Callable[[float, float], list[Metric]]:
        try:
            lane = lanes.get(id(collector))
            if lane is None or lane.is_spent:
                lane = lanes[id(collector)] = CollectorThread(collector, self._surrounding)
            return lane.begin().result
        except (RuntimeError, MemoryError):
            # There is no thread, as at a process's end. The scrape's own has to do, without a limit: a family
            # that is missing from one scrape looks like one that is gone.
            return lambda deadline, limit: list(collector.collect())


class _Run:
    """One call of a collector, made in its thread and waited for in a scrape's."""

    def __init__(
        self, collector: Any, surrounding: ContextFactory, error: BaseException | None = None
    ) -> None:
        self.collector = collector
        self._surrounding = surrounding
        self.over = threading.Event()
        self.error = error
        self._families: list[Metric] = []
        # What a collector finds in the scrape's context it finds in its own thread too.
        self._context = contextvars.copy_context()
        if error is not None:
            self.over.set()

    def make(self) -> None:
        """Call the collector, to the end of what it gives."""
        try:
            self._families = self._context.run(self._collect)
        except BaseException as error:
            self.error = error
        self.over.set()

    def _collect(self) -> list[Metric]:
        with self._surrounding():
            return list(self.collector.collect())

    def result(self, deadline: float, limit: float) -> list[Metric]:
        """Wait until it is over, and return the families.

        Raises:
            Exception: What the collector raised.
            TimeoutError: It is not over.
        """
        if not self.over.wait(max(0.0, deadline - time.monotonic())):
            raise TimeoutError(
                f"it takes longer than PROM_COLLECTOR_TIMEOUT allows, {limit:g} s; give what it waits for a "
                "timeout of its own, or allow more: less than Prometheus' scrape_timeout"
            )
        if self.error is None:
            families, self._families = self._families, []
            return families
        if isinstance(self.error, Exception):
            raise self.error
        raise RuntimeError(f"collect() raised {self.error!r}") from self.error


class CollectorThread:
    """The thread of one collector, and the call that was begun in it last."""

    def __init__(self, collector: Any, surrounding: ContextFactory) -> None:
        self._collector = collector
        self._surrounding = surrounding
        self._last: _Run | None = None
        # The thread knows the queue and what is in it, and not this: it ends when nobody refers to this.
        self._runs: queue.SimpleQueue[_Run | None] = queue.SimpleQueue()
        name = f"web-prom-collector-{type(collector).__name__}"
        self._thread = threading.Thread(target=_work, args=(self._runs,), name=name, daemon=True)
        self._thread.start()
        weakref.finalize(self, self._runs.put, None).atexit = False

    @property
    def is_spent(self) -> bool:
        """Whether the thread takes no more calls."""
        failed = self._last is not None and self._last.over.is_set() and self._last.error is not None
        return failed or not self._thread.is_alive()

    def begin(self) -> _Run:
        """Begin a call, and return it; the last one, if that is not over."""
        if self._last is None or self._last.over.is_set():
            self._last = _Run(self._collector, self._surrounding)
            self._runs.put(self._last)
            return self._last
        return _Run(
            self._collector,
            self._surrounding,
            TimeoutError("it still runs since an earlier scrape, and is not started again meanwhile"),
        )


def _work(runs: queue.SimpleQueue[_Run | None]) -> None:
    while True:
        run = runs.get()
        if run is None:
            return
        run.make()
        if run.error is not None:
            return
        del run  # and with it all that it knows, until the next scrape
