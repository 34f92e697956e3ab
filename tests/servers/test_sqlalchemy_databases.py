"""SQLAlchemy with real servers: PostgreSQL by psycopg and asyncpg, MariaDB by PyMySQL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy
from prometheus_client import CollectorRegistry
from sqlalchemy import exc, text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.servers.databases import DatabaseServer, PostgreSQL
from tests.web_prom.database.support import Shop

pytestmark = pytest.mark.servers


@pytest.fixture
def shop(registry: CollectorRegistry) -> Shop:
    """Return a measured WSGI application whose requests do what a test tells them."""
    return Shop(registry)


def transactions(shop: Shop, system: str, outcome: str) -> float:
    labels = {"db_system_name": system, "db_namespace": "shop", "outcome": outcome}
    return shop.value("db_client_transactions_total", **labels) or 0.0


@pytest.fixture(scope="session", params=["postgresql+psycopg", "mysql+pymysql"])
def url(request: pytest.FixtureRequest) -> str:
    """Return the URL of each server. Servers are of the session, so they are started before a test begins."""
    server = request.getfixturevalue("mariadb" if "mysql" in request.param else "postgresql")
    found: str = server.url(request.param)
    return found


@pytest.fixture
def engine(url: str) -> Iterator[Any]:
    """Return an engine for each server. It was not used."""
    engine = sqlalchemy.create_engine(url, pool_pre_ping=True)
    yield engine
    engine.dispose()


def test_queries_of_a_server_are_counted(shop: Shop, engine: Any) -> None:
    """The queries that SQLAlchemy itself sends after the first connect are not measured."""
    system = "mariadb" if engine.dialect.name == "mysql" else "postgresql"

    def work() -> None:
        with engine.begin() as connection:
            connection.execute(text("CREATE TEMPORARY TABLE cart (price INTEGER PRIMARY KEY)"))
            connection.execute(text("INSERT INTO cart VALUES (:p)"), [{"p": p} for p in range(5)])
            for price in range(4):
                connection.execute(text("SELECT * FROM cart WHERE price = :p"), {"p": price}).all()
            with pytest.raises(exc.IntegrityError), connection.begin_nested():
                connection.execute(text("INSERT INTO cart VALUES (1)"))
            connection.execute(text("DROP TABLE cart"))

    shop.serve(work)
    counted = {
        name: shop.operations(name, namespace="shop", system=system)
        for name in ("CREATE", "INSERT", "SELECT", "SAVEPOINT", "ROLLBACK", "DROP", "COMMIT", "SHOW", "SET")
    }
    assert counted == {
        "CREATE": 1,
        "INSERT": 1,
        "SELECT": 4,
        "SAVEPOINT": 1,
        "ROLLBACK": 1,
        "DROP": 1,
        "COMMIT": 1,
        "SHOW": 0,
        "SET": 0,
    }
    assert shop.operations("INSERT", "IntegrityError", namespace="shop", system=system) == 1
    assert shop.by_route("queries", "/items") == 10
    assert shop.by_route("repeated_queries", "/items") == 2
    assert (transactions(shop, system, "commit"), transactions(shop, system, "rollback")) == (1, 0)
    assert shop.pool("opened_total", "shop") == 1
    assert shop.pool("wait_time_seconds_count", "shop") == 1


def test_two_phase_transactions_are_counted_once(shop: Shop, mariadb: DatabaseServer) -> None:
    engine = sqlalchemy.create_engine(mariadb.url("mysql+pymysql"))
    with engine.connect() as connection:
        for outcome in ("commit", "rollback"):
            transaction = connection.begin_twophase()
            connection.execute(text("SELECT 1"))
            transaction.prepare()
            getattr(transaction, outcome)()
    engine.dispose()
    assert transactions(shop, "mariadb", "commit") == 1
    assert transactions(shop, "mariadb", "rollback") == 1
    assert shop.operations("COMMIT", namespace="shop", system="mariadb") == 0, "XA COMMIT is a query"
    assert shop.operations("_OTHER", namespace="shop", system="mariadb") > 0


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
def test_end_of_a_two_phase_transaction_is_an_operation(
    shop: Shop, postgresql: DatabaseServer, driver: str
) -> None:
    def end(connection: Any) -> None:
        for outcome in ("commit", "rollback"):
            transaction = connection.begin_twophase()
            connection.execute(text("SELECT 1"))
            getattr(transaction, outcome)()

    async def end_in_a_loop() -> None:
        engine = create_async_engine(postgresql.url("postgresql+asyncpg"))
        async with engine.connect() as connection:
            await connection.run_sync(end)
        await engine.dispose()

    if driver == "asyncpg":
        asyncio.run(end_in_a_loop())
    else:
        engine = sqlalchemy.create_engine(postgresql.url(f"postgresql+{driver}"))
        with engine.connect() as connection:
            end(connection)
        engine.dispose()
    for outcome in ("commit", "rollback"):
        assert shop.operations(outcome.upper(), namespace="shop", system="postgresql") == 1
        assert transactions(shop, "postgresql", outcome) == 1


def test_server_side_cursor_is_one_query(shop: Shop, postgresql: DatabaseServer) -> None:
    engine = sqlalchemy.create_engine(postgresql.url("postgresql+psycopg"))
    with engine.connect().execution_options(stream_results=True, max_row_buffer=10) as connection:
        assert len(list(connection.execute(text("SELECT * FROM generate_series(1, 100)")))) == 100
    engine.dispose()
    assert shop.operations("SELECT", namespace="shop", system="postgresql") == 1


def test_copy_through_the_driver_is_not_seen(shop: Shop, postgresql: DatabaseServer) -> None:
    """SQLAlchemy has no COPY. The driver's own cursor executes it."""
    engine = sqlalchemy.create_engine(postgresql.url("postgresql+psycopg"))
    with engine.connect() as connection:
        cursor = connection.connection.driver_connection.cursor()
        with cursor.copy("COPY (SELECT 1) TO STDOUT") as copy:
            assert [bytes(each) for each in copy] == [b"1\n"]
    engine.dispose()
    assert shop.operations("COPY", namespace="shop", system="postgresql") == 0


