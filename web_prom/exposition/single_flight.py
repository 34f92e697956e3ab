"""Single flight: results are built one at a time, and concurrent callers that ask for the same share one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from web_prom.errors import BusyError

Result = TypeVar("Result")

# How many different low-priority results may be waited for.
_MAX_WAITING_LOW_PRIORITY = 16
# How many other results are built before one of low priority.
_RUNS_BEFORE_LOW_PRIORITY = 4


class SingleFlight(Generic[Result]):
    """Builds results one at a time, and shares each of them among the callers that wait for it.

    A caller that comes while a result is being built waits for the next one. The build of its result then
    starts after the call, so the result contains everything that happened before the call. Callers that
    arrive during a build and have equal keys get the result of the next build. The number of different
    results that clients can wait for is bounded.

    Safe to share between threads and between greenlets of gevent: locks are created at their first use,
    which is after any patching of the standard library. A child process that is forked during a build does
    not wait for that build. If ``work`` itself asks for a result in the same thread, that result is built
    at once.
    """

    def __init__(self) -> None:
        # By process id, because at-fork hooks do not run under every server (uWSGI).
        self._queues: dict[int, _Queue[Result]] = {}

    def run(
        self,
        key: Hashable,
        work: Callable[[], Result],
        *,
        low_priority: bool = False,
        before: Callable[[], object] | None = None,
    ) -> Result:
        """Return a result whose build starts after this call.

        Args:
            key: What the caller asks for. Callers with equal keys can get the same result.
            work: Builds the result. It is called in the thread of one of the callers.
            low_priority: Build other results first. One result of low priority is built after every four
                others, and no caller waits for more than one of them. At most 16 different results of low
                priority are waited for.
            before: Called before ``work``, in the same thread, when it is the turn of this result. It may
                block. Callers that come meanwhile get the same result.

        Raises:
            BusyError: The result is of low priority, and too many others are waited for.
            Exception: What ``work`` raised. It is raised in every thread that waited for the result.
        """
        pid = os.getpid()
        queue = self._queues.get(pid)
        if queue is None:
            queue = self._queues.setdefault(pid, _Queue())
        if queue.running_thread == threading.get_ident():
            return work()
        return queue.run(key, work, low_priority, before)


class _Run(Generic[Result]):
    """One build: waiting for its turn, running, or done.

    Attributes:
        value: The result, if there is one.
        error: What ``work`` raised.
        abandoned: Whether there is neither a result nor an error.
        low_priority: Whether other results are built first.
        was_delayed: Whether a run of low priority was running while this one waited.
        done: Set when this run is over.
        turn: Released when it is the turn of this run.
    """

    value: Result
    error: Exception | None = None
    abandoned = True

    def __init__(self, low_priority: bool) -> None:
        self.low_priority = low_priority
        self.was_delayed = False
        self.done = threading.Event()
        self.turn = threading.Lock()
        self.turn.acquire()


class _Queue(Generic[Result]):
    """The runs of one process.

    Attributes:
        running_thread: The thread that calls ``work`` now.
    """

    def __init__(self) -> None:
        self.running_thread: int | None = None
        self._lock = threading.Lock()
        # By key: the run that new callers join.
        self._joinable: dict[Hashable, _Run[Result]] = {}
        # The runs that wait for their turn, and the run whose turn it is.
        self._waiting: list[_Run[Result]] = []
        self._current: _Run[Result] | None = None
        self._runs_since_low_priority = 0

    def run(
        self,
        key: Hashable,
        work: Callable[[], Result],
        low_priority: bool,
        before: Callable[[], object] | None,
    ) -> Result:
        """Execute the next run for a key in this thread, or wait for the thread that executes it.

        The executing thread may be stopped (SystemExit, a killed greenlet). The threads that waited for it
        then start again.
        """
        while True:
            own: _Run[Result] = _Run(low_priority)
            try:
                with self._lock:
                    run = self._joinable.get(key) or self._enqueue(key, own)
                if run is own:
                    self._execute(key, run, work, before)
                else:
                    run.done.wait()
            finally:
                self._remove(key, own)
                own.done.set()
            if run.error is not None:
                raise run.error
            if not run.abandoned:
                return run.value

    def _enqueue(self, key: Hashable, run: _Run[Result]) -> _Run[Result]:
        if run.low_priority and sum(one.low_priority for one in self._waiting) >= _MAX_WAITING_LOW_PRIORITY:
            raise BusyError("too many different results are waited for")
        self._joinable[key] = run
        self._waiting.append(run)
        run.was_delayed = self._current is not None and self._current.low_priority
        self._start_next()
        return run

    def _execute(
        self,
        key: Hashable,
        run: _Run[Result],
        work: Callable[[], Result],
        before: Callable[[], object] | None,
    ) -> None:
        run.turn.acquire()
        if before is not None:
            before()
        with self._lock:
            self._close(key, run)
        self.running_thread = threading.get_ident()
        try:
            run.value = work()
        except Exception as error:
            run.error = error
        finally:
            self.running_thread = None
        run.abandoned = False

    def _remove(self, key: Hashable, run: _Run[Result]) -> None:
        """Remove a run that is over, in whichever state it was, and start the next one."""
        with self._lock:
            self._close(key, run)
            if run in self._waiting:
                self._waiting.remove(run)
            if self._current is run:
                self._current = None
                self._start_next()

    def _close(self, key: Hashable, run: _Run[Result]) -> None:
        """Let new callers with this key no longer join the run."""
        if self._joinable.get(key) is run:
            del self._joinable[key]

    def _start_next(self) -> None:
        """Give the turn to the next run, unless a run has it."""
        if self._current is not None or not self._waiting:
            return
        low = next((run for run in self._waiting if run.low_priority), None)
        normal = next((run for run in self._waiting if not run.low_priority), None)
        # Runs are in the order of arrival. If any of them was delayed, the first one was.
        low_is_due = self._runs_since_low_priority >= _RUNS_BEFORE_LOW_PRIORITY and not (
            normal and normal.was_delayed
        )
        if normal is None or (low is not None and low_is_due):
            chosen, self._runs_since_low_priority = low, 0
            for run in self._waiting:
                run.was_delayed = True
        else:
            chosen, self._runs_since_low_priority = normal, self._runs_since_low_priority + 1 if low else 0
        assert chosen is not None
        self._waiting.remove(chosen)
        self._current = chosen
        chosen.turn.release()
