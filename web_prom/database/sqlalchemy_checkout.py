"""Connections of SQLAlchemy: how long a request waits for one, uses it, and how long it takes to open one.

SQLAlchemy has no event before a request waits in a pool, and none for a timeout. So the public method
``Engine.raw_connection``, through which every connection of an engine is obtained, is replaced by one that
calls it and reads the clock. It returns the same object and raises the same exception. From Python 3.11 on,
the traceback has no frame of this module. The creator of the pool, which opens its connections, is replaced
in the same way: an engine can have one of its own, and then SQLAlchemy calls nothing else before it opens a
connection. All else are listeners of the events of pools.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from time import perf_counter
from typing import Any

from web_prom.database.error_names import error_name
from web_prom.database.sqlalchemy_dialect import add_hooks
from web_prom.database.sqlalchemy_engine import EngineRecorder, record_internal_error
from web_prom.database.tracebacks import remove_own_frame

_KEY = "web_prom"
"""The key in the ``info`` of a connection: its engine recorder, and when it was checked out.

The time is None while the connection is in its pool, and while the pool resets it.
"""

GetEngineRecorder = Callable[[Any], EngineRecorder | None]
"""Returns what records an engine, or None. Never raises."""


class _Checkout:
    """One request for a connection.

    Attributes:
        engine_recorder: What records the engine.
        outer: The request whose connection this one helps to open, or None. A listener of ``do_connect`` may
            read a password from another database.
        connecting: When the opening of a connection began, or None if none is being opened.
        record: The pool's record of this connection, or None if none was opened.
        creating: Seconds that were spent to open connections.
        is_open: Whether the request has no result yet. A task that began meanwhile keeps its context.
    """

    __slots__ = ("connecting", "creating", "engine_recorder", "is_open", "outer", "record")

    def __init__(self, engine_recorder: EngineRecorder, outer: _Checkout | None) -> None:
        self.engine_recorder = engine_recorder
        self.outer = outer
        self.connecting: float | None = None
        self.record: Any = None
        self.creating = 0.0
        self.is_open = True


_current: ContextVar[_Checkout | None] = ContextVar("web_prom_checkout", default=None)

_closing: ContextVar[int | None] = ContextVar("web_prom_closing", default=None)
"""The identity of the connection that has left its pool, and that SQLAlchemy resets and closes now."""


def measure_creator(pool: Any) -> None:
    """Measure how long it takes to open each connection of a pool, and of the pools that replace it.

    Args:
        pool: The pool. SQLAlchemy gives its creator to the pool that replaces it.
    """
    create = getattr(pool, "_invoke_creator", None)
    if create is None or _is_measured(pool._creator):  # None: a pool of other code
        return

    # SQLAlchemy gives the record to a creator with this signature.
    def measured_creator(connection_record: Any = None) -> Any:
        _on_connecting(connection_record)
        try:
            return create(connection_record)
        except BaseException as error:
            remove_own_frame(error)
            raise

    measured_creator.__wrapped__ = pool._creator  # type: ignore[attr-defined]
    pool._creator = measured_creator


def restore_creator(pool: Any) -> None:
    """Undo :func:`measure_creator`."""
    if _is_measured(getattr(pool, "_creator", None)):
        pool._creator = pool._creator.__wrapped__


def _is_measured(creator: Any) -> bool:
    return getattr(creator, "__module__", None) == __name__


def _on_connecting(record: Any) -> None:
    """Notice that a connection begins to be opened. Never raises."""
    try:
        checkout = _current.get()
        if checkout is not None:
            checkout.connecting, checkout.record = perf_counter(), record
    except Exception:
        record_internal_error(None)


def is_in_use(dbapi_connection: Any) -> bool:
    """Return whether a connection is checked out, and its pool does not reset it. Never raises."""
    try:
        entry = dbapi_connection.info.get(_KEY)
        if entry is None or entry[1] is None:
            return False
        closing = _closing.get()
        return closing is None or closing != id(dbapi_connection.dbapi_connection)
    except Exception:  # not a connection of a pool
        return False


class Checkouts:
    """The replaced method, and the listeners of the events of pools.

    Args:
        get_engine_recorder: Finds the engine recorder.
        timeout_error: SQLAlchemy's exception if a pool gave no connection within its timeout.
    """

    def __init__(self, get_engine_recorder: GetEngineRecorder, timeout_error: type[Exception]) -> None:
        self._get_engine_recorder = get_engine_recorder
        self._timeout_error = timeout_error

    def wrap(self, raw_connection: Callable[..., Any]) -> Callable[..., Any]:
        """Return the replacement of ``Engine.raw_connection``."""

        @wraps(raw_connection)
        def measured(engine: Any, *args: Any, **options: Any) -> Any:
            checkout, started = self._start(engine)
            try:
                connection = raw_connection(engine, *args, **options)
            except BaseException as error:
                self._on_failure(checkout, error)
                remove_own_frame(error)
                raise
            self._on_success(checkout, started, engine, connection)
            return connection

        return measured

    def listeners(self) -> dict[str, Callable[..., None]]:
        """Return the listeners of the events of pools, by the name of the event."""
        return {
            "connect": self.on_connect,
            "reset": self.on_reset,
            "checkin": self.on_checkin,
            "detach": self.on_detach,
            "close": self.on_close,
            "close_detached": self.on_close_detached,
        }

    def on_connect(self, dbapi_connection: Any, record: Any) -> None:
        """Record a connection that was opened: a listener of ``connect``."""
        checkout = _current.get()
        if checkout is None or not checkout.is_open:
            return
        if (
            checkout.record is not None and checkout.record is not record
        ):  # another pool, which is not measured
            return
        try:
            engine_recorder = checkout.engine_recorder
            record.info[_KEY] = engine_recorder, None
            pool = engine_recorder.pool()
            if pool is None:
                return
            if checkout.connecting is None:  # a pool that other code gave to the engine
                pool.count_opened()
                return
            seconds = perf_counter() - checkout.connecting
            checkout.connecting = None
            checkout.creating += seconds
            pool.observe_create(seconds)
        except Exception:
            record_internal_error(checkout.engine_recorder)

    def on_checkin(self, dbapi_connection: Any, record: Any) -> None:
        """Record how long a connection was used, unless that was done: a listener of ``checkin``."""
        self._end_use(record)

    def on_reset(self, dbapi_connection: Any, record: Any, reset_state: Any) -> None:
        """Record how long a connection was used: a listener of ``reset``.

        The pool's own rollback comes after it, and is not a transaction of the application. A connection that
        has left its pool has no record. Its use has ended before.
        """
        if record is not None:
            self._end_use(record)
        else:
            _closing.set(id(dbapi_connection))

    def on_detach(self, dbapi_connection: Any, record: Any) -> None:
        """Record a connection that leaves its pool: a listener of ``detach``."""
        self._end_use(record)
        self.on_close(dbapi_connection, record)

    def on_close(self, dbapi_connection: Any, record: Any) -> None:
        """Count a connection that is closed: a listener of ``close``."""
        try:
            entry = record.info.get(_KEY)
            pool = None if entry is None else entry[0].pool()
            if pool is not None:
                pool.count_closed()
        except Exception:
            record_internal_error(None)

    def on_close_detached(self, dbapi_connection: Any) -> None:
        """Notice the end of a connection that has left its pool: a listener of ``close_detached``."""
        _closing.set(None)

    def _start(self, engine: Any) -> tuple[_Checkout | None, float]:
        try:
            engine_recorder = self._get_engine_recorder(engine)
            if engine_recorder is None:
                return None, 0.0
            checkout, started = _Checkout(engine_recorder, _current.get()), perf_counter()
            engine_recorder.pending.append(None)
            _current.set(checkout)
            return checkout, started
        except Exception:
            record_internal_error(None)
            return None, 0.0

    def _on_success(self, checkout: _Checkout | None, started: float, engine: Any, connection: Any) -> None:
        if checkout is None:
            return
        engine_recorder = checkout.engine_recorder
        try:
            self._end(checkout)
            ended = perf_counter()
            engine_recorder.on_connected(
                engine, lambda: add_hooks(engine.dialect, engine_recorder, is_in_use)
            )
            connection.info[_KEY] = engine_recorder, ended
            pool = engine_recorder.pool()
            if pool is not None:
                pool.observe_wait(max(0.0, ended - started - checkout.creating))
        except Exception:
            record_internal_error(engine_recorder)

    def _on_failure(self, checkout: _Checkout | None, error: BaseException) -> None:
        if checkout is None:
            return
        try:
            self._end(checkout)
            pool = checkout.engine_recorder.pool()
            if pool is None:
                return
            if checkout.connecting is not None:
                pool.count_failure(error_name(error))
            elif isinstance(error, self._timeout_error):
                pool.count_timeout()
        except Exception:
            record_internal_error(checkout.engine_recorder)

    def _end(self, checkout: _Checkout) -> None:
        checkout.is_open = False
        outer, checkout.outer = checkout.outer, None
        _current.set(outer if outer is not None and outer.is_open else None)
        if checkout.engine_recorder.pending:  # a fork empties it
            checkout.engine_recorder.pending.pop()

    def _end_use(self, record: Any) -> None:
        try:
            entry = record.info.get(_KEY)
            if entry is None or entry[1] is None:
                return
            engine_recorder, checked_out = entry
            record.info[_KEY] = engine_recorder, None
            pool = engine_recorder.pool()
            if pool is not None:
                pool.observe_use(perf_counter() - checked_out)
        except Exception:
            record_internal_error(None)
