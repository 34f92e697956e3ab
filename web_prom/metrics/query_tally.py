"""The queries of one request, counted while it runs and written by route when it ends."""

from __future__ import annotations

from contextvars import ContextVar
from threading import RLock
from typing import Any, NamedTuple, Protocol

from web_prom.metrics.sql_text import begins_or_ends_transaction
from web_prom.metrics.writers import RequestWriter
from web_prom.posix import at_fork

MAX_TEMPLATES = 1000
"""How many SQL texts of one request are remembered. Further texts are not checked for repetition."""

MAX_PENDING = 200
"""How many queries of one request are kept before they are counted."""

# Each savepoint has its own name. Its texts would take the places of all others.
_SAVEPOINT_STARTS = frozenset({"SAVEPOIN", "RELEASE ", "ROLLBACK"})

NO_REQUEST = "_none"
"""The method and the route of queries outside of a request and of a task."""

TASK = "_task"
"""The method of the queries of a task. The route is the task's name."""

# Reentrant, because a finalizer of the garbage collector can run a query in a thread that holds the lock.
_lock = RLock()

# A thread of the parent that held the lock does not exist in a forked child.
at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]


class QueryTotals(NamedTuple):
    """What a tally has counted.

    Attributes:
        queries: The number of queries.
        seconds: Their durations, added up.
        repeated: The executions of one SQL text beyond the second, added up over all texts. Statements that
            begin or end transactions and savepoints do not count.
    """

    queries: int
    seconds: float
    repeated: int


class OutsideQueries(Protocol):
    """Counts queries that belong to no request and no task."""

    def count_outside(self, totals: QueryTotals) -> None:
        """Count queries under the route :data:`NO_REQUEST`."""


class QueryTally:
    """The queries of one request or of one task. Threads and tasks that have its context share it.

    Args:
        owner: The database recorder of the application, or None. It also records the queries of engines that
            are bound to no application.

    Attributes:
        owner: As given.
        closed: Whether the request has ended. A closed tally counts nothing more.
    """

    __slots__ = (
        "_executions",
        "_pending",
        "_previous",
        "_queries",
        "_repeated",
        "_seconds",
        "closed",
        "owner",
    )

    def __init__(self, owner: Any) -> None:
        self.owner = owner
        self.closed = False
        self._queries = self._repeated = 0
        self._seconds = 0.0
        # SQL texts are kept by their hash, because they can be long. Only few are pending.
        self._executions: dict[int, int] = {}
        self._pending: list[tuple[str, float]] = []
        self._previous: QueryTally | None = None

    def add(self, sql: str, seconds: float) -> bool:
        """Count a query. Return False if the tally is closed.

        The query is pending until the tally is read, or until many are pending. An append to a list is
        atomic for all threads, and takes a fraction of the time of a lock.

        Args:
            sql: The SQL text with placeholders. Equal texts are executions of one template.
            seconds: The duration.
        """
        pending = self._pending
        query = sql, seconds
        pending.append(query)
        if self.closed:
            return self._was_counted(query)
        if len(pending) >= MAX_PENDING:
            with _lock:
                self._count_pending()
        return True

    def _was_counted(self, query: tuple[str, float]) -> bool:
        """Remove a query that is pending in a closed tally. Return False if it is pending."""
        with _lock:
            if query not in self._pending:
                return True
            self._pending.remove(query)
            return False

    def _count_pending(self) -> None:
        """Count the pending queries. The caller holds the lock."""
        pending = self._pending[:]
        del self._pending[: len(pending)]  # others may have been appended meanwhile
        self._queries += len(pending)
        executions = self._executions
        for sql, seconds in pending:
            self._seconds += seconds
            template = hash(sql)
            count = executions.get(template)
            if count is None:
                if len(executions) < MAX_TEMPLATES and sql[:8] not in _SAVEPOINT_STARTS:
                    executions[template] = 1
            elif count == 1:
                if not begins_or_ends_transaction(sql):
                    executions[template] = 2
            else:
                self._repeated += 1

    def totals(self) -> QueryTotals:
        """Return what the tally has counted until now."""
        with _lock:
            self._count_pending()
            return QueryTotals(self._queries, self._seconds, self._repeated)

    def add_totals(self, totals: QueryTotals) -> bool:
        """Count the queries of another tally. Return False if this tally is closed."""
        with _lock:
            if self.closed:
                return False
            self._queries += totals.queries
            self._seconds += totals.seconds
            self._repeated += totals.repeated
        return True

    def close(self) -> QueryTotals | None:
        """End the tally, and return what it has counted; None if it was closed before.

        The tally that was current when this one was opened becomes current again.
        """
        with _lock:
            if self.closed:
                return None
            self.closed = True
            totals = self.totals()
        self._executions = {}
        previous, self._previous = self._previous, None
        if current_tally.get() is self:
            current_tally.set(previous)
        return totals


current_tally: ContextVar[QueryTally | None] = ContextVar("web_prom_query_tally", default=None)
"""The tally of the request or the task that runs in this context.

It refers to no recording: a recording that no code finishes is found when it is deleted.
"""


def open_tally(owner: Any) -> QueryTally:
    """Return a new tally that is the current one of this context.

    Args:
        owner: See :class:`QueryTally`.
    """
    tally = QueryTally(owner)
    previous = current_tally.get()
    if previous is not None and not previous.closed:
        tally._previous = previous
    current_tally.set(tally)
    return tally


class QueryCounters:
    """The counters of one method and route. Safe to share between threads.

    Args:
        queries, seconds, repeated: The children of the counters.
    """

    __slots__ = ("_queries", "_repeated", "_seconds")

    def __init__(self, queries: Any, seconds: Any, repeated: Any) -> None:
        self._queries, self._seconds, self._repeated = queries.inc, seconds.inc, repeated.inc

    def add(self, totals: QueryTotals) -> None:
        """Add what a tally has counted."""
        queries, seconds, repeated = totals
        if seconds or queries:
            self._queries(queries)
            self._seconds(seconds)
            if repeated:
                self._repeated(repeated)


class TallyWriter:
    """A request writer that also writes the queries of the request, and closes its tally."""

    __slots__ = ("_counters", "_writer")

    def __init__(self, writer: RequestWriter, counters: QueryCounters) -> None:
        self._writer = writer
        self._counters = counters

    def write(self, duration: float, recording: Any) -> None:
        """Write one request and its queries."""
        self._writer.write(duration, recording)
        totals = recording.tally.close()
        if totals is not None:
            self._counters.add(totals)
