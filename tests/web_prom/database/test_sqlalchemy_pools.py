"""SQLAlchemy: connection pools, with SQLite."""

from __future__ import annotations

import os
import threading
import traceback
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import exc, pool, text

from tests.web_prom.database.conftest import MakeEngine
from tests.web_prom.database.support import Shop


def count(shop: Shop, state: str, name: str = "shop.db") -> float:
    """Return the connections of a pool in a state, as a scrape shows them."""
    shop.scrape()
    return shop.pool("count", name, db_client_connection_state=state)


def test_gauges_show_the_pool_at_each_scrape(shop: Shop, make_engine: MakeEngine) -> None:
    engine = make_engine(poolclass=pool.QueuePool, pool_size=2, max_overflow=3)
    first, second, third = (engine.connect() for _ in range(3))
    assert (count(shop, "used"), count(shop, "idle")) == (3, 0)
    assert shop.pool("max") == 5
    first.close()
    assert (count(shop, "used"), count(shop, "idle")) == (2, 1)
    second.close()
    third.close()
    assert (count(shop, "used"), count(shop, "idle")) == (0, 2)
    assert shop.pool("pending_requests") == 0


def test_disposed_pool_keeps_only_connections_in_use(shop: Shop, make_engine: MakeEngine) -> None:
    engine = make_engine(poolclass=pool.QueuePool, pool_size=2, max_overflow=0)
    used = engine.connect()
    engine.connect().close()
    engine.dispose(close=False)
    other = engine.connect()
    assert count(shop, "used") == 2
    assert shop.pool("max") == 2, "the limit of the former pool is not added"
    used.close()
    other.close()


def test_gauges_of_an_engine_that_is_gone_are_zero(
    shop: Shop, make_engine: MakeEngine, tmp_path: Path
) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    engine.connect().close()
    assert count(shop, "idle") == 1
    engine.dispose()
    shop.recorder.pool("shop.db")._readers[0] = lambda: None  # as after the collection of the engine
    assert count(shop, "idle") == 0
    assert not shop.recorder.pool("shop.db")._readers


def test_gauges_are_summed_over_pools_of_one_name(shop: Shop, make_engine: MakeEngine) -> None:
    engines = [make_engine(pool_size=2), make_engine(pool_size=3)]
    connections = [engine.connect() for engine in engines]
    assert count(shop, "used") == 2
    assert shop.pool("max") == 2 + 3 + 2 * 10
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("kind", [pool.NullPool, pool.StaticPool, pool.SingletonThreadPool])
def test_pool_without_numbers_has_no_gauges(shop: Shop, make_engine: MakeEngine, kind: Any) -> None:
    engine = make_engine(poolclass=kind)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    shop.scrape()
    assert shop.operations("SELECT") == 1
    assert shop.pool("use_time_seconds_count") == 1
    assert shop.value("db_client_connection_max", db_client_connection_pool_name="shop.db") is None
    assert shop.internal_errors("database pool") == 0


def test_times_of_a_checkout_are_observed(shop: Shop, make_engine: MakeEngine) -> None:
    engine = make_engine()
    for _ in range(3):
        engine.connect().close()
    assert shop.pool("create_time_seconds_count") == 1
    assert shop.pool("opened_total") == 1
    assert shop.pool("wait_time_seconds_count") == 3
    assert shop.pool("use_time_seconds_count") == 3
    engine.dispose()
    assert shop.pool("closed_total") == 1


