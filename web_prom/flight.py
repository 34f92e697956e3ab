"""Single flight: callers that want the same at the same time share one result, made one at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class SingleFlight(Generic[Result]):
    """Makes results one at a time, and shares each among those who wait for it.

    Who comes while a result is being made waits for the next one: what they get was begun after they
    came, so that what they have seen happen is in it. However many come meanwhile, those who want the
    same cost one more run.

    Safe to share between threads, gevent's too: locks are made when they are first needed, after
    whatever patches them. A child that is forked while a result is being made does not wait for it. Work
    that asks for a result itself, in its own thread, gets it made at once.
    """

    def __init__(self) -> None:
        # The process is looked at each time: at-fork hooks are not run everywhere (uWSGI).
        self._queues: dict[int, _Queue[Result]] = {}

    def run(self, key: Hashable, work: Callable[[], Result]) -> Result:
        """Return a result that was begun after this call.

        Args:
            key: What is wanted; callers with equal keys may get one result.
            work: Makes it. Called in the thread of one of them.

        Raises:
            Exception: What ``work`` raised, in every thread that waited for it.
        """
        pid = os.getpid()
        queue = self._queues.get(pid)
        if queue is None:
            queue = self._queues.setdefault(pid, _Queue())
        if queue.runner == threading.get_ident():
            return work()
        return queue.run(key, work)


class _Run(Generic[Result]):
    """One piece of work: to be done, under way, or over."""

    value: Result
    error: Exception | None = None
    abandoned = True  # until there is a result or an error

    def __init__(self) -> None:
        self.over = threading.Event()


class _Queue(Generic[Result]):
    """Those who wait, in one process."""

    def __init__(self) -> None:
        self.runner: int | None = None
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._waiting: dict[Hashable, _Run[Result]] = {}

    def run(self, key: Hashable, work: Callable[[], Result]) -> Result:
        """Lead the run that is to begin for a key, or wait for whoever leads it.

        A leader may be stopped (SystemExit, a killed greenlet); those who waited for it then begin again.
        """
        while True:
            own: _Run[Result] = _Run()
            try:
                with self._lock:
                    run = self._waiting.setdefault(key, own)
                if run is own:
                    self._lead(key, run, work)
                else:
                    run.over.wait()
            finally:
                self._begin(key, own)
                own.over.set()
            if run.error is not None:
                raise run.error
            if not run.abandoned:
                return run.value

    def _lead(self, key: Hashable, run: _Run[Result], work: Callable[[], Result]) -> None:
        with self._turn:
            self._begin(key, run)
            self.runner = threading.get_ident()
            try:
                run.value = work()
            except Exception as error:
                run.error = error
            finally:
                self.runner = None
        run.abandoned = False

    def _begin(self, key: Hashable, run: _Run[Result]) -> None:
        """Have whoever comes from now on wait for another run."""
        with self._lock:
            if self._waiting.get(key) is run:
                del self._waiting[key]
