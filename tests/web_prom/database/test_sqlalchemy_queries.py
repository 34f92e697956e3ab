"""SQLAlchemy: queries, errors, transactions and savepoints, with SQLite."""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import exc, orm, pool, text

from tests.web_prom.database.conftest import MakeEngine
from tests.web_prom.database.support import Shop


def test_query_is_counted_by_operation_and_by_route(shop: Shop, engine: Any) -> None:
    def work() -> None:
        with engine.connect() as connection:
            connection.execute(text("SELECT * FROM item"))
            connection.execute(text("UPDATE item SET price = 3 WHERE id = :id"), {"id": 1})
            connection.commit()

    shop.serve(work)
    assert shop.operations("SELECT") == 1
    assert shop.operations("UPDATE") == 1
    assert shop.by_route("queries", "/items") == 2
    assert shop.value("db_client_operation_duration_seconds_sum", **_labels("SELECT")) > 0  # type: ignore[operator]


def test_repeated_query_of_a_lazy_relation_is_counted(shop: Shop, engine: Any) -> None:
    """The N+1 of an ORM: one query for the list, and one for each item."""

    def work() -> None:
        with orm.Session(engine) as session:
            for (number,) in session.execute(text("SELECT id FROM item")).all() * 3:
                session.execute(text("SELECT price FROM item WHERE id = :id"), {"id": number})

    shop.serve(work)
    shop.serve(lambda: None, route="/about")
    assert shop.by_route("queries", "/items") == 7
    assert shop.by_route("repeated_queries", "/items") == 4
    assert shop.by_route("queries", "/about") == 0


def test_fault_36_executemany_is_one_query(shop: Shop, engine: Any) -> None:
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO item (price) VALUES (:p)"), [{"p": p} for p in range(10, 60)])
    assert shop.operations("INSERT") == 1


def test_inserted_values_in_batches_are_counted_by_batch(shop: Shop, engine: Any) -> None:
    """SQLAlchemy sends several INSERTs where rows are returned (insertmanyvalues)."""
    item = sqlalchemy.Table("item", sqlalchemy.MetaData(), autoload_with=engine)
    with engine.connect().execution_options(insertmanyvalues_page_size=10) as connection:
        insert = sqlalchemy.insert(item).returning(item.c.id)
        assert len(connection.execute(insert, [{"price": p} for p in range(10, 40)]).all()) == 30
    assert shop.operations("INSERT") == 3


@pytest.mark.parametrize(
    ("sql", "operation", "error"),
    [
        ("INSERT INTO item (price) VALUES (1)", "INSERT", "IntegrityError"),
        ("SELECT * FROM nothing", "SELECT", "OperationalError"),
    ],
)
def test_error_is_counted_by_class_and_stays_the_same(
    shop: Shop, engine: Any, sql: str, operation: str, error: str
) -> None:
    with engine.connect() as connection, pytest.raises(getattr(exc, error)) as raised:
        connection.execute(text(sql))
    assert shop.operations(operation, error) == 1
    assert shop.operations(operation) == 0
    assert shop.by_route("queries", "_none", "_none") == 1
    assert_no_own_frame(raised.value)


def assert_no_own_frame(error: BaseException) -> None:
    """Assert that a traceback has no frame of the hooks. Python 3.10 adds it again."""
    trace: Any = error.__traceback__
    while trace is not None and sys.version_info >= (3, 11):
        assert "web_prom/database" not in trace.tb_frame.f_code.co_filename.replace("tests/web_prom", "")
        trace = trace.tb_next


def test_traceback_of_the_end_of_a_transaction_or_savepoint_has_no_frame_of_the_hooks(
    shop: Shop, engine: Any
) -> None:
    with engine.connect() as connection:
        driver_connection = connection.connection.dbapi_connection
        calls: list[Callable[[], object]] = [
            connection.begin_nested,
            lambda: engine.dialect.do_commit(driver_connection),
            lambda: engine.dialect.do_commit_twophase(connection, "x"),
        ]
        connection.connection.detach()
        driver_connection.close()
        for call in calls:
            with pytest.raises(
                (exc.ProgrammingError, sqlite3.ProgrammingError, NotImplementedError)
            ) as raised:
                call()
            assert_no_own_frame(raised.value)
            assert_no_own_frame(raised.value.__cause__ or raised.value)


def test_error_of_a_fetch_is_no_second_query(shop: Shop, engine: Any) -> None:
    with engine.connect() as connection:
        result = connection.execute(text("SELECT * FROM item"))
        result.cursor.close()
        with pytest.raises(exc.ProgrammingError):
            result.all()
    assert shop.by_route("queries", "_none", "_none") == 1
    assert shop.operations("SELECT", "ProgrammingError") == 0


def test_error_before_the_database_is_no_query(shop: Shop, engine: Any) -> None:
    with engine.connect() as connection, pytest.raises(exc.StatementError):
        connection.execute(text("SELECT :missing"))
    assert not shop.by_route("queries", "_none", "_none")


