"""The thread that keeps the history of the live page while the process serves."""

from __future__ import annotations

import logging
from collections.abc import Callable
from weakref import WeakMethod

from web_prom.live.source import SnapshotSource
from web_prom.log_limit import LogLimit
from web_prom.multiprocess.writing.watch_thread import WatchThread

logger = logging.getLogger("web_prom")


class HistoryKeeper:
    """Takes the snapshots of the history in a thread of its own, once it is started.

    The thread is paused around forks. A forked child has none until it calls :meth:`start` itself. With
    gevent the thread is a greenlet. The process can exit while the thread runs. The thread does not keep this
    object and its source alive, and ends when this object is gone.

    Args:
        source: Takes the snapshots.
    """

    def __init__(self, source: SnapshotSource) -> None:
        self._source = source
        self._thread = _thread_of(WeakMethod(self._keep))
        self._failures = LogLimit()

    def start(self) -> None:
        """Start the thread, if it does not run. Call it in a process that serves requests."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._thread.stop()

    def _keep(self) -> None:
        try:
            self._source.keep_history()
        except Exception as error:
            remark = self._failures.admit(type(error).__qualname__)
            if remark is not None:
                logger.warning("no snapshot for the live page: %s%s", error, remark, exc_info=True)


def _thread_of(find_method: WeakMethod[Callable[[], None]]) -> WatchThread:
    """Return a thread that calls a method until its object is gone."""

    def call_or_stop() -> None:
        method = find_method()
        if method is None:
            thread.stop()
        else:
            method()

    thread = WatchThread(call_or_stop)
    return thread
