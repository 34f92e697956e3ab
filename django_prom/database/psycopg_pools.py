"""The connection pools of psycopg 3 (``OPTIONS["pool"]``), by the statistics that they keep themselves."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary, ref

from web_prom.database.pools import Pool, PoolState

_readers: WeakKeyDictionary[Any, tuple[ref[Pool], PoolReader]] = WeakKeyDictionary()


def has_pool(connection: Any) -> bool:
    """Tell whether a connection object gets its connections from a pool."""
    return bool((connection.settings_dict.get("OPTIONS") or {}).get("pool"))


def watch_pool(pool: Pool, connection: Any) -> bool:
    """Read the statistics of a connection object's pool from now on.

    Args:
        pool: What records the pool.
        connection: A connection object of Django that has connected, or has tried to.

    Returns:
        Whether it has a pool.
    """
    if not has_pool(connection):
        return False
    found = getattr(connection, "pool", None)
    if found is not None and hasattr(found, "get_stats"):
        known = _readers.get(found)
        if known is None or known[0]() is not pool:
            reader = PoolReader(found, pool)
            if _readers.setdefault(found, (ref(pool), reader))[1] is not reader:
                _readers[found] = (ref(pool), reader)
            pool.add_reader(reader)
    return True


def is_counted_by_pool(error: BaseException) -> bool:
    """Tell whether a pool counts an error itself: it gave no connection in time, or has too many requests."""
    return type(error).__name__ in ("PoolTimeout", "TooManyRequests")


class PoolReader:
    """Reads the statistics of one pool of psycopg, and adds their growth to counters.

    The statistics are totals since the pool was created. If the application resets them (``pop_stats``), they
    count from 0 again. Several threads may call this; the statistics are read by one of them at a time.

    Args:
        pool: The pool of psycopg. It is not kept alive.
        records: What records it.
    """

    def __init__(self, pool: Any, records: Pool) -> None:
        self._pool = ref(pool)
        self._records = ref(records)
        self._lock = Lock()
        self._before: dict[str, int] = {}
        self._opened = self._closed = 0

    def __call__(self) -> PoolState | None:
        """Return the connections of the pool now, or None if the pool does not exist any more."""
        pool, records = self._pool(), self._records()
        if pool is None or records is None:
            return None
        stats: dict[str, int] = pool.get_stats()
        size, idle = stats.get("pool_size", 0), stats.get("pool_available", 0)
        # A thread of a parent process that held the lock does not exist in a forked child. So nothing waits.
        if self._lock.acquire(blocking=False):
            try:
                self._count(records, stats, size)
            finally:
                self._lock.release()
        return PoolState(
            used=max(size - idle, 0),
            idle=idle,
            max=stats.get("pool_max"),
            pending=stats.get("requests_waiting", 0),
        )

    def _count(self, records: Pool, stats: dict[str, int], size: int) -> None:
        failures = self._growth(stats, "connections_errors")
        opened = max(self._growth(stats, "connections_num") - failures, 0)
        timeouts = self._growth(stats, "requests_errors")
        self._opened += opened
        # psycopg does not count the connections that it closes. Those that are being opened are in the size.
        closed = max(self._opened - size - self._closed, 0)
        self._closed += closed
        for amount, count in (
            (opened, records.count_opened),
            (closed, records.count_closed),
            (timeouts, records.count_timeout),
            (failures, _count_failures(records)),
        ):
            if amount:
                count(amount)

    def _growth(self, stats: dict[str, int], name: str) -> int:
        now = stats.get(name, 0)
        before = self._before.get(name, 0)
        self._before[name] = now
        return now - before if now >= before else now


def _count_failures(records: Pool) -> Callable[[int], None]:
    # psycopg_pool logs the exception and keeps only a count.
    return lambda amount: records.count_failure("", amount)
