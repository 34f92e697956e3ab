"""The threads in which async applications run sync code, and the calls that wait for them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple


class AnyioThreads(NamedTuple):
    """The worker threads of anyio for one event loop. Starlette runs sync endpoints in them.

    Attributes:
        used: Threads at work.
        total: Threads that may work at once.
        waiting: Calls that wait for a thread.
    """

    used: int
    total: int
    waiting: int


def anyio_limiter() -> Any:
    """Return the limiter of anyio's threads for the loop of this task, or None without anyio or a task."""
    to_thread: Any = sys.modules.get("anyio.to_thread")
    if to_thread is None:
        return None
    try:
        return to_thread.current_default_thread_limiter()
    except Exception:  # no loop that anyio knows
        return None


def anyio_threads(limiter: Any) -> AnyioThreads | None:
    """Return the present state of the threads, or None if their number has no limit. It needs no task."""
    try:
        found = limiter.statistics()
        return AnyioThreads(int(found.borrowed_tokens), int(found.total_tokens), int(found.tasks_waiting))
    except Exception:  # total_tokens may be infinite, and a release may count otherwise
        return None


def probe_asgiref_thread(observe: Callable[[float], None]) -> None:
    """Call a function in asgiref's single thread for sync code, and observe the seconds that the call waited.

    ``sync_to_async`` runs everything in that one thread where no request has threads of its own
    (Django's ASGI handler gives each request one). The thread is not started if nothing has used it, and is
    not called again before it has answered.
    """
    sync: Any = sys.modules.get("asgiref.sync")
    executor = getattr(getattr(sync, "SyncToAsync", None), "single_thread_executor", None)
    if executor is None or not getattr(executor, "_threads", None) or getattr(executor, _PENDING, False):
        return
    asked = perf_counter()

    def answer() -> None:
        setattr(executor, _PENDING, False)
        observe(perf_counter() - asked)

    try:
        setattr(executor, _PENDING, True)
        executor.submit(answer)
    except RuntimeError:  # it was shut down
        pass


_PENDING = "_web_prom_pending"
