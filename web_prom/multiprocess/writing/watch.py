"""A thread that looks once a second whether the files of its process are still there."""

from __future__ import annotations

import _thread
import logging
import sys
from collections.abc import Callable

from web_prom.posix import at_fork

logger = logging.getLogger("web_prom")

SECONDS = 1.0
"""How often it looks."""

# As long as it may take to end before a fork.
_END_SECONDS = 0.1


class Watch:
    """Calls a function once a second, in a thread of its own, until it is stopped.

    A process that serves no request, answers no scrape and writes no new value runs no other code of
    web-prom. Its values would be missing from scrapes for as long as it is idle.

    The thread never keeps a process from ending. A fork has none. Where no thread can be started, nothing
    is called.

    Args:
        look: What is called; what it raises is the caller's to handle.
    """

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._stopping: _thread.LockType | None = None
        self._ended = _thread.allocate_lock()

    def start(self) -> None:
        """Start the thread, unless it runs already. Safe in a signal handler and while any lock is held."""
        if self._stopping is not None or _is_uwsgi_master():
            return
        stopping, ended = _thread.allocate_lock(), _thread.allocate_lock()
        stopping.acquire()
        ended.acquire()
        self._stopping, self._ended = stopping, ended
        try:
            # threading.Thread takes a lock, which the same thread may hold in an object's end.
            _thread.start_new_thread(self._run, (stopping, ended))
        except RuntimeError:  # the process ends, or may have no more threads
            self._stopping = None
        else:
            _running.add(self)

    def stop(self) -> None:
        """End the thread, and wait for that a moment."""
        stopping, self._stopping = self._stopping, None
        _running.discard(self)
        if stopping is not None:
            stopping.release()
            self._ended.acquire(timeout=_END_SECONDS)

    def _run(self, stopping: _thread.LockType, ended: _thread.LockType) -> None:
        try:
            while not stopping.acquire(timeout=SECONDS):
                try:
                    self._look()
                except Exception:
                    logger.debug("the files of this process could not be looked at", exc_info=True)
        finally:
            ended.release()


def _is_uwsgi_master() -> bool:
    """Return whether uWSGI forks workers from this process: it does so without Python's hooks."""
    uwsgi = sys.modules.get("uwsgi")
    return uwsgi is not None and getattr(uwsgi, "worker_id", int)() == 0


_running: set[Watch] = set()
_paused: list[Watch] = []


def _pause() -> None:
    # Two threads may fork at once.
    watches = list(_running)
    _paused.extend(watches)
    for watch in watches:
        watch.stop()


def _resume() -> None:
    while _paused:
        _paused.pop().start()


def _forget() -> None:
    for watch in _running:
        watch._stopping = None
    _paused.clear()
    _running.clear()


# Python warns of forks beside threads, and what a thread has locked stays locked in the fork.
at_fork(before=_pause, after_in_parent=_resume, after_in_child=_forget)
