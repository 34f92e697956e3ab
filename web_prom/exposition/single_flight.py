"""Single flight: callers that want the same at the same time share one result, made one at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from web_prom.errors import BusyError

Result = TypeVar("Result")

# How many different minor results may be waited for, and how many others are made before one of them.
_MINOR_RUNS = 16
_MAJOR_RUNS = 4


class SingleFlight(Generic[Result]):
    """Makes results one at a time, and shares each among those who wait for it.

    Who comes while a result is being made waits for the next one: what they get was begun after they
    came, so that what they have seen happen is in it. However many come meanwhile, those who want the
    same cost one more run. The number of different results that clients can have waited for is bounded.

    Safe to share between threads, gevent's too: locks are made when they are first needed, after
    whatever patches them. A child that is forked while a result is being made does not wait for it. Work
    that asks for a result itself, in its own thread, gets it made at once.
    """

    def __init__(self) -> None:
        # The process is looked at each time: at-fork hooks are not run everywhere (uWSGI).
        self._queues: dict[int, _Queue[Result]] = {}

    def run(
        self,
        key: Hashable,
        work: Callable[[], Result],
        *,
        minor: bool = False,
        before: Callable[[], object] | None = None,
    ) -> Result:
        """Return a result that was begun after this call.

        Args:
            key: What is wanted; callers with equal keys may get one result.
            work: Makes it. Called in the thread of one of them.
            minor: Results that are not minor go first. After four of them one minor result is made, but
                nobody waits for two of these. At most 16 different minor results are waited for.
            before: Called in the thread that makes the result, in its turn, before ``work``. It may wait: who
                comes meanwhile gets the same result.

        Raises:
            BusyError: The result is minor, and too many others are waited for.
            Exception: What ``work`` raised, in every thread that waited for it.
        """
        pid = os.getpid()
        queue = self._queues.get(pid)
        if queue is None:
            queue = self._queues.setdefault(pid, _Queue())
        if queue.runner == threading.get_ident():
            return work()
        return queue.run(key, work, minor, before)


class _Run(Generic[Result]):
    """One piece of work: to be done, under way, or over."""

    value: Result
    error: Exception | None = None
    abandoned = True  # until there is a result or an error

    def __init__(self, minor: bool) -> None:
        self.minor = minor
        # Whether a minor run was under way while this one waited.
        self.held_up = False
        self.over = threading.Event()
        # Released when it is this run's turn.
        self.gate = threading.Lock()
        self.gate.acquire()


class _Queue(Generic[Result]):
    """Those who wait, in one process."""

    def __init__(self) -> None:
        self.runner: int | None = None
        self._lock = threading.Lock()
        # By key: the run that those who come now wait for.
        self._waiting: dict[Hashable, _Run[Result]] = {}
        # Runs whose turn is still to come, and the one whose turn it is.
        self._line: list[_Run[Result]] = []
        self._current: _Run[Result] | None = None
        self._passed = 0

    def run(
        self,
        key: Hashable,
        work: Callable[[], Result],
        minor: bool,
        before: Callable[[], object] | None,
    ) -> Result:
        """Lead the run that is to begin for a key, or wait for whoever leads it.

        A leader may be stopped (SystemExit, a killed greenlet); those who waited for it then begin again.
        """
        while True:
            own: _Run[Result] = _Run(minor)
            try:
                with self._lock:
                    run = self._waiting.get(key) or self._line_up(key, own)
                if run is own:
                    self._lead(key, run, work, before)
                else:
                    run.over.wait()
            finally:
                self._leave(key, own)
                own.over.set()
            if run.error is not None:
                raise run.error
            if not run.abandoned:
                return run.value

    def _line_up(self, key: Hashable, run: _Run[Result]) -> _Run[Result]:
        if run.minor and sum(one.minor for one in self._line) >= _MINOR_RUNS:
            raise BusyError("too many different results are waited for")
        self._waiting[key] = run
        self._line.append(run)
        run.held_up = self._current is not None and self._current.minor
        self._grant()
        return run

    def _lead(
        self,
        key: Hashable,
        run: _Run[Result],
        work: Callable[[], Result],
        before: Callable[[], object] | None,
    ) -> None:
        run.gate.acquire()
        if before is not None:
            before()
        with self._lock:
            self._close(key, run)
        self.runner = threading.get_ident()
        try:
            run.value = work()
        except Exception as error:
            run.error = error
        finally:
            self.runner = None
        run.abandoned = False

    def _leave(self, key: Hashable, run: _Run[Result]) -> None:
        """Remove a run that is over, wherever it was, and have the next one begin."""
        with self._lock:
            self._close(key, run)
            if run in self._line:
                self._line.remove(run)
            if self._current is run:
                self._current = None
                self._grant()

    def _close(self, key: Hashable, run: _Run[Result]) -> None:
        """Have whoever comes from now on wait for another run."""
        if self._waiting.get(key) is run:
            del self._waiting[key]

    def _grant(self) -> None:
        """Begin the next turn, unless one is under way."""
        if self._current is not None or not self._line:
            return
        minor = next((run for run in self._line if run.minor), None)
        major = next((run for run in self._line if not run.minor), None)
        # First come, first served: if any was held up, the first was.
        minor_is_due = self._passed >= _MAJOR_RUNS and not (major and major.held_up)
        if major is None or (minor is not None and minor_is_due):
            chosen, self._passed = minor, 0
            for run in self._line:
                run.held_up = True
        else:
            chosen, self._passed = major, self._passed + 1 if minor else 0
        assert chosen is not None
        self._line.remove(chosen)
        self._current = chosen
        chosen.gate.release()
