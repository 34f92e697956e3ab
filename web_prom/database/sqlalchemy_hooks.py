"""SQLAlchemy: one engine, or every engine of the process, also the engine inside an ``AsyncEngine``.

SQLAlchemy is imported when one of the functions is called.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from threading import Lock
from typing import Any
from weakref import WeakSet

from prometheus_client import REGISTRY, CollectorRegistry

from web_prom.config.settings import Config
from web_prom.database.activation import activate, default_recorder, find_recorder
from web_prom.database.recorder import DatabaseRecorder
from web_prom.database.sqlalchemy_checkout import Checkouts, measure_creator, restore_creator
from web_prom.database.sqlalchemy_dialect import remove_hooks
from web_prom.database.sqlalchemy_engine import EngineRecorder
from web_prom.database.sqlalchemy_names import namespace_of
from web_prom.metrics.families import existing_families
from web_prom.metrics.recorder import Recorder
from web_prom.posix import at_fork
from web_prom.upstream.registry import check_registry

logger = logging.getLogger("web_prom")

FindApplication = Callable[[Any], tuple[DatabaseRecorder, str] | None]
"""Returns the database recorder and the namespace of an engine that belongs to an application, or None."""

# The attribute of an engine's dialect, which engines with other execution options share. It is False for an
# engine that is not measured.
_ATTRIBUTE = "_web_prom_engine"


class _State:
    """What this process measures.

    Attributes:
        measures_all: Whether every engine is measured.
        is_listening: Whether checkouts are measured.
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

# A thread of the parent that held the lock does not exist in a forked child.
at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]


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
    registry, also that of the pool's gauges.

    Args:
        engine: An ``Engine`` or an ``AsyncEngine``.
        registry: The registry of the metrics. If it is omitted, the application of the current request
            records each query, outside of requests the application that was set up last. If there is no
            application with ``PROM_DATABASE``, it is prometheus_client's default registry, with the settings
            of the environment.

    Raises:
        TypeError: The object is not an engine, or ``registry`` is not a registry.
        WebPromError: A setting is not allowed, or another application uses the registry with other settings.
    """
    engine = _sync_engine(engine)
    if registry is None and default_recorder() is not None:
        application = None
    else:
        application = _recorder_for(REGISTRY if registry is None else registry)
    with _lock:
        _listen()
        known = engine.dialect.__dict__.get(_ATTRIBUTE)
        if known:
            known.set_application(application)
        else:
            _add_engine_recorder(engine, application, namespace_of(engine))


def uninstrument(engine: Any) -> None:
    """Stop to measure one SQLAlchemy engine, also where every engine is measured.

    Args:
        engine: An ``Engine`` or an ``AsyncEngine``.

    Raises:
        TypeError: The object is not an engine.
    """
    engine = _sync_engine(engine)
    dialect = engine.dialect
    with _lock:
        known = dialect.__dict__.get(_ATTRIBUTE)
        setattr(dialect, _ATTRIBUTE, False)
        remove_hooks(dialect)
        restore_creator(engine.pool)
    if known:
        known.stop()


def _sync_engine(engine: Any) -> Any:
    from sqlalchemy.engine import Engine

    found = getattr(engine, "sync_engine", engine)
    if not isinstance(found, Engine):
        raise TypeError(f"{engine!r} is not an Engine or an AsyncEngine of SQLAlchemy")
    return found


def _recorder_for(registry: CollectorRegistry) -> DatabaseRecorder:
    check_registry(registry, "collect", "register")
    found = find_recorder(registry)
    if found is not None:
        return found
    families = existing_families(registry)
    config = Config.load(environ=os.environ) if families is None else families.config
    recorder = Recorder(replace(config, database=True), registry, owner="web_prom.database.instrument")
    _state.own_recorders.append(recorder)
    return activate(recorder, is_application=False)


def _listen() -> None:
    """Measure the checkouts of all engines, once. The caller holds the lock."""
    if _state.is_listening:
        return
    _state.is_listening = True
    from sqlalchemy import event, exc
    from sqlalchemy.engine import Engine
    from sqlalchemy.pool import Pool

    checkouts = Checkouts(_find_engine_recorder, exc.TimeoutError)
    for name, listener in checkouts.listeners().items():
        event.listen(Pool, name, listener)
    Engine.raw_connection = checkouts.wrap(Engine.raw_connection)


def _find_engine_recorder(engine: Any) -> EngineRecorder | None:
    """Return the engine recorder. Create it for an engine that is used for the first time."""
    found = engine.dialect.__dict__.get(_ATTRIBUTE)
    if found is None and _state.measures_all:
        with _lock:
            found = engine.dialect.__dict__.get(_ATTRIBUTE)
            if found is None:
                application, namespace = _find_application(engine) or (None, namespace_of(engine))
                found = _add_engine_recorder(engine, application, namespace)
    return found or None


def _add_engine_recorder(engine: Any, application: DatabaseRecorder | None, namespace: str) -> EngineRecorder:
    """Create the engine recorder of an engine. The caller holds the lock."""
    engine_recorder = EngineRecorder(engine, application, namespace)
    measure_creator(engine.pool)
    setattr(engine.dialect, _ATTRIBUTE, engine_recorder)
    return engine_recorder


def _find_application(engine: Any) -> tuple[DatabaseRecorder, str] | None:
    return next((found for find in list(_state.finders) if (found := find(engine)) is not None), None)
