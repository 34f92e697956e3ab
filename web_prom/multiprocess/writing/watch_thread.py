"""A thread that calls a function once a second, and is paused around forks."""

from __future__ import annotations

import _thread
import logging
import sys
from collections.abc import Callable

from web_prom.posix import at_fork

logger = logging.getLogger("web_prom")

SECONDS = 1.0
"""The time between two calls."""

each_second: list[Callable[[], None]] = []
"""Further functions that the thread of each process calls after its check. They must not raise."""

# The maximum time to wait for the end of the thread.
_END_SECONDS = 0.1


class WatchThread:
    """Calls a function once a second in its own thread, until it is stopped.

    The function checks the files of the process. An idle process serves no request, answers no scrape and
    writes no new value, so it runs no other code of web-prom. Without this thread, its lost values would be
    missing from scrapes while it is idle.

    The process can exit while the thread runs. A fork does not have the thread. If no thread can be
    started, the function is not called.

    Args:
        check: The function. Its exceptions are logged at the level DEBUG.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._stopping: _thread.LockType | None = None
        self._ended = _thread.allocate_lock()

    def start(self) -> None:
        """Start the thread if it does not run. Safe in a signal handler and while any lock is held."""
        if self._stopping is not None or _is_uwsgi_master():
            return
        stopping, ended = _thread.allocate_lock(), _thread.allocate_lock()
        stopping.acquire()
        ended.acquire()
        self._stopping, self._ended = stopping, ended
        try:
            # threading.Thread takes a lock that this thread may hold already, in a finalizer.
            _thread.start_new_thread(self._run, (stopping, ended))
        except RuntimeError:  # the process exits, or has reached its limit of threads
            self._stopping = None
        else:
            _running.add(self)

    def stop(self) -> None:
        """Stop the thread, and wait a moment for its end."""
        stopping, self._stopping = self._stopping, None
        _running.discard(self)
        if stopping is not None:
            stopping.release()
            self._ended.acquire(timeout=_END_SECONDS)

    def _run(self, stopping: _thread.LockType, ended: _thread.LockType) -> None:
        try:
            while not stopping.acquire(timeout=SECONDS):
                try:
                    self._check()
                    for function in each_second:
                        function()
                except Exception:
                    logger.debug("the files of this process cannot be checked", exc_info=True)
        finally:
            ended.release()


def _is_uwsgi_master() -> bool:
    """Return whether uWSGI forks workers from this process. It does so without Python's hooks."""
    uwsgi = sys.modules.get("uwsgi")
    return uwsgi is not None and getattr(uwsgi, "worker_id", int)() == 0


_running: set[WatchThread] = set()
_paused: list[WatchThread] = []


def _pause() -> None:
    # Two threads may fork at the same time.
    threads = list(_running)
    _paused.extend(threads)
    for thread in threads:
        thread.stop()


def _resume() -> None:
    while _paused:
        _paused.pop().start()


def _forget() -> None:
    for thread in _running:
        thread._stopping = None
    _paused.clear()
    _running.clear()


# Python warns if a process with threads forks, and a lock that the thread holds would stay locked in the
# fork.
at_fork(before=_pause, after_in_parent=_resume, after_in_child=_forget)
