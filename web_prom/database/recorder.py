"""The database recorder of one application: the only code that observes queries and transactions."""

from __future__ import annotations

from typing import Any

from prometheus_client import Counter, Histogram

from web_prom.database import conventions
from web_prom.database.conventions import DURATION_BUCKETS
from web_prom.database.error_names import driver_error_name, error_name
from web_prom.database.operation_names import operation_name
from web_prom.database.pools import Pool
from web_prom.metrics.conventions import MetricSpec
from web_prom.metrics.labels import EMPTY, OVERFLOW, clean_label_value
from web_prom.metrics.operation_recorder import OperationRecorder, Write
from web_prom.metrics.query_tally import (
    NO_REQUEST,
    TASK,
    QueryCounters,
    QueryTally,
    QueryTotals,
    current_tally,
)
from web_prom.metrics.recorder import Recorder

_current_tally = current_tally.get

MAX_CACHED_TEXTS = 500
"""How many SQL texts of a database have a bound child. If there are more, the cache begins again."""

MAX_POOLS = 1000
"""How many names of pools an application has. Further pools are added up under ``_overflow``."""

MAX_CACHED_LENGTH = 1000
"""The length of the longest SQL text with a bound child."""


class DatabaseRecorder(OperationRecorder):
    """Records the queries, transactions and connection pools of one application.

    Safe to share between threads. After a fork the child uses the same object, and needs no call for that.
    No method raises: an error of the instrumentation is counted in ``web_prom_instrumentation_errors_total``.

    Args:
        recorder: The recorder of the application.

    Attributes:
        databases: What records each database, by system and namespace.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.databases: dict[tuple[str, str], Database] = {}
        self._pools: dict[str, Pool] = {}
        super().__init__(recorder)

    def drop_writers(self) -> None:
        """Drop all children and writers. The next operations look them up again."""
        self._outside: QueryCounters | None = None
        for database in list(self.databases.values()):
            database.drop_writers()
        for pool in list(self._pools.values()):
            pool.drop_writers()

    def on_scrape(self) -> None:
        """Write the gauges of the pools."""
        for pool in list(self._pools.values()):
            pool.write_gauges()

    def database(self, system: str, namespace: str) -> Database:
        """Return what records the queries of one database. Each call returns the same object.

        Args:
            system: The system's name in OpenTelemetry's spelling: ``postgresql``, ``mariadb``, ``mysql``,
                ``sqlite``, ``oracle.db``, ``microsoft.sql_server``.
            namespace: The alias or the name of the database. It contains no host and no password.
        """
        found = self.databases.get((system, namespace))
        return found or self.databases.setdefault((system, namespace), Database(self, system, namespace))

    def pool(self, name: str, system: str = "") -> Pool:
        """Return what records a connection pool. Each call returns the same object.

        Args:
            name: The pool's name, usually the namespace of its database.
            system: The name of its database system. The first call for a name counts.
        """
        found = self._pools.get(name)
        if found is None and len(self._pools) >= MAX_POOLS:
            name = OVERFLOW
        return found or self._pools.setdefault(name, Pool(self, name, system))

    def observe(
        self, system: str, namespace: str, sql: Any, seconds: float, error: BaseException | None = None
    ) -> None:
        """Record one query: see :meth:`Database.observe`, which is faster for many queries."""
        self.database(system, namespace).observe(sql, seconds, error)

    def count_outside(self, totals: QueryTotals) -> None:
        """Count queries of no request and no task."""
        counters = self._outside
        if counters is None:
            counters = self._outside = self.recorder.query_counters(NO_REQUEST, NO_REQUEST)
        counters.add(totals)

    def count_task(self, name: object, tally: QueryTally) -> None:
        """Close the tally of a task, and count its queries under the name of the task."""
        try:
            totals = tally.close()
            if totals is not None:
                self.recorder.query_counters(TASK, clean_label_value(name)).add(totals)
        except Exception:
            self.recorder.record_internal_error("database")


class Database:
    """Records the queries and transactions of one database. Safe to share between threads.

    Args:
        recorder: The database recorder of the application.
        system, namespace: See :meth:`DatabaseRecorder.database`.

    Attributes:
        writes: What writes the duration of a query that succeeded, by its text. Only some texts are in it.
    """

    def __init__(self, recorder: DatabaseRecorder, system: str, namespace: str) -> None:
        self._recorder = recorder
        self._labels = {"db_system_name": system, "db_namespace": namespace}
        self.drop_writers()

    def drop_writers(self) -> None:
        """Drop all children and writers. The next queries look them up again."""
        self.writes: dict[Any, Write] = {}
        self._by_name: dict[tuple[str, str, str], Write] = {}
        self._counters: dict[str, Any] = {}

    def observe(self, sql: Any, seconds: float, error: BaseException | None = None) -> None:
        """Record one query, also in the tally of its request. Never raises.

        A call of ``executemany`` is one query. A query with a server-side cursor lasts until the cursor is
        open.

        Args:
            sql: The SQL text with placeholders. Another object, for example ``psycopg.sql.Composed`` or
                bytes, is converted.
            seconds: The duration.
            error: The exception that the query raised, or None.
        """
        # The usual path is written out, because each call of a function takes time in each query.
        try:
            if error is None:
                try:
                    write = self.writes[sql]
                except (KeyError, TypeError):  # an object that is not a string may have no hash
                    sql = _as_text(sql)
                    write = self._write_for_text(sql)
            else:
                sql = _as_text(sql)
                write = self._write_for_error(operation_name(sql), error)
            write(seconds, None)
            tally = _current_tally()
            if tally is None or not tally.add(sql, seconds):
                self._recorder.count_outside(QueryTotals(1, seconds, 0))
        except Exception:
            self._recorder.recorder.record_internal_error("database")

    def observe_command(self, name: str, seconds: float, error: str) -> None:
        """Record a command that has no text, also in the tally of its request. Never raises.

        It is one of the request's queries. Without a text it cannot repeat another one.

        Args:
            name: The command, from a closed list.
            seconds: The duration.
            error: The name of the error, or an empty string.
        """
        try:
            self._write_for(name, error, error)(seconds, None)
            totals = QueryTotals(1, seconds, 0)
            tally = current_tally.get()
            if tally is None or not tally.add_totals(totals):
                self._recorder.count_outside(totals)
        except Exception:
            self._recorder.recorder.record_internal_error("database")

    def observe_transaction(self, outcome: str, seconds: float, error: BaseException | None = None) -> None:
        """Record a commit or a rollback, and its duration. Never raises.

        It is an operation, and part of the seconds of its request. It is not one of the request's queries.

        Args:
            outcome: ``commit`` or ``rollback``.
            seconds: The duration.
            error: The exception that it raised, or None. Then the transaction is not counted.
        """
        try:
            name = outcome.upper()
            write = self._write_for(name) if error is None else self._write_for_error(name, error)
            write(seconds, None)
            totals = QueryTotals(0, seconds, 0)
            tally = current_tally.get()
            if tally is None or not tally.add_totals(totals):
                self._recorder.count_outside(totals)
        except Exception:
            self._recorder.recorder.record_internal_error("database")
        if error is None:
            self.count_transaction(outcome)

    def count_transaction(self, outcome: str) -> None:
        """Count the end of a transaction: ``commit`` or ``rollback``. Never raises."""
        self._count(conventions.TRANSACTIONS, "outcome", outcome)

    def count_savepoint(self, operation: str) -> None:
        """Count an operation on a savepoint: ``create``, ``release`` or ``rollback``. Never raises."""
        self._count(conventions.SAVEPOINTS, "operation", operation)

    def _count(self, spec: MetricSpec, label: str, value: str) -> None:
        try:
            inc = self._counters.get(spec.name + value)
            if inc is None:
                counters = self._counters
                family = self._recorder.families.limited_family(Counter, spec, bounded=(label,))
                inc, keep = self._recorder.counter_inc(family, {**self._labels, label: value})
                if keep:
                    counters[spec.name + value] = inc
            inc(1)
        except Exception:
            self._recorder.recorder.record_internal_error("database")

    def _write_for_text(self, sql: str) -> Write:
        writes = self.writes
        write = self._write_for(operation_name(sql))
        if len(sql) <= MAX_CACHED_LENGTH:
            if len(writes) >= MAX_CACHED_TEXTS:
                writes.clear()
            writes[sql] = write
        return write

    def _write_for_error(self, name: str, error: BaseException) -> Write:
        return self._write_for(name, error_name(error), driver_error_name(error))

    def _write_for(self, name: str, error: str = EMPTY, driver_error: str = EMPTY) -> Write:
        by_name = self._by_name
        write = by_name.get((name, error, driver_error))
        if write is None:
            family = self._recorder.families.limited_family(
                Histogram,
                conventions.OPERATION_DURATION,
                bounded=("db_operation_name",),
                buckets=DURATION_BUCKETS,
            )
            attributes = {
                **self._labels,
                "db_operation_name": name,
                "error_type": error,
                "driver_error": driver_error,
            }
            write, keep = self._recorder.histogram_write(family, attributes, DURATION_BUCKETS)
            if keep or error == EMPTY:
                by_name[name, error, driver_error] = write
        return write


def _as_text(sql: Any) -> str:
    """Return the text of a query, which may be an object of the driver. Never raises."""
    if sql.__class__ is str:
        return sql
    try:
        if isinstance(sql, bytes):
            return sql.decode("utf-8", "replace")
        return str(sql.as_string(None)) if hasattr(sql, "as_string") else str(sql)
    except Exception:  # psycopg2's Composed needs a connection
        return ""
