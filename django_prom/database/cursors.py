"""Measures COPY and stored procedures, which Django executes without execute wrappers.

PostgreSQL's cursors have methods for COPY: ``copy`` in psycopg 3; ``copy_expert``, ``copy_from`` and
``copy_to`` in psycopg2. Django passes a call of these to the driver, and also ``callproc``.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from types import TracebackType
from typing import Any, Protocol

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from web_prom.database.recorder import Database
from web_prom.database.tracebacks import remove_own_frame

KEY = "_web_prom"
"""The attribute of a connection object that has what measures it."""

_classes: dict[type[Any], type[Any]] = {}

# SQLite has neither.
_WITHOUT = frozenset({"sqlite", "unknown"})


class HasDatabase(Protocol):
    """Gives what records the queries of a connection."""

    def database(self) -> Database | None:
        """Return it, or None if databases are not measured."""


def measure_cursors(connection: Any) -> list[str]:
    """Let a connection object create cursors that measure COPY and stored procedures.

    The class of such a cursor is a subclass of the class that it has otherwise, with the same name.

    Returns:
        The names of the attributes that the connection object has got.
    """
    if connection.vendor in _WITHOUT:
        return []
    replaced = []
    for name in ("make_cursor", "make_debug_cursor"):
        make = getattr(connection, name, None)
        if make is not None:
            setattr(connection, name, _maker(connection, make))
            replaced.append(name)
    return replaced


def _maker(connection: Any, make: Callable[..., Any]) -> Callable[..., Any]:
    if getattr(make, "__func__", None) is BaseDatabaseWrapper.make_cursor:
        cursor_class = measured_class(CursorWrapper)
        # Every query makes a cursor. This is as fast as Django's own method.
        return lambda cursor: cursor_class(cursor, connection)

    def make_measured(*args: Any, **kwargs: Any) -> Any:
        cursor = make(*args, **kwargs)
        kind = type(cursor)
        if issubclass(kind, CursorWrapper) and not issubclass(kind, MeasuredCursor):
            cursor.__class__ = measured_class(kind)
        return cursor

    return make_measured


def measured_class(kind: type[Any]) -> type[Any]:
    """Return a subclass of a class of Django's cursors that measures COPY and stored procedures."""
    found = _classes.get(kind)
    if found is None:
        found = _classes.setdefault(kind, _make_class(kind))
    return found


def _make_class(kind: type[Any]) -> type[Any]:
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type(kind.__name__, (MeasuredCursor, kind), names)


def _copy_method(name: str) -> Any:
    def find(cursor: Any) -> Callable[..., Any]:
        # A class of Django has the method only for its debug log. Otherwise the driver's method is used.
        try:
            method = getattr(super(MeasuredCursor, cursor), name)
        except AttributeError:
            method = getattr(cursor.cursor, name)
        return _measured_copy(cursor.db, method, name)

    return property(find)


class MeasuredCursor:
    """Measures COPY and stored procedures of a cursor: a base of the classes that measured_class makes."""

    db: Any

    copy = _copy_method("copy")
    copy_expert = _copy_method("copy_expert")
    copy_from = _copy_method("copy_from")
    copy_to = _copy_method("copy_to")

    def callproc(self, *args: Any, **kwargs: Any) -> Any:
        """Call a stored procedure and measure it."""
        call: Callable[..., Any] = super().callproc  # type: ignore[misc]
        name = args[0] if args else kwargs.get("procname", "")
        try:
            return _measured_call(_database(self.db), f"CALL {name}", call, args, kwargs)
        except BaseException as error:
            remove_own_frame(error)
            raise


def _measured_copy(connection: Any, method: Callable[..., Any], name: str) -> Callable[..., Any]:
    def copy(*args: Any, **kwargs: Any) -> Any:
        database = _database(connection)
        try:
            if name == "copy" and database is not None:
                statement = args[0] if args else kwargs.get("statement", "COPY")
                return _Copy(method(*args, **kwargs), database, statement)
            statement = args[0] if name == "copy_expert" and args else kwargs.get("sql", "COPY")
            return _measured_call(database, statement, method, args, kwargs)
        except BaseException as error:
            remove_own_frame(error)
            raise

    return copy


def _measured_call(
    database: Database | None, sql: Any, call: Callable[..., Any], args: Any, kwargs: Any
) -> Any:
    started = perf_counter()
    try:
        result = call(*args, **kwargs)
    except BaseException as error:
        if database is not None:
            database.observe(sql, perf_counter() - started, error)
        remove_own_frame(error)
        raise
    if database is not None:
        database.observe(sql, perf_counter() - started)
    return result


class _Copy:
    """The context manager of psycopg 3's ``copy``. Its block is the duration of the operation."""

    def __init__(self, manager: Any, database: Database, statement: Any) -> None:
        self._manager = manager
        self._database = database
        self._statement = statement
        self._started = 0.0

    def __enter__(self) -> Any:
        self._started = perf_counter()
        try:
            return self._manager.__enter__()
        except BaseException as error:
            self._observe(error)
            remove_own_frame(error)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Any:
        try:
            suppressed = self._manager.__exit__(kind, error, trace)
        except BaseException as failure:
            self._observe(failure)
            remove_own_frame(failure)
            raise
        self._observe(error)
        return suppressed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)

    def _observe(self, error: BaseException | None) -> None:
        self._database.observe(self._statement, perf_counter() - self._started, error)


def _database(connection: Any) -> Database | None:
    measured: HasDatabase | None = getattr(connection, KEY, None)
    return None if measured is None else measured.database()
