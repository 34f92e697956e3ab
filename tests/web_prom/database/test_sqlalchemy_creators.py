"""SQLAlchemy: who opens a connection, and connections that need another connection."""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import event, exc, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.web_prom.database.conftest import MakeEngine
from tests.web_prom.database.support import Shop
from tests.web_prom.support import errors
from web_prom.database import instrument, uninstrument

SECONDS = 0.02
"""How long it takes to open a connection."""


class Database:
    """A database that is slow, and may be down.

    Attributes:
        error: What it raises, or None.
        records: What SQLAlchemy gave to the creators.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.error: BaseException | None = None
        self.records: list[Any] = []

    def connect(self) -> sqlite3.Connection:
        """Open a connection."""
        time.sleep(SECONDS)
        if self.error is not None:
            raise self.error
        return sqlite3.connect(self._path)

    def connect_with_record(self, record: Any) -> sqlite3.Connection:
        """Open a connection: a creator with one argument."""
        self.records.append(record)
        return self.connect()

    def connect_with_options(self, first: Any = None, second: Any = None) -> sqlite3.Connection:
        """Open a connection: SQLAlchemy gives no argument to this creator."""
        assert first is second is None
        return self.connect()

    def do_connect(self, dialect: Any, record: Any, *_: Any) -> sqlite3.Connection:
        """Open a connection: a listener of ``do_connect``."""
        return self.connect()


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """Return the database."""
    return Database(tmp_path / "shop.db")


def by_creator(name: str) -> Callable[[MakeEngine, Database], Any]:
    """Return a function that makes an engine with a creator."""
    return lambda make, database: make(creator=getattr(database, name), poolclass=pool.QueuePool)


def by_listener(make: MakeEngine, database: Database) -> Any:
    """Return an engine with a listener."""
    engine = make(poolclass=pool.QueuePool)
    event.listen(engine, "do_connect", database.do_connect)
    return engine


def by_driver(make: MakeEngine, database: Database) -> Any:
    """Return an engine whose driver opens the connection."""
    engine = make(poolclass=pool.QueuePool)
    engine.dialect.connect = lambda *_, **__: database.connect()
    return engine


WAYS = {
    "creator": by_creator("connect"),
    "creator with the record": by_creator("connect_with_record"),
    "creator with options": by_creator("connect_with_options"),
    "listener": by_listener,
    "driver": by_driver,
}


@pytest.fixture(params=WAYS)
def engine(request: pytest.FixtureRequest, make_engine: MakeEngine, database: Database) -> Any:
    """Return an engine that opens its connections in one of the ways."""
    return WAYS[request.param](make_engine, database)


def test_time_to_open_is_no_wait_whoever_opens_the_connection(
    shop: Shop, engine: Any, database: Database
) -> None:
    for count in (1, 2):
        engine.connect().close()
        assert shop.pool("opened_total") == shop.pool("create_time_seconds_count") == count
        assert shop.pool("create_time_seconds_sum") >= count * SECONDS
        assert shop.pool("wait_time_seconds_sum") < shop.pool("create_time_seconds_sum")
        engine.dispose()
        assert shop.pool("closed_total") == count
    assert all(isinstance(record, pool.ConnectionPoolEntry) for record in database.records)
    assert errors(shop.registry) == {}


@pytest.mark.parametrize(
    "error", [sqlite3.OperationalError("down"), OSError(), exc.TimeoutError(), SystemExit()]
)
def test_error_of_who_opens_the_connection_is_a_failure(
    shop: Shop, engine: Any, database: Database, error: BaseException
) -> None:
    engine.connect().close()
    engine.dispose()
    database.error = error
    with pytest.raises(BaseException) as raised:  # noqa: PT011 - SQLAlchemy translates some
        engine.connect()
    assert raised.value is error or raised.value.__cause__ is error
    assert shop.pool("failures_total", error_type=type(error).__name__) == 1
    assert shop.pool("timeouts_total") == 0
    assert shop.pool("opened_total") == 1
    if sys.version_info >= (3, 11):  # Python 3.10 adds the frame again
        assert "measured_creator" not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize(
    "kind", [pool.NullPool, pool.StaticPool, pool.SingletonThreadPool, pool.AssertionPool]
)
def test_creator_of_each_kind_of_pool_is_measured(
    shop: Shop, make_engine: MakeEngine, database: Database, kind: Any
) -> None:
    engine = make_engine(creator=database.connect, poolclass=kind)
    engine.connect().close()
    engine.dispose()
    engine.connect().close()
    assert shop.pool("create_time_seconds_count") == shop.pool("opened_total") == 2


def test_uninstrument_gives_the_creator_back(make_engine: MakeEngine, database: Database) -> None:
    engine, registry = make_engine(creator=database.connect), CollectorRegistry()
    for _ in range(3):
        instrument(engine, registry=registry)
        instrument(engine, registry=registry)
        assert engine.pool._creator is not database.connect
        engine.dispose()
        uninstrument(engine)
        assert engine.pool._creator == database.connect
    engine.connect().close()
    assert registry.get_sample_value("db_client_connection_opened_total") is None


@pytest.mark.parametrize("error", [None, OSError()])
def test_async_creator_is_measured(shop: Shop, tmp_path: Path, error: BaseException | None) -> None:
    import aiosqlite

    async def create() -> Any:
        await asyncio.sleep(SECONDS)
        if error is not None:
            raise error
        return await aiosqlite.connect(tmp_path / "shop.db")

    async def main() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}", async_creator=create)
        try:
            async with engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except OSError:
            pass
        await engine.dispose()

    asyncio.run(main())
    if error is None:
        assert shop.pool("create_time_seconds_sum") >= SECONDS > shop.pool("wait_time_seconds_sum")
        assert shop.pool("opened_total") == shop.pool("closed_total") == 1
    else:
        assert shop.pool("failures_total", error_type="OSError") == 1


@pytest.fixture
def tokens(make_engine: MakeEngine) -> Any:
    """Return the engine of a database with passwords."""
    return make_engine("tokens.db", poolclass=pool.QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.01)


@pytest.fixture
def nested(make_engine: MakeEngine, tokens: Any) -> Any:
    """Return an engine that reads its password from the other database."""
    engine = make_engine(poolclass=pool.QueuePool)

    @event.listens_for(engine, "do_connect")
    def read_password(*_: Any) -> None:
        with tokens.connect() as connection:
            connection.execute(text("SELECT 1"))

    return engine


def test_connection_that_needs_another_one_is_opened_once_and_closed_once(
    shop: Shop, nested: Any, tokens: Any
) -> None:
    for _ in range(2):
        nested.connect().close()
        nested.dispose()
    tokens.dispose()
    assert shop.pool("opened_total") == shop.pool("closed_total") == 2
    assert shop.pool("opened_total", "tokens.db") == shop.pool("closed_total", "tokens.db") == 1
    assert shop.pool("wait_time_seconds_count", "tokens.db") == shop.pool("wait_time_seconds_count") == 2
    assert shop.pool("create_time_seconds_count") == 2


def test_timeout_of_the_other_pool_is_a_failure_of_the_one_that_needs_it(
    shop: Shop, nested: Any, tokens: Any
) -> None:
    with tokens.connect(), pytest.raises(exc.TimeoutError):
        nested.connect()
    assert (shop.pool("timeouts_total", "tokens.db"), shop.pool("timeouts_total")) == (1, 0)
    assert shop.pool("failures_total", error_type="TimeoutError") == 1
    nested.connect().close()
    assert shop.pool("opened_total") == 1


def test_connection_of_an_engine_that_is_not_measured_is_not_counted_for_the_other(
    shop: Shop, nested: Any, tokens: Any
) -> None:
    uninstrument(tokens)
    nested.connect().close()
    tokens.dispose()
    nested.dispose()
    assert shop.pool("opened_total") == shop.pool("closed_total") == 1
    assert shop.pool("create_time_seconds_count") == 1


def test_context_that_was_copied_during_a_checkout_counts_nothing_twice(
    shop: Shop, make_engine: MakeEngine, database: Database
) -> None:
    contexts: list[contextvars.Context] = []
    engine = make_engine(creator=database.connect, poolclass=pool.NullPool)
    other = make_engine("other.db", poolclass=pool.NullPool)
    uninstrument(other)
    event.listen(engine, "connect", lambda *_: contexts.append(contextvars.copy_context()))
    engine.connect().close()

    def work() -> None:
        other.connect().close()
        engine.connect().close()
        other.connect().close()

    thread = threading.Thread(target=contexts[0].run, args=(work,))
    thread.start()
    thread.join()
    assert shop.pool("opened_total") == shop.pool("closed_total") == 2


@pytest.fixture(autouse=True)
def _no_errors(shop: Shop) -> Iterator[None]:
    yield
    assert errors(shop.registry) == {}
    assert shop.pool("pending_requests") == 0
