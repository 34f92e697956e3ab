"""Connections of SQLAlchemy: how long a request waits for one, uses it, and how long it takes to open one.

SQLAlchemy has no event before a request waits in a pool, none for a timeout, and none for a driver that
raises an exception of its own while it connects. So the public method ``Engine.raw_connection``, through
which every connection of an engine is obtained, is replaced by one that calls it and reads the clock. It
returns the same object and raises the same exception. From Python 3.11 on, the traceback has no frame of this
module.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from time import perf_counter
from typing import Any

from web_prom.database.sqlalchemy_engine import EngineRecorder

_KEY = "web_prom"
"""The key in the ``info`` of a connection: its engine recorder, and when it was checked out."""

GetEngineRecorder = Callable[[Any], EngineRecorder | None]
"""Returns what records an engine, or None. Never raises."""

OnError = Callable[[EngineRecorder | None], None]
"""Counts an error of the instrumentation, while the exception is handled. Never raises."""


class _Checkout:
    """One request for a connection.

    Attributes:
        engine_recorder: What records the engine.
        connecting: When the opening of a connection began, or None if none is being opened.
        creating: Seconds that were spent to open connections.
    """

    __slots__ = ("connecting", "creating", "engine_recorder")

    def __init__(self, engine_recorder: EngineRecorder) -> None:
        self.engine_recorder = engine_recorder
        self.connecting: float | None = None
        self.creating = 0.0


_current: ContextVar[_Checkout | None] = ContextVar("web_prom_checkout", default=None)


class Checkouts:
    """The replaced method, and the listeners of the events of pools.

    Args:
        get_engine_recorder: Finds the engine recorder.
        on_error: Counts errors of the instrumentation.
        timeout_error: SQLAlchemy's exception if a pool gave no connection within its timeout.
    """

    def __init__(
        self, get_engine_recorder: GetEngineRecorder, on_error: OnError, timeout_error: type[Exception]
    ) -> None:
        self._get_engine_recorder = get_engine_recorder
        self._on_error = on_error
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
                if error.__traceback__ is not None:
                    error.__traceback__ = error.__traceback__.tb_next
                raise
            self._on_success(checkout, started, engine, connection)
            return connection

        return measured

    def on_do_connect(self, dialect: Any, record: Any, cargs: Any, cparams: Any) -> None:
        """Begin to open a connection: a listener of ``do_connect``."""
        try:
            checkout = _current.get()
            if checkout is not None:
                checkout.connecting = perf_counter()
        except Exception:
            self._on_error(None)

    def on_connect(self, dbapi_connection: Any, record: Any) -> None:
        """Record a connection that was opened: a listener of ``connect``."""
        checkout = _current.get()
        if checkout is None:
            return
        try:
            engine_recorder = checkout.engine_recorder
            record.info[_KEY] = engine_recorder, None
            recorder = engine_recorder.recorder()
            if recorder is None:
                return
            pool = recorder.pool(engine_recorder.namespace)
            if checkout.connecting is None:  # an engine with a creator sends no do_connect
                pool.count_opened()
                return
            seconds = perf_counter() - checkout.connecting
            checkout.connecting = None
            checkout.creating += seconds
            pool.observe_create(seconds)
        except Exception:
            self._on_error(checkout.engine_recorder)

    def on_checkin(self, dbapi_connection: Any, record: Any) -> None:
        """Record how long a connection was used: a listener of ``checkin``."""
        self._end_use(record)

    def on_detach(self, dbapi_connection: Any, record: Any) -> None:
        """Record a connection that leaves its pool: a listener of ``detach``."""
        self._end_use(record)
        self.on_close(dbapi_connection, record)

    def on_close(self, dbapi_connection: Any, record: Any) -> None:
        """Count a connection that is closed: a listener of ``close``."""
        try:
            entry = record.info.get(_KEY)
            recorder = None if entry is None else entry[0].recorder()
            if recorder is not None:
                recorder.pool(entry[0].namespace).count_closed()
        except Exception:
            self._on_error(None)

    def _start(self, engine: Any) -> tuple[_Checkout | None, float]:
        try:
            engine_recorder = self._get_engine_recorder(engine)
            if engine_recorder is None:
                return None, 0.0
            checkout, started = _Checkout(engine_recorder), perf_counter()
            engine_recorder.pending.append(None)
            _current.set(checkout)
            return checkout, started
        except Exception:
            self._on_error(None)
            return None, 0.0

    def _on_success(self, checkout: _Checkout | None, started: float, engine: Any, connection: Any) -> None:
        if checkout is None:
            return
        engine_recorder = checkout.engine_recorder
        try:
            self._end(checkout)
            ended = perf_counter()
            engine_recorder.on_connected(engine)
            connection.info[_KEY] = engine_recorder, ended
            recorder = engine_recorder.recorder()
            if recorder is not None:
                waited = max(0.0, ended - started - checkout.creating)
                recorder.pool(engine_recorder.namespace).observe_wait(waited)
        except Exception:
            self._on_error(engine_recorder)

    def _on_failure(self, checkout: _Checkout | None, error: BaseException) -> None:
        if checkout is None:
            return
        try:
            self._end(checkout)
            engine_recorder = checkout.engine_recorder
            recorder = engine_recorder.recorder()
            if recorder is None:
                return
            if isinstance(error, self._timeout_error):
                recorder.pool(engine_recorder.namespace).count_timeout()
            elif checkout.connecting is not None:
                recorder.pool(engine_recorder.namespace).count_failure(type(error).__qualname__)
        except Exception:
            self._on_error(checkout.engine_recorder)

    def _end(self, checkout: _Checkout) -> None:
        _current.set(None)
        if checkout.engine_recorder.pending:  # a fork empties it
            checkout.engine_recorder.pending.pop()

    def _end_use(self, record: Any) -> None:
        try:
            entry = record.info.get(_KEY)
            if entry is None or entry[1] is None:
                return
            engine_recorder, checked_out = entry
            record.info[_KEY] = engine_recorder, None
            recorder = engine_recorder.recorder()
            if recorder is not None:
                recorder.pool(engine_recorder.namespace).observe_use(perf_counter() - checked_out)
        except Exception:
            self._on_error(None)
