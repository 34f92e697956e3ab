"""The hooks of one SQLAlchemy dialect object: queries, transactions, savepoints.

Each engine has a dialect object of its own. Its public methods execute what SQLAlchemy sends to the driver.
The hooks are attributes of this object that call its methods. They return what the methods return, and raise
what these raise. From Python 3.11 on, the traceback has no frame of this module.

SQLAlchemy also has events for queries and transactions. They are not used: as soon as an engine has a
listener of one of them, SQLAlchemy spends about ten times as long on each query as the measurement takes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

from web_prom.database.sqlalchemy_engine import EngineRecorder
from web_prom.database.tracebacks import remove_own_frame
from web_prom.metrics.query_tally import QueryTotals, current_tally

Method = Callable[..., Any]

_WITH_PARAMETERS = ("do_execute", "do_executemany")
_EXECUTING = (*_WITH_PARAMETERS, "do_execute_no_params")
_SAVEPOINTS = {
    "do_savepoint": "create",
    "do_release_savepoint": "release",
    "do_rollback_to_savepoint": "rollback",
}
_TWO_PHASE = {"do_commit_twophase": "commit", "do_rollback_twophase": "rollback"}
_ENDS = {"do_commit": "commit", "do_rollback": "rollback"}


class _EndOfTwoPhase:
    """Stands for the tally of a request while a two-phase transaction ends, and notices queries.

    Some dialects send the end as a query, which is measured as such. Others call a method of the driver, or
    the dialect's methods for other transactions.

    Args:
        tally: The tally of the request, or None.

    Attributes:
        owner, closed: As those of the tally of the request.
        has_queries: Whether a query was sent.
    """

    __slots__ = ("_tally", "closed", "has_queries", "owner")

    def __init__(self, tally: Any) -> None:
        self._tally = tally
        self.closed = tally is None or tally.closed
        self.owner = None if tally is None else tally.owner
        self.has_queries = False

    def add(self, sql: str, seconds: float) -> bool:
        """Count a query in the tally of the request: see :meth:`QueryTally.add`."""
        self.has_queries = True
        return False if self._tally is None else self._tally.add(sql, seconds)

    def add_totals(self, totals: QueryTotals) -> bool:
        """Count queries in the tally of the request: see :meth:`QueryTally.add_totals`."""
        return False if self._tally is None else self._tally.add_totals(totals)


def add_hooks(dialect: Any, engine_recorder: EngineRecorder, is_measured: Callable[[Any], bool]) -> None:
    """Measure queries, transactions and savepoints.

    Call it after the first connection was opened: then SQLAlchemy has read the version and the settings of
    the server, which is not measured.

    Args:
        dialect: The dialect object.
        engine_recorder: What records the engine.
        is_measured: Returns whether the end of a transaction on a connection is measured. It must not raise.
    """
    hooks: dict[str, Callable[[Method], Method]] = {
        **{name: partial(_measured_query, engine_recorder) for name in _EXECUTING},
        **{name: partial(_measured_query_with_parameters, engine_recorder) for name in _WITH_PARAMETERS},
        **{name: partial(_counted, engine_recorder, does) for name, does in _SAVEPOINTS.items()},
        **{name: partial(_two_phase, engine_recorder, outcome) for name, outcome in _TWO_PHASE.items()},
        **{
            name: partial(_measured_end, engine_recorder, outcome, is_measured)
            for name, outcome in _ENDS.items()
        },
    }
    for name, hook in hooks.items():
        method = getattr(dialect, name, None)
        if method is not None:
            setattr(dialect, name, hook(method))


def remove_hooks(dialect: Any) -> None:
    """Remove the hooks of a dialect object, if it has some."""
    for name in (*_EXECUTING, *_SAVEPOINTS, *_TWO_PHASE, *_ENDS):
        if getattr(vars(dialect).get(name), "__module__", None) == __name__:
            delattr(dialect, name)


def _measured_query(engine_recorder: EngineRecorder, execute: Method) -> Method:
    observe = engine_recorder.observe

    def measured(cursor: Any, statement: Any, *args: Any, **options: Any) -> Any:
        started = perf_counter()
        try:
            result = execute(cursor, statement, *args, **options)
        except BaseException as error:
            observe(statement, perf_counter() - started, error)
            remove_own_frame(error)
            raise
        observe(statement, perf_counter() - started)
        return result

    return measured


def _measured_query_with_parameters(engine_recorder: EngineRecorder, execute: Method) -> Method:
    """Return the same as :func:`_measured_query`, without ``*args``, which takes longer."""
    observe = engine_recorder.observe

    def measured(cursor: Any, statement: Any, parameters: Any, context: Any = None) -> Any:
        started = perf_counter()
        try:
            result = execute(cursor, statement, parameters, context)
        except BaseException as error:
            observe(statement, perf_counter() - started, error)
            remove_own_frame(error)
            raise
        observe(statement, perf_counter() - started)
        return result

    return measured


def _measured_end(
    engine_recorder: EngineRecorder, outcome: str, is_measured: Callable[[Any], bool], end: Method
) -> Method:
    def measured(dbapi_connection: Any) -> Any:
        is_transaction = not isinstance(current_tally.get(), _EndOfTwoPhase) and is_measured(dbapi_connection)
        started = perf_counter()
        try:
            result = end(dbapi_connection)
        except BaseException as error:
            if is_transaction:
                engine_recorder.observe_transaction(outcome, perf_counter() - started, error)
            remove_own_frame(error)
            raise
        if is_transaction:
            engine_recorder.observe_transaction(outcome, perf_counter() - started)
        return result

    return measured


def _two_phase(engine_recorder: EngineRecorder, outcome: str, end: Method) -> Method:
    def measured(*args: Any, **options: Any) -> Any:
        noticed: Any = _EndOfTwoPhase(current_tally.get())
        token = current_tally.set(noticed)
        started = perf_counter()
        try:
            result = end(*args, **options)
        except BaseException as error:
            seconds = perf_counter() - started
            current_tally.reset(token)
            if not noticed.has_queries:
                engine_recorder.observe_transaction(outcome, seconds, error)
            remove_own_frame(error)
            raise
        seconds = perf_counter() - started
        current_tally.reset(token)
        if noticed.has_queries:
            engine_recorder.count_transaction(outcome)
        else:
            engine_recorder.observe_transaction(outcome, seconds)
        return result

    return measured


def _counted(engine_recorder: EngineRecorder, operation: str, run: Method) -> Method:
    def counted(*args: Any, **options: Any) -> Any:
        try:
            result = run(*args, **options)
        except BaseException as error:
            remove_own_frame(error)
            raise
        engine_recorder.count_savepoint(operation)
        return result

    return counted