def test_fault_36_streamed_result_is_one_query(shop: Shop, engine: Any) -> None:
    with engine.connect().execution_options(stream_results=True, yield_per=1) as connection:
        assert len(list(connection.execute(text("SELECT * FROM item")))) == 2
    assert shop.operations("SELECT") == 1


def test_transactions_and_savepoints_are_counted(shop: Shop, engine: Any) -> None:
    with engine.begin() as connection:
        with connection.begin_nested():
            connection.execute(text("SELECT 1"))
        with connection.begin_nested() as savepoint:
            savepoint.rollback()
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        connection.rollback()
    labels = {"db_system_name": "sqlite", "db_namespace": "shop.db"}
    for outcome, count in (("commit", 1), ("rollback", 1)):
        assert shop.value("db_client_transactions_total", outcome=outcome, **labels) == count
    for operation, count in (("create", 2), ("release", 1), ("rollback", 1)):
        assert shop.value("db_client_savepoints_total", operation=operation, **labels) == count


def test_commit_and_rollback_are_operations_but_no_queries(shop: Shop, engine: Any) -> None:
    def work() -> None:
        with engine.begin() as connection:
            connection.execute(text("SELECT 1"))

    shop.serve(work)
    assert shop.operations("COMMIT") == 1
    assert shop.by_route("queries", "/items") == 1
    seconds = [
        shop.value("db_client_operation_duration_seconds_sum", **_labels(name)) or 0.0
        for name in ("SELECT", "COMMIT")
    ]
    assert shop.by_route("seconds", "/items") == pytest.approx(sum(seconds))


def test_rollback_of_the_pool_is_no_transaction(shop: Shop, engine: Any) -> None:
    """A pool rolls back each connection that comes back to it, also one that was not used."""
    engine.connect().close()
    engine.raw_connection().close()
    assert shop.operations("ROLLBACK") == 0


def test_reset_of_a_detached_connection_is_no_transaction(shop: Shop, make_engine: MakeEngine) -> None:
    engine = make_engine(poolclass=pool.QueuePool)
    for _ in range(2):
        with engine.connect() as other, engine.connect() as connection:
            connection.detach()
            connection.execute(text("SELECT 1"))
            connection.commit()
            connection.execute(text("SELECT 1"))
            connection.rollback()
            connection.close()
            other.execute(text("SELECT 1"))
            other.rollback()
        raw = engine.raw_connection()
        raw.detach()
        raw.close()
    assert shop.operations("COMMIT") == 2
    assert shop.operations("ROLLBACK") == 4
    assert shop.pool("opened_total") == shop.pool("closed_total") + 1


def test_failed_commit_is_an_error_and_no_transaction(shop: Shop, engine: Any) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        connection.commit()
        connection.exec_driver_sql(
            "CREATE TABLE cart (item INTEGER REFERENCES item (id) DEFERRABLE INITIALLY DEFERRED)"
        )
        connection.commit()
        connection.exec_driver_sql("INSERT INTO cart VALUES (99)")
        with pytest.raises(exc.IntegrityError):
            connection.commit()
        connection.rollback()
    labels = {"db_system_name": "sqlite", "db_namespace": "shop.db"}
    assert shop.operations("COMMIT", "IntegrityError") == 1
    assert shop.value("db_client_transactions_total", outcome="commit", **labels) == 2


def test_engine_with_execution_options_is_the_same_engine(shop: Shop, engine: Any) -> None:
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("SELECT 1"))
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    assert shop.operations("SELECT") == 2


def test_failing_hook_is_counted_and_the_query_goes_on(
    shop: Shop, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def boom(*_: Any) -> None:
        raise RuntimeError("hook")

    engine.connect().close()
    monkeypatch.setattr("web_prom.database.sqlalchemy_checkout.perf_counter", boom)
    monkeypatch.setattr("web_prom.metrics.query_tally.hash", boom, raising=False)
    monkeypatch.setattr("web_prom.database.recorder.Database._write_for", boom)
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM item")).scalar() == 2
    with engine.connect() as connection, pytest.raises(exc.OperationalError):
        connection.execute(text("SELECT * FROM nothing"))
    assert shop.internal_errors("database") >= 4


def test_listeners_of_users_see_the_same_statements(shop: Shop, engine: Any) -> None:
    seen = []

    @sqlalchemy.event.listens_for(engine, "before_cursor_execute", retval=True)
    def comment(connection: Any, cursor: Any, statement: str, *others: Any) -> tuple[str, Any]:
        seen.append(statement)
        return f"{statement} -- commented", others[0]

    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    assert seen == ["SELECT 1"]
    assert shop.operations("SELECT") == 1


def _labels(operation: str) -> dict[str, str]:
    return {
        "db_system_name": "sqlite",
        "db_namespace": "shop.db",
        "db_operation_name": operation,
        "error_type": "",
    }


def test_first_connections_of_many_threads_add_the_hooks_once(shop: Shop, make_engine: MakeEngine) -> None:
    engine = make_engine(poolclass=pool.NullPool)
    barrier = threading.Barrier(8)

    def select() -> None:
        barrier.wait()
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    threads = [threading.Thread(target=select) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shop.operations("SELECT") == 8
