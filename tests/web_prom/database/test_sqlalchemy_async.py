"""SQLAlchemy's asyncio extension, in measured ASGI applications."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import event, exc, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

from web_prom.asgi import PrometheusMiddleware, set_route
from web_prom.database import instrument, uninstrument

Work = Callable[[Any], Any]


@asynccontextmanager
async def async_engine(folder: Path, **options: Any) -> AsyncIterator[Any]:
    """Give an engine for a SQLite file."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{folder / 'shop.db'}", **options)
    try:
        yield engine
    finally:
        await engine.dispose()


async def select(engine: Any, times: int = 1) -> None:
    """Execute a query some times."""
    async with engine.connect() as connection:
        for _ in range(times):
            await connection.execute(text("SELECT 1"))


class Shop:
    """A measured ASGI application that does what a request brings along."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.middleware = PrometheusMiddleware(self._answer, registry=registry, database=True)

    async def serve(self, route: str, work: Work, engine: Any) -> None:
        """Serve a request."""
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "work": (route, work, engine)}

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            await asyncio.sleep(0)

        await self.middleware(scope, receive, send)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        route, work, engine = scope["work"]
        set_route(scope, route)
        await work(engine)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})

    def by_route(self, name: str, route: str, method: str = "GET") -> float:
        labels = {"method": method, "route": route}
        return self.registry.get_sample_value(f"http_request_db_{name}_total", labels) or 0.0

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def shop(registry: CollectorRegistry) -> Shop:
    """Return a measured ASGI application."""
    return Shop(registry)


def test_concurrent_requests_have_their_own_queries(shop: Shop, tmp_path: Path) -> None:
    async def run() -> None:
        async with async_engine(tmp_path) as engine:
            await asyncio.gather(
                *(shop.serve(f"/{times}", partial(select, times=times), engine) for times in (1, 2, 3, 4))
            )

    asyncio.run(run())
    assert [shop.by_route("queries", f"/{times}") for times in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert [shop.by_route("repeated_queries", f"/{times}") for times in (1, 2, 3, 4)] == [0, 0, 1, 2]
    assert shop.by_route("queries", "_none", "_none") == 0


def test_concurrent_tasks_of_one_request_are_part_of_it(shop: Shop, tmp_path: Path) -> None:
    async def work(engine: Any) -> None:
        await asyncio.gather(*(select(engine) for _ in range(3)))

    async def run() -> None:
        async with async_engine(tmp_path) as engine:
            await shop.serve("/items", work, engine)

    asyncio.run(run())
    assert shop.by_route("queries", "/items") == 3
    assert shop.by_route("repeated_queries", "/items") == 1


def test_task_that_outlives_its_request_has_route_none(shop: Shop, tmp_path: Path) -> None:
    async def run() -> None:
        ended, tasks = asyncio.Event(), []

        async def later(engine: Any) -> None:
            await ended.wait()
            await select(engine)

        async def work(engine: Any) -> None:
            tasks.append(asyncio.create_task(later(engine)))

        async with async_engine(tmp_path) as engine:
            await shop.serve("/items", work, engine)
            ended.set()
            await tasks[0]

    asyncio.run(run())
    assert shop.by_route("queries", "/items") == 0
    assert shop.by_route("queries", "_none", "_none") == 1


def test_application_that_calls_itself_counts_each_request(shop: Shop, tmp_path: Path) -> None:
    async def run() -> None:
        async def work(engine: Any) -> None:
            await select(engine)
            await shop.serve("/inner", select, engine)
            await select(engine)

        async with async_engine(tmp_path) as engine:
            await shop.serve("/items", work, engine)

    asyncio.run(run())
    assert shop.by_route("queries", "/items") == 2
    assert shop.by_route("queries", "/inner") == 1


def test_cancelled_query_is_counted(shop: Shop, tmp_path: Path) -> None:
    async def run() -> None:
        async with async_engine(tmp_path) as engine:
            task = asyncio.create_task(select(engine))

            @event.listens_for(engine.sync_engine, "before_cursor_execute")
            def cancel(*_: Any) -> None:
                asyncio.get_running_loop().call_soon(task.cancel)

            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
    labels = {"db_system_name": "sqlite", "db_namespace": "shop.db", "db_operation_name": "SELECT"}
    name = "db_client_operation_duration_seconds_count"
    assert shop.value(name, error_type="CancelledError", **labels) == 1


def test_pool_of_an_async_engine_is_measured(shop: Shop, tmp_path: Path) -> None:
    async def run() -> None:
        options = {"poolclass": pool.AsyncAdaptedQueuePool, "pool_size": 1, "max_overflow": 0}
        async with async_engine(tmp_path, pool_timeout=0.01, **options) as engine:
            async with engine.connect():
                with pytest.raises(exc.TimeoutError):
                    await engine.connect()
            await select(engine)

    asyncio.run(run())
    name = {"db_client_connection_pool_name": "shop.db"}
    assert shop.value("db_client_connection_timeouts_total", **name) == 1
    assert shop.value("db_client_connection_wait_time_seconds_count", **name) == 2
    assert shop.value("db_client_connection_use_time_seconds_count", **name) == 2
    assert shop.value("db_client_connection_create_time_seconds_count", **name) == 1
    assert shop.value("db_client_connection_closed_total", **name) == 1


def test_streamed_rows_are_one_query(shop: Shop, tmp_path: Path) -> None:
    async def run() -> None:
        async with async_engine(tmp_path) as engine, engine.connect() as connection:
            result = await connection.stream(text("SELECT 1 UNION SELECT 2"))
            assert [row async for row in result] == [(1,), (2,)]

    asyncio.run(run())
    assert shop.by_route("queries", "_none", "_none") == 1


def test_async_engine_can_be_instrumented_by_hand(shop: Shop, tmp_path: Path) -> None:
    async def run() -> None:
        async with async_engine(tmp_path) as engine:
            uninstrument(engine)
            await select(engine)
            instrument(engine, registry=shop.registry)
            await select(engine)

    asyncio.run(run())
    assert shop.by_route("queries", "_none", "_none") == 1
