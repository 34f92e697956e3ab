"""SQLAlchemy: the ends of two-phase transactions, as different dialects do them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from tests.web_prom.database.conftest import MakeEngine
from tests.web_prom.database.support import Shop
from tests.web_prom.support import errors

End = Callable[[Any, Any, str], None]
"""Ends a transaction of a dialect and a connection, with a commit or a rollback."""


def by_driver(dialect: Any, connection: Any, outcome: str) -> None:
    """Call a method of the driver, as psycopg and oracledb do."""
    getattr(connection.connection.dbapi_connection, outcome)()


def by_dialect(dialect: Any, connection: Any, outcome: str) -> None:
    """Call the method of the dialect for other transactions, as asyncpg does without `prepare`."""
    getattr(dialect, f"do_{outcome}")(connection.connection)


def by_statement(dialect: Any, connection: Any, outcome: str) -> None:
    """Send a statement, as MySQL does."""
    connection.execute(text(f"SELECT '{outcome}'"))
    by_dialect(dialect, connection, outcome)


def make(make_engine: MakeEngine, end: End) -> Any:
    """Return an engine with two-phase transactions."""
    engine = make_engine()
    dialect = engine.dialect
    dialect.do_begin_twophase = lambda connection, xid: None
    dialect.do_prepare_twophase = lambda connection, xid: None
    dialect.do_commit_twophase = lambda connection, *_, **__: end(dialect, connection, "commit")
    dialect.do_rollback_twophase = lambda connection, *_, **__: end(dialect, connection, "rollback")
    return engine


def transactions(shop: Shop, outcome: str) -> float:
    """Return the number of transactions."""
    labels = {"db_system_name": "sqlite", "db_namespace": "shop.db", "outcome": outcome}
    return shop.value("db_client_transactions_total", **labels) or 0.0


def run(engine: Any, outcome: str, *, prepare: bool = True) -> None:
    """Run a transaction."""
    with engine.connect() as connection:
        transaction = connection.begin_twophase()
        if prepare:
            transaction.prepare()
        getattr(transaction, outcome)()


@pytest.mark.parametrize("outcome", ["commit", "rollback"])
@pytest.mark.parametrize("prepare", [True, False])
@pytest.mark.parametrize("end", [by_driver, by_dialect])
def test_end_without_a_statement_is_an_operation_with_seconds(
    shop: Shop, make_engine: MakeEngine, end: End, outcome: str, prepare: bool
) -> None:
    engine = make(make_engine, end)
    shop.serve(lambda: run(engine, outcome, prepare=prepare))
    assert shop.operations(outcome.upper()) == transactions(shop, outcome) == 1
    assert shop.by_route("queries", "/items") == 0
    seconds = shop.by_route("seconds", "/items")
    assert seconds is not None
    assert seconds > 0


@pytest.mark.parametrize("outcome", ["commit", "rollback"])
def test_end_with_a_statement_is_its_query_only(shop: Shop, make_engine: MakeEngine, outcome: str) -> None:
    engine = make(make_engine, by_statement)
    for _ in range(4):
        run(engine, outcome)

    def work() -> None:
        for _ in range(4):
            run(engine, outcome)

    shop.serve(work)
    assert shop.operations(outcome.upper()) == 0
    assert shop.operations("SELECT") == transactions(shop, outcome) == 8
    assert shop.by_route("queries", "/items") == shop.by_route("queries", "_none", "_none") == 4
    assert shop.by_route("repeated_queries", "/items") == 2


@pytest.mark.parametrize("outcome", ["commit", "rollback"])
@pytest.mark.parametrize("end", [by_driver, by_dialect])
def test_error_of_an_end_is_counted_and_no_transaction(
    shop: Shop, make_engine: MakeEngine, end: End, outcome: str
) -> None:
    def fail(*_: Any) -> None:
        raise sqlite3.OperationalError("lost")

    engine = make(make_engine, fail)
    with engine.connect() as connection:
        transaction = connection.begin_twophase()
        with pytest.raises(sqlite3.OperationalError):
            getattr(engine.dialect, f"do_{outcome}_twophase")(connection, transaction.xid)
        assert shop.operations(outcome.upper(), "OperationalError") == 1
        assert transactions(shop, outcome) == shop.operations(outcome.upper()) == 0
        connection.invalidate()


def test_error_of_a_statement_that_ends_is_that_of_its_query(shop: Shop, make_engine: MakeEngine) -> None:
    def fail(_: Any, connection: Any, __: str) -> None:
        connection.execute(text("SELECT * FROM nothing"))

    engine = make(make_engine, fail)
    with engine.connect() as connection:
        with pytest.raises(Exception, match="nothing"):
            engine.dialect.do_commit_twophase(connection, "x")
        connection.rollback()
    assert shop.operations("SELECT", "OperationalError") == 1
    assert shop.operations("COMMIT", "OperationalError") == transactions(shop, "commit") == 0


def test_transaction_after_a_two_phase_transaction_is_counted(shop: Shop, make_engine: MakeEngine) -> None:
    engine = make(make_engine, by_dialect)
    run(engine, "commit")
    with engine.begin() as connection:
        connection.execute(text("SELECT 1"))
    assert shop.operations("COMMIT") == transactions(shop, "commit") == 2
    assert errors(shop.registry) == {}