def test_asyncpg_is_measured(shop: Shop, postgresql: DatabaseServer) -> None:
    async def run() -> None:
        engine = create_async_engine(postgresql.url("postgresql+asyncpg"))
        async with engine.begin() as connection:
            await connection.execute(text("SELECT 1"))
            rows = await connection.stream(text("SELECT * FROM generate_series(1, 5)"))
            assert len([row async for row in rows]) == 5
        async with engine.connect() as connection:
            with pytest.raises(exc.ProgrammingError):
                await connection.execute(text("SELECT * FROM nothing"))
        await engine.dispose()

    asyncio.run(run())
    assert shop.operations("SELECT", namespace="shop", system="postgresql") == 2
    assert shop.operations("SELECT", "ProgrammingError", namespace="shop", system="postgresql") == 1
    assert transactions(shop, "postgresql", "commit") == transactions(shop, "postgresql", "rollback") == 1
    assert shop.pool("opened_total", "shop") == shop.pool("closed_total", "shop") == 1


def test_cancelled_query_of_asyncpg_is_counted(shop: Shop, postgresql: DatabaseServer) -> None:
    async def run() -> None:
        engine = create_async_engine(postgresql.url("postgresql+asyncpg"))

        async def sleep() -> None:
            async with engine.connect() as connection:
                await connection.execute(text("SELECT pg_sleep(600)"))

        task = asyncio.create_task(sleep())
        async with engine.connect() as connection:
            running = text("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'")
            while not (await connection.execute(running)).scalar():
                await connection.rollback()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await engine.dispose()

    asyncio.run(run())
    assert shop.operations("SELECT", "CancelledError", namespace="shop", system="postgresql") == 1


def test_server_that_goes_down_is_counted(shop: Shop) -> None:
    """Errors of queries and of connects are counted, and the engine recovers as without web-prom."""
    system = "postgresql"
    with PostgreSQL() as server:
        engine = sqlalchemy.create_engine(server.url("postgresql+psycopg"))
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            server.kill()
            with pytest.raises(exc.OperationalError) as raised:
                connection.execute(text("SELECT 1"))
            assert raised.value.connection_invalidated
        for _ in range(2):
            with pytest.raises(exc.OperationalError):
                engine.connect()
        assert shop.operations("SELECT", "OperationalError", namespace="shop", system=system) == 1
        assert shop.pool("failures_total", "shop", error_type="OperationalError") == 2
        assert shop.pool("closed_total", "shop") == 1
        server.start()
        with engine.connect() as connection:
            assert connection.execute(text("SELECT 1")).scalar() == 1
        assert shop.operations("SELECT", namespace="shop", system=system) == 2
        assert shop.pool("opened_total", "shop") == 2
        engine.dispose()


def test_asyncpg_without_a_server_is_counted(shop: Shop) -> None:
    """The driver raises OSError, not an exception of its own."""

    async def run() -> None:
        engine = create_async_engine("postgresql+asyncpg://tester@127.0.0.1:1/shop")
        with pytest.raises(OSError, match="Connect call failed"):
            await engine.connect()

    asyncio.run(run())
    assert shop.pool("failures_total", "shop", error_type="ConnectionRefusedError") == 1
