"""The hooks of one connection object of Django: queries, transactions, opening and closing."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

from django_prom.database.cursors import measure_cursors
from django_prom.database.measuring import measuring, record_internal_error, system_name
from django_prom.database.psycopg_pools import has_pool, is_counted_by_pool, watch_pool
from web_prom.database.error_names import error_name
from web_prom.database.pools import Pool
from web_prom.database.recorder import Database, DatabaseRecorder
from web_prom.database.tracebacks import remove_own_frame

KEY = "_web_prom"
"""The attribute of a connection object that has its :class:`MeasuredConnection`."""


class MeasuredConnection:
    """Measures one connection object of Django, which can connect to its database many times.

    The queries are measured by an execute wrapper. It is the outermost one: ``execute_wrapper()`` removes the
    last wrapper at the end of its block, and there it would remove this one. The other hooks are attributes
    of the object that call its own methods. Only the thread that uses the connection uses this object.

    Args:
        connection: The connection object. It is not changed: see :meth:`add`.

    Attributes:
        execute: The execute wrapper: executes a query and measures it. It does not read the parameters, which
            can be a generator.
    """

    def __init__(self, connection: Any) -> None:
        self._alias = str(connection.alias)
        self._vendor = str(connection.vendor)
        self._system = system_name(self._vendor, connection.connection)
        self._recorder: DatabaseRecorder | None = None
        self._database: Database | None = None
        self._pool: Pool | None = None
        self._opened: float | None = None
        self._replaced: list[str] = []
        self.execute = self._make_execute()

    @classmethod
    def add(cls, connection: Any) -> None:
        """Hook into a connection object, if that was not done before."""
        if KEY in vars(connection):
            return
        measured = cls(connection)
        setattr(connection, KEY, measured)
        connection.execute_wrappers.insert(0, measured.execute)
        hooks: dict[str, Callable[[Any, Any], Callable[..., Any]]] = {
            "get_new_connection": measured._connecting,
            "_close": measured._closing,
            "_commit": lambda connection, end: measured._ending("commit", connection, end),
            "_rollback": lambda connection, end: measured._ending("rollback", connection, end),
            "_savepoint": lambda _, run: measured._counting("create", run),
            "_savepoint_commit": lambda _, run: measured._counting("release", run),
            "_savepoint_rollback": lambda _, run: measured._counting("rollback", run),
        }
        for name, hook in hooks.items():
            measured._replace(connection, name, hook)
        measured._replaced += measure_cursors(connection)

    @staticmethod
    def remove(connection: Any) -> None:
        """Remove the hooks of a connection object, if it has some."""
        measured = vars(connection).pop(KEY, None)
        if measured is None:
            return
        wrappers = connection.execute_wrappers
        wrappers[:] = [wrapper for wrapper in wrappers if wrapper is not measured.execute]
        for name in measured._replaced:
            vars(connection).pop(name, None)

    def _make_execute(self) -> Callable[..., Any]:
        """Return the execute wrapper. Django calls a function faster than a method."""

        def execute_and_measure(
            execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any
        ) -> Any:
            if self._recorder is not measuring.recorder or self._database is None:
                self._bind()
            database = self._database
            started = perf_counter()
            try:
                result = execute(sql, params, many, context)
            except BaseException as error:
                if database is not None:
                    database.observe(sql, perf_counter() - started, error)
                remove_own_frame(error)
                raise
            if database is not None:
                database.observe(sql, perf_counter() - started)
            return result

        return execute_and_measure

    def database(self) -> Database | None:
        """Return what records the queries, or None if databases are not measured."""
        self._bind()
        return self._database

    def _bind(self) -> None:
        """Look up what the hooks write to. Never raises."""
        recorder = self._recorder = measuring.find_recorder()
        self._database = None if recorder is None else recorder.database(self._system, self._alias)
        self._pool = None if recorder is None else recorder.pool(self._alias, self._system)

    def _replace(self, connection: Any, name: str, hook: Callable[[Any, Any], Callable[..., Any]]) -> None:
        method = getattr(connection, name, None)
        if method is not None:
            setattr(connection, name, hook(connection, method))
            self._replaced.append(name)

    def _connecting(self, connection: Any, connect: Callable[..., Any]) -> Callable[..., Any]:
        def get_new_connection(*args: Any, **kwargs: Any) -> Any:
            started = perf_counter()
            try:
                driver_connection = connect(*args, **kwargs)
            except BaseException as error:
                self._on_failure(connection, error)
                remove_own_frame(error)
                raise
            self._on_opened(connection, driver_connection, perf_counter() - started)
            return driver_connection

        return get_new_connection

    def _on_opened(self, connection: Any, driver_connection: Any, seconds: float) -> None:
        try:
            self._opened = perf_counter()
            self._system = system_name(self._vendor, driver_connection)
            self._bind()
            if self._pool is None or self._recorder is None:
                return
            if watch_pool(self._pool, connection):
                self._pool.observe_wait(seconds)
            else:
                self._pool.observe_create(seconds)
        except Exception:
            record_internal_error()

    def _on_failure(self, connection: Any, error: BaseException) -> None:
        try:
            self._bind()
            if self._pool is not None and not (
                watch_pool(self._pool, connection) and is_counted_by_pool(error)
            ):
                self._pool.count_failure(error_name(error))
        except Exception:
            record_internal_error()

    def _closing(self, connection: Any, close: Callable[..., Any]) -> Callable[..., Any]:
        def _close(*args: Any, **kwargs: Any) -> Any:
            is_open = connection.connection is not None
            try:
                result = close(*args, **kwargs)
            except BaseException as error:
                if is_open:
                    self._on_closed(connection)
                remove_own_frame(error)
                raise
            if is_open:
                self._on_closed(connection)
            return result

        return _close

    def _on_closed(self, connection: Any) -> None:
        try:
            opened, self._opened = self._opened, None
            self._bind()
            if self._pool is None:
                return
            if opened is not None:
                self._pool.observe_use(perf_counter() - opened)
            if not has_pool(connection):
                self._pool.count_closed()
        except Exception:
            record_internal_error()

    def _ending(self, outcome: str, connection: Any, end: Callable[..., Any]) -> Callable[..., Any]:
        def end_transaction(*args: Any, **kwargs: Any) -> Any:
            database = None if connection.connection is None else self.database()
            started = perf_counter()
            try:
                result = end(*args, **kwargs)
            except BaseException as error:
                if database is not None:
                    database.observe_transaction(outcome, perf_counter() - started, error)
                remove_own_frame(error)
                raise
            if database is not None:
                database.observe_transaction(outcome, perf_counter() - started)
            return result

        return end_transaction

    def _counting(self, operation: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def run_and_count(*args: Any, **kwargs: Any) -> Any:
            try:
                result = run(*args, **kwargs)
            except BaseException as error:
                remove_own_frame(error)
                raise
            database = self.database()
            if database is not None:
                database.count_savepoint(operation)
            return result

        return run_and_count
