"""Threads for custom collectors: they run concurrently, and a scrape waits for them for a limited time."""

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
    """Runs the custom collectors of one registry concurrently, each in its own thread.

    A collector keeps its thread between scrapes, so that thread-local objects (a database connection) are
    reused. After an exception, the next call gets a new thread, because such an object may be the cause. A
    collector that exceeds the time limit is not called again before its call has ended. The threads are
    daemon threads and do not delay the end of a program. A thread ends if its collector is no longer
    registered, or together with this object. A forked child process starts its own threads.

    Only one scrape may use it at a time, which :mod:`web_prom.exposition.single_flight` ensures. A second
    scrape would count the collectors that run for the first one as late.

    Args:
        timeout: The seconds that all collectors may take together; 0 for no limit and no threads.
        context: Returns a context manager that is entered around each call in the thread of the collector.
    """

    def __init__(self, timeout: float, context: ContextFactory) -> None:
        self._timeout = timeout
        self._context = context
        # By process id, because at-fork hooks do not run under every server (uWSGI). Then by id() of the
        # collector.
        self._threads: dict[int, dict[int, CollectorThread]] = {}

    def start(self, collectors: Sequence[Any]) -> dict[int, Callable[[], list[Metric]]]:
        """Start collectors; return, by ``id()`` of the collector, functions that wait for its families.

        The function raises what ``collect()`` raised, or a TimeoutError. The result is empty if the time is
        not limited. The caller then runs the collectors itself.
        """
        if not self._timeout:
            return {}
        deadline = time.monotonic() + self._timeout
        threads = self._threads.setdefault(os.getpid(), {})
        for unregistered in threads.keys() - {id(collector) for collector in collectors}:
            del threads[unregistered]
        results = {id(collector): self._start_one(threads, collector) for collector in collectors}
        return {key: partial(result, deadline, self._timeout) for key, result in results.items()}

    def _start_one(
        self, threads: dict[int, CollectorThread], collector: Any
    ) -> Callable[[float, float], list[Metric]]:
        try:
            thread = threads.get(id(collector))
            if thread is None or thread.is_finished:
                thread = threads[id(collector)] = CollectorThread(collector, self._context)
            return thread.call().result
        except (RuntimeError, MemoryError):
            # No thread can be started, for example at the end of a process. The collector runs in the
            # thread of the scrape, without a time limit. A scrape without its families would make them look
            # removed.
            return lambda deadline, timeout: list(collector.collect())


class _Call:
    """One call of a collector: executed in the collector's thread, and awaited by the thread of the scrape.

    Attributes:
        done: Set when the call is over.
        error: The exception that the call raised.
    """

    def __init__(self, collector: Any, context: ContextFactory, error: BaseException | None = None) -> None:
        self.done = threading.Event()
        self.error = error
        self._collector = collector
        self._context = context
        self._families: list[Metric] = []
        # The collector sees the context variables of the scrape.
        self._context_variables = contextvars.copy_context()
        if error is not None:
            self.done.set()

    def run(self) -> None:
        """Call the collector and read all families that it yields."""
        try:
            self._families = self._context_variables.run(self._collect)
        except BaseException as error:
            self.error = error
        self.done.set()

    def _collect(self) -> list[Metric]:
        with self._context():
            return list(self._collector.collect())

    def result(self, deadline: float, timeout: float) -> list[Metric]:
        """Wait for the end of the call, and return the families.

        Raises:
            Exception: What the collector raised.
            TimeoutError: The call has not ended.
        """
        if not self.done.wait(max(0.0, deadline - time.monotonic())):
            raise TimeoutError(
                f"it takes longer than PROM_COLLECTOR_TIMEOUT allows, {timeout:g} s; set a timeout for the "
                "operation that it waits for, or raise PROM_COLLECTOR_TIMEOUT to a value below the "
                "scrape_timeout of Prometheus"
            )
        if self.error is None:
            families, self._families = self._families, []
            return families
        if isinstance(self.error, Exception):
            raise self.error
        raise RuntimeError(f"collect() raised {self.error!r}") from self.error


class CollectorThread:
    """The thread of one collector, and the last call in it."""

    def __init__(self, collector: Any, context: ContextFactory) -> None:
        self._collector = collector
        self._context = context
        self._last: _Call | None = None
        # The thread refers to the queue and not to this object, so that it ends when this object is deleted.
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        name = f"web-prom-collector-{type(collector).__name__}"
        self._thread = threading.Thread(target=_run_calls, args=(self._calls,), name=name, daemon=True)
        self._thread.start()
        weakref.finalize(self, self._calls.put, None).atexit = False

    @property
    def is_finished(self) -> bool:
        """Whether the thread accepts no more calls."""
        failed = self._last is not None and self._last.done.is_set() and self._last.error is not None
        return failed or not self._thread.is_alive()

    def call(self) -> _Call:
        """Start a call and return it; if the last call has not ended, return a failed one."""
        if self._last is None or self._last.done.is_set():
            self._last = _Call(self._collector, self._context)
            self._calls.put(self._last)
            return self._last
        running = TimeoutError(
            "the call of an earlier scrape has not ended; the collector is not called again before that"
        )
        return _Call(self._collector, self._context, running)


def _run_calls(calls: queue.SimpleQueue[_Call | None]) -> None:
    while True:
        call = calls.get()
        if call is None:
            return
        call.run()
        if call.error is not None:
            return
        del call  # so that the thread does not keep the families until the next scrape