def test_wait_time_is_without_the_time_to_open(shop: Shop, make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.connect().close()
    whole = shop.pool("wait_time_seconds_sum") + shop.pool("create_time_seconds_sum")
    assert 0 <= shop.pool("wait_time_seconds_sum") < whole


def test_timeout_is_counted_and_raised(shop: Shop, make_engine: MakeEngine) -> None:
    engine = make_engine(poolclass=pool.QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.01)
    with engine.connect(), pytest.raises(exc.TimeoutError) as raised:
        engine.connect()
    assert shop.pool("timeouts_total") == 1
    assert shop.pool("failures_total", error_type="TimeoutError") == 0
    if os.sys.version_info >= (3, 11):  # type: ignore[attr-defined]
        assert "sqlalchemy_checkout" not in "".join(traceback.format_exception(raised.value))


def test_waiting_request_is_pending_and_its_wait_is_observed(shop: Shop, make_engine: MakeEngine) -> None:
    engine = make_engine(poolclass=pool.QueuePool, pool_size=1, max_overflow=0)
    connection = engine.connect()
    thread = threading.Thread(target=lambda: engine.connect().close())
    thread.start()
    while True:
        shop.scrape()
        if shop.pool("pending_requests") == 1:
            break
    connection.close()
    thread.join()
    shop.scrape()
    assert shop.pool("pending_requests") == 0
    assert shop.pool("wait_time_seconds_count") == 2
    assert shop.pool("wait_time_seconds_sum") > 0


def test_database_that_is_down_is_counted(shop: Shop) -> None:
    engine = sqlalchemy.create_engine("sqlite:////nonexistent/folder/shop.db")
    for _ in range(2):
        with pytest.raises(exc.OperationalError, match="unable to open database file"):
            engine.connect()
    assert shop.pool("failures_total", error_type="OperationalError") == 2
    assert shop.pool("opened_total") == 0
    assert shop.pool("wait_time_seconds_count") == 0


def test_driver_that_raises_another_exception_is_counted(shop: Shop, make_engine: MakeEngine) -> None:
    """The driver asyncpg raises OSError if the port is closed. SQLAlchemy sends no event for it."""
    engine = make_engine()

    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionRefusedError

    engine.dialect.connect = refuse

    with pytest.raises(ConnectionRefusedError):
        engine.connect()
    assert shop.pool("failures_total", error_type="ConnectionRefusedError") == 1


def test_error_of_a_users_listener_is_no_failed_connection(shop: Shop, make_engine: MakeEngine) -> None:
    engine = make_engine()

    @sqlalchemy.event.listens_for(engine, "checkout")
    def refuse(*_: Any) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        engine.connect()
    assert shop.value("db_client_connection_failures_total") is None
    assert shop.pool("opened_total") == 1


def test_engine_with_a_creator_counts_opened_connections(shop: Shop, tmp_path: Path) -> None:
    import sqlite3

    engine = sqlalchemy.create_engine("sqlite://", creator=lambda: sqlite3.connect(tmp_path / "x.db"))
    engine.connect().close()
    engine.dispose()
    assert shop.pool("opened_total", ":memory:") == shop.pool("closed_total", ":memory:") == 1


def test_invalidated_and_detached_connections_are_closed(shop: Shop, make_engine: MakeEngine) -> None:
    engine = make_engine()
    with engine.connect() as connection:
        connection.invalidate()
    assert shop.pool("closed_total") == 1
    with engine.connect() as connection:
        connection.detach()
    assert shop.pool("closed_total") == 2
    assert shop.pool("use_time_seconds_count") == 2
    assert shop.pool("opened_total") == 2
    assert shop.internal_errors("database") == 0


def test_raw_connection_is_measured(shop: Shop, make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.raw_connection().close()
    assert shop.pool("use_time_seconds_count") == 1


def test_fork_forgets_the_pools_of_the_parent(shop: Shop, make_engine: MakeEngine) -> None:
    engine = make_engine(poolclass=pool.QueuePool)
    connection = engine.connect()
    assert count(shop, "used") == 1
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:  # pragma: no cover - in a child
        try:
            before = count(shop, "used")
            engine.dispose(close=False)
            with engine.connect() as mine:
                mine.execute(text("SELECT 1"))
                after = count(shop, "used")
            os.write(writing, f"{before:.0f} {after:.0f} {shop.operations('SELECT'):.0f}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    with os.fdopen(reading) as pipe:
        assert pipe.read() == "0 1 1"
    connection.close()
