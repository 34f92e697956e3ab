"""SQLAlchemy, by its events: one engine, or every engine of the process.

SQLAlchemy is imported when one of the functions is called. The listeners belong to SQLAlchemy's classes. So
they also see engines that exist already, and the engine inside an ``AsyncEngine``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from threading import Lock
from time import perf_counter
from typing import Any
from weakref import WeakSet

from prometheus_client import REGISTRY, CollectorRegistry

from web_prom.config.settings import Config
from web_prom.database.activation import activate, default_recorder, find_recorder
from web_prom.database.recorder import DatabaseRecorder
from web_prom.database.sqlalchemy_checkout import Checkouts
from web_prom.database.sqlalchemy_engine import EngineRecorder
from web_prom.database.sqlalchemy_names import namespace_of
from web_prom.metrics.families import existing_families
from web_prom.metrics.recorder import Recorder

logger = logging.getLogger("web_prom")

FindApplication = Callable[[Any], tuple[DatabaseRecorder, str] | None]
"""Returns the database recorder and the namespace of an engine that belongs to an application, or None."""

# The attribute of an engine's dialect, which engines with other execution options share. It is False for an
# engine that is not measured.
_ATTRIBUTE = "_web_prom_engine"
_STARTED = "_web_prom_started"


class _State:
    """What this process measures.

    Attributes:
        measures_all: Whether every engine is measured.
        is_listening: Whether the listeners are added.
        finders: Functions of adapters that find the application of an engine.
        own_recorders: The recorders that :func:`instrument` created, for programs without an application.
    """

    def __init__(self) -> None:
        self.measures_all = False
        self.is_listening = False
        self.finders: WeakSet[FindApplication] = WeakSet()
        self.own_recorders: list[Recorder] = []


_state = _State()
_lock = Lock()


def instrument_all(find_application: FindApplication | None = None) -> None:
    """Measure every engine of the process, if SQLAlchemy is installed. Further calls change nothing.

    A middleware calls it where ``PROM_DATABASE`` is on.

    Args:
        find_application: Finds the application of an engine. It is called once for each engine, when the
            engine is used for the first time. The caller must keep it alive.
    """
    if find_spec("sqlalchemy") is None:
        logger.warning("PROM_DATABASE is on, but SQLAlchemy is not installed: no query is measured")
        return
    with _lock:
        _state.measures_all = True
        if find_application is not None:
            _state.finders.add(find_application)
        _listen()


def instrument(engine: Any, *, registry: CollectorRegistry | None = None) -> None:
    """Measure the queries, the pool and the transactions of one SQLAlchemy engine.

    It is not needed where an application has ``PROM_DATABASE`` on. It is for other programs, for example a
    worker of a task queue, and for an engine that has to be in a certain registry. A second call replaces the
    registry.

    Args:
        engine: An ``Engine`` or an ``AsyncEngine``.
        registry: The registry of the metrics. If it is omitted, the application of the current request
            records each query, outside of requests the application that was set up last. If there is no
            application with ``PROM_DATABASE``, it is prometheus_client's default registry, with the settings
            of the environment.

    Raises:
        TypeError: The object is not an engine.
        WebPromError: A setting is not allowed, or another application uses the registry with other settings.
    """
    engine = _sync_engine(engine)
    if registry is None and default_recorder() is not None:
        application = None
    else:
        application = _recorder_for(REGISTRY if registry is None else registry)
    with _lock:
        _listen()
        known = _engine_recorder(engine)
        if known is None:
            setattr(engine.dialect, _ATTRIBUTE, EngineRecorder(engine, application, namespace_of(engine)))
        else:
            known.application = application


def uninstrument(engine: Any) -> None:
    """Stop to measure one SQLAlchemy engine, also where every engine is measured.

    Args:
        engine: An ``Engine`` or an ``AsyncEngine``.

    Raises:
        TypeError: The object is not an engine.
    """
    setattr(_sync_engine(engine).dialect, _ATTRIBUTE, False)


def _sync_engine(engine: Any) -> Any:
    from sqlalchemy.engine import Engine

    found = getattr(engine, "sync_engine", engine)
    if not isinstance(found, Engine):
        raise TypeError(f"{engine!r} is not an Engine or an AsyncEngine of SQLAlchemy")
    return found


def _recorder_for(registry: CollectorRegistry) -> DatabaseRecorder:
    found = find_recorder(registry)
    if found is not None:
        return found
    families = existing_families(registry)
    config = Config.load(environ=os.environ) if families is None else families.config
    recorder = Recorder(replace(config, database=True), registry, owner="web_prom.database.instrument")
    _state.own_recorders.append(recorder)
    return activate(recorder)


def _listen() -> None:
    """Add the listeners, once. The caller holds the lock."""
    if _state.is_listening:
        return
    _state.is_listening = True
    from sqlalchemy import event, exc
    from sqlalchemy.engine import Engine
    from sqlalchemy.pool import Pool

    # With retval, SQLAlchemy puts no function of its own around the listener.
    event.listen(Engine, "before_cursor_execute", _before_cursor_execute, retval=True)
    for name, listener in (
        ("after_cursor_execute", _after_cursor_execute),
        ("handle_error", _on_error),
        ("commit", lambda connection: _count(connection, "count_transaction", "commit")),
        ("rollback", lambda connection: _count(connection, "count_transaction", "rollback")),
        ("commit_twophase", lambda connection, *_: _count(connection, "count_transaction", "commit")),
        ("rollback_twophase", lambda connection, *_: _count(connection, "count_transaction", "rollback")),
        ("savepoint", lambda connection, _: _count(connection, "count_savepoint", "create")),
        ("release_savepoint", lambda connection, *_: _count(connection, "count_savepoint", "release")),
        ("rollback_savepoint", lambda connection, *_: _count(connection, "count_savepoint", "rollback")),
    ):
        event.listen(Engine, name, listener)
    checkouts = Checkouts(_find_engine_recorder, _record_internal_error, exc.TimeoutError)
    event.listen(Engine, "do_connect", checkouts.on_do_connect)
    event.listen(Pool, "connect", checkouts.on_connect)
    event.listen(Pool, "checkin", checkouts.on_checkin)
    event.listen(Pool, "detach", checkouts.on_detach)
    event.listen(Pool, "close", checkouts.on_close)
    Engine.raw_connection = checkouts.wrap(Engine.raw_connection)


def _find_engine_recorder(engine: Any) -> EngineRecorder | None:
    """Return the engine recorder. Create it for an engine that is used for the first time."""
    found = engine.dialect.__dict__.get(_ATTRIBUTE)
    if found is None and _state.measures_all:
        with _lock:
            found = engine.dialect.__dict__.get(_ATTRIBUTE)
            if found is None:
                application, namespace = _find_application(engine) or (None, namespace_of(engine))
                found = EngineRecorder(engine, application, namespace)
                setattr(engine.dialect, _ATTRIBUTE, found)
    return found or None


def _find_application(engine: Any) -> tuple[DatabaseRecorder, str] | None:
    return next((found for find in list(_state.finders) if (found := find(engine)) is not None), None)


def _engine_recorder(owner: Any) -> EngineRecorder | None:
    """Return what records an engine or the engine of a connection, or None."""
    return owner.dialect.__dict__.get(_ATTRIBUTE) or None


def _record_internal_error(engine_recorder: EngineRecorder | None) -> None:
    """Count an error of the instrumentation, while the exception is handled."""
    recorder = default_recorder() if engine_recorder is None else engine_recorder.recorder()
    if recorder is not None:
        recorder.recorder.record_internal_error("database")


def _before_cursor_execute(  # noqa: PLR0917 - SQLAlchemy passes them by position
    connection: Any, cursor: Any, statement: Any, parameters: Any, context: Any, executemany: bool
) -> tuple[Any, Any]:
    try:
        setattr(context, _STARTED, perf_counter())
    except Exception:
        _record_internal_error(None)
    return statement, parameters


def _after_cursor_execute(  # noqa: PLR0917 - SQLAlchemy passes them by position
    connection: Any, cursor: Any, statement: Any, parameters: Any, context: Any, executemany: bool
) -> None:
    try:
        ended = perf_counter()
        started = context._web_prom_started
        # An error while rows are fetched is not another query.
        context._web_prom_started = None
        engine_recorder = connection.dialect.__dict__.get(_ATTRIBUTE)
        if engine_recorder and started is not None:
            engine_recorder.observe(statement, ended - started)
    except Exception:
        _record_internal_error(None)


def _on_error(error_context: Any) -> None:
    try:
        ended = perf_counter()
        engine_recorder = error_context.dialect.__dict__.get(_ATTRIBUTE)
        if not engine_recorder or error_context.connection is None:
            return
        if error_context.statement is None:
            engine_recorder.count_transaction("error")
            return
        context = error_context.execution_context
        started = getattr(context, _STARTED, None)
        if started is not None:
            context._web_prom_started = None
            # The same class names as those of Django: IntegrityError, OperationalError.
            error = error_context.sqlalchemy_exception or error_context.original_exception
            engine_recorder.observe(error_context.statement, ended - started, error)
    except Exception:
        _record_internal_error(None)


def _count(connection: Any, method: str, value: str) -> None:
    try:
        engine_recorder = _engine_recorder(connection)
        if engine_recorder is not None:
            getattr(engine_recorder, method)(value)
    except Exception:
        _record_internal_error(None)
