"""What is known of one SQLAlchemy engine: its database, its pools, and the application that records it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Any
from weakref import WeakSet, ref

from web_prom.database.activation import Activations, current_recorder, default_recorder
from web_prom.database.pools import Pool, PoolState
from web_prom.database.recorder import DatabaseRecorder
from web_prom.database.sqlalchemy_names import system_name
from web_prom.metrics.query_tally import QueryTotals, current_tally
from web_prom.posix import at_fork

logger = logging.getLogger("web_prom")

_every: WeakSet[EngineRecorder] = WeakSet()


class EngineRecorder:
    """Records one engine. Safe to share between threads, and after a fork.

    If the engine belongs to an application, all its metrics are recorded there. If not, the application of
    the current request records each event, and outside of requests the application that was set up last.
    This one also has the gauges of the pools, which belong to no request.

    Args:
        engine: The engine.
        application: The database recorder of the engine's application, or None.
        namespace: The label value for the database, also the name of the pool.

    Attributes:
        application: As given. Set it with :meth:`set_application`.
        namespace: As given.
        pending: A list with an item for each request that waits for a connection.
    """

    def __init__(self, engine: Any, application: DatabaseRecorder | None, namespace: str) -> None:
        self.application = application
        self.namespace = namespace
        self.pending: list[None] = []
        self._key = system_name(engine.dialect), namespace
        self._is_connected = False
        self._lock = Lock()
        self._pools: WeakSet[Any] = WeakSet()
        self._current_pool: Any = _nothing
        self._gauges_of: Any = _nothing
        self._reader = 0
        self._version = 0
        self._is_stopped = False
        _every.add(self)

    def set_application(self, application: DatabaseRecorder | None) -> None:
        """Let another application record the engine, also the gauges of its pools."""
        self.application = application
        self._move_gauges()

    def stop(self) -> None:
        """Stop to read the pools. Connections that know this object still count their use and their end."""
        with self._lock:
            self._is_stopped = True
            self._reader += 1

    def recorder(self) -> DatabaseRecorder | None:
        """Return the database recorder for an event that happens now, or None if no application is left."""
        return self.application or current_recorder()

    def pool(self) -> Pool | None:
        """Return what records an event of the pool that happens now, or None if no application is left."""
        recorder = self.recorder()
        return None if recorder is None else recorder.pool(self.namespace, self._key[0])

    def observe(self, sql: Any, seconds: float, error: BaseException | None = None) -> None:
        """Record one query. Never raises."""
        # The usual path is written out, because each call of a function takes time in each query.
        try:
            tally = current_tally.get()
            recorder = self.application
            if recorder is None:
                recorder = default_recorder() if tally is None or tally.closed else tally.owner
                if recorder is None:
                    return
            try:
                write = None if error is not None else recorder.databases[self._key].writes[sql]
            except KeyError:
                write = None
            if write is None:
                recorder.database(*self._key).observe(sql, seconds, error)
                return
            write(seconds, None)
            if tally is None or not tally.add(sql, seconds):
                recorder.count_outside(QueryTotals(1, seconds, 0))
        except Exception:
            record_internal_error(self)

    def observe_transaction(self, outcome: str, seconds: float, error: BaseException | None = None) -> None:
        """Record a commit or a rollback. Never raises."""
        self._record("observe_transaction", outcome, seconds, error)

    def count_transaction(self, outcome: str) -> None:
        """Count a commit or a rollback. Never raises."""
        self._record("count_transaction", outcome)

    def count_savepoint(self, operation: str) -> None:
        """Count an operation on a savepoint. Never raises."""
        self._record("count_savepoint", operation)

    def _record(self, method: str, *args: Any) -> None:
        try:
            recorder = self.recorder()
            if recorder is not None:
                getattr(recorder.database(*self._key), method)(*args)
        except Exception:
            record_internal_error(self)

    def on_connected(self, engine: Any, add_hooks: Callable[[], None]) -> None:
        """Notice the engine's pool, which ``engine.dispose()`` replaces.

        Args:
            engine: The engine.
            add_hooks: Called once, before the first connection is used.
        """
        if not self._is_connected:
            with self._lock:
                if not self._is_connected:
                    self._key = system_name(engine.dialect), self.namespace
                    add_hooks()
                    self._is_connected = True
        is_watched = self._current_pool() is engine.pool and self._version == Activations.version
        if not is_watched or self._gauges_of() is None:
            self._watch(engine.pool)

    def read_pools(self) -> PoolState:
        """Return the connections of the engine's pools that exist now."""
        current = self._current_pool()
        pools = [pool for pool in self._pools if hasattr(pool, "checkedout") and hasattr(pool, "checkedin")]
        if not pools:
            return PoolState()
        return PoolState(
            # SQLAlchemy computes them from two numbers, which another thread may change in between.
            used=sum(max(0, pool.checkedout()) for pool in pools),
            idle=sum(max(0, pool.checkedin()) for pool in pools),
            max=_max_connections(current),
            pending=len(self.pending),
        )

    def begin_in_child(self) -> None:
        """Forget the connections of the parent: its threads may have held the locks of the pools."""
        self._lock = Lock()
        self.pending.clear()
        self._pools = WeakSet()
        self._current_pool = _nothing

    def _watch(self, pool: Any) -> None:
        with self._lock:
            self._pools.add(pool)
            self._current_pool = ref(pool)
        self._move_gauges()

    def _move_gauges(self) -> None:
        """Let the right application alone read the pools, if the engine was used."""
        with self._lock:
            self._version = Activations.version
            recorder = self.application or default_recorder()
            if self._is_stopped or self._current_pool() is None or self._gauges_of() is recorder:
                return
            self._reader += 1
            self._gauges_of = _nothing if recorder is None else ref(recorder)
            if recorder is not None:
                recorder.pool(self.namespace, self._key[0]).add_reader(
                    partial(_read, ref(self), self._reader)
                )


def _read(engine_recorder: ref[EngineRecorder], reader: int) -> PoolState | None:
    """Return the connections of an engine's pools, or None if a later reader reads them."""
    found = engine_recorder()
    return None if found is None or found._reader != reader else found.read_pools()


def _nothing() -> None:
    """Return None, as a weak reference to an object that is gone."""


def record_internal_error(engine_recorder: EngineRecorder | None) -> None:
    """Count an error of the instrumentation, while the exception is handled. Never raises."""
    try:
        recorder = default_recorder() if engine_recorder is None else engine_recorder.recorder()
        if recorder is not None:
            recorder.recorder.record_internal_error("database")
    except Exception:
        logger.debug("an instrumentation error could not be counted", exc_info=True)


def _max_connections(pool: Any) -> int | None:
    """Return how many connections a pool may have, or None if that is not known or not limited."""
    size = pool.size() if hasattr(pool, "size") else 0
    overflow = getattr(pool, "_max_overflow", None)
    return size + overflow if size and isinstance(overflow, int) and overflow >= 0 else None


def _begin_in_child() -> None:
    for engine_recorder in list(_every):
        engine_recorder.begin_in_child()


at_fork(after_in_child=_begin_in_child)
