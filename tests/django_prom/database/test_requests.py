"""The queries of each route: requests, streams, async views, tasks and threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Iterator
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections, transaction
from django.test import Client, override_settings
from prometheus_client import CollectorRegistry, Gauge

from tests.django_prom.asgi_site import ASGISite
from tests.django_prom.conftest import Site
from tests.django_prom.views import hooks
from web_prom.database import task
from web_prom.metrics.query_tally import current_tally

from .project import Measured, Order, ask, create_orders, use_databases

USER = "/users/<int:pk>/"


@pytest.fixture
def asgi(measured: Measured, tmp_path: Path) -> Iterator[ASGISite]:
    """Return the project behind an ASGI server, with a database that threads share."""
    with use_databases(default={"NAME": str(tmp_path / "shop.sqlite3")}):
        create_orders(1, 2, 3)
        yield ASGISite()


def ask_often(*_: Any) -> None:
    """Execute one query four times and another one once."""
    for number in range(4):
        ask("SELECT %s", [number])
    ask("SELECT 1")


async def ask_async(sql: str = "SELECT 1", params: Any = None) -> Any:
    """Execute a query in asgiref's thread."""
    return await sync_to_async(ask)(sql, params)


def test_queries_are_counted_by_route(measured: Measured, site: Site) -> None:
    hooks["view"] = ask_often
    assert site("/users/1/") == "200"
    assert site("/users/2/") == "200"
    assert site("/foo/") == "200"
    assert measured.queries() == {(USER,): 10, ("/foo/",): 5}
    assert measured.repeated() == {(USER,): 4, ("/foo/",): 2}
    seconds = measured.samples("http_request_db_seconds_total", "method", "route")
    assert set(seconds) == {("GET", USER), ("GET", "/foo/")}
    durations = measured.samples("db_client_operation_duration_seconds_sum", "db_operation_name")
    assert sum(seconds.values()) == pytest.approx(sum(durations.values()))


def test_repeated_queries_show_an_n_plus_one_fault(measured: Measured, site: Site) -> None:
    create_orders(*range(10))

    def look_up_each(_: Any) -> None:
        for pk in Order.objects.values_list("pk", flat=True):
            Order.objects.get(pk=pk)

    hooks["view"] = look_up_each
    assert site("/users/1/") == "200"
    assert measured.queries()[USER,] == 11
    assert measured.repeated() == {(USER,): 8}


def test_transactions_are_no_repeated_queries(measured: Measured, site: Site) -> None:
    """Django executes BEGIN as a query in SQLite. Only the third SELECT is a repeated one."""

    def save_each(_: Any) -> None:
        for _number in range(3):
            with transaction.atomic():
                ask()

    hooks["view"] = save_each
    site("/users/1/")
    assert measured.queries() == {(USER,): 6}
    assert measured.repeated() == {(USER,): 1}


def test_queries_of_a_request_that_fails_are_counted(measured: Measured, site: Site) -> None:
    hooks["view"] = ask_often
    assert site("/fail/") == "500"
    assert measured.queries() == {("/fail/",): 5}


def test_queries_after_a_request_are_not_counted_for_it(measured: Measured, site: Site) -> None:
    hooks["view"] = ask_often
    site("/users/1/")
    ask()
    assert measured.queries() == {(USER,): 5, ("_none",): 1}
    tally = current_tally.get()
    assert tally is None or tally.closed


def test_queries_of_a_stream_are_counted_for_its_route(measured: Measured, site: Site) -> None:
    hooks["start"] = hooks["between"] = hooks["end"] = ask_often
    assert site("/stream/") == "200"
    assert measured.queries() == {("/stream/",): 15}
    assert measured.repeated() == {("/stream/",): 2 * 1 + 8 + 1}


def test_queries_of_a_stream_that_is_closed_early_are_counted(measured: Measured, site: Site) -> None:
    hooks["start"] = ask_often
    site.disconnect("/stream/")
    assert measured.queries() == {("/stream/",): 5}


def test_queries_of_an_excluded_view_are_counted_without_a_route(measured: Measured, site: Site) -> None:
    with override_settings(PROM_EXCLUDE=["/foo/"]):
        hooks["view"] = ask_often
        assert site("/foo/") == "200"
    assert measured.queries() == {("_none",): 5}


def test_queries_with_transactions_count_the_seconds_of_the_commit(measured: Measured, site: Site) -> None:
    def save(_: Any) -> None:
        with transaction.atomic(), transaction.atomic():
            ask()

    hooks["view"] = save
    site("/users/1/")
    assert measured.queries() == {(USER,): 4}  # BEGIN, SAVEPOINT, SELECT, RELEASE
    assert measured.operations("db_operation_name") == {
        (name,): 1 for name in ("BEGIN", "SAVEPOINT", "SELECT", "RELEASE", "COMMIT")
    }
    seconds = measured.samples("http_request_db_seconds_total", "route")
    durations = measured.samples("db_client_operation_duration_seconds_sum", "db_operation_name")
    assert seconds[USER,] == pytest.approx(sum(durations.values()))


def test_request_inside_of_a_request_has_its_own_queries(measured: Measured, site: Site) -> None:
    def call_another(request: Any) -> None:
        ask()
        if request.path == "/users/1/":
            Client().get("/foo/")
            ask()

    hooks["view"] = call_another
    assert site("/users/1/") == "200"
    assert measured.queries() == {("/foo/",): 1, (USER,): 2}


def test_queries_of_a_scrape_do_not_belong_to_a_request(
    measured: Measured, site: Site, registry: CollectorRegistry
) -> None:
    Gauge("rows", "Rows.", registry=registry).set_function(lambda: float(ask()[0]))

    def scrape(_: Any) -> None:
        ask()
        assert b"rows 1.0" in Client().get("/metrics").content

    hooks["view"] = scrape
    assert site("/users/1/") == "200"
    assert site("/metrics") == "200"
    found = dict(measured.queries())
    assert found[USER,] == 1
    assert set(found) == {(USER,), ("_none",)}


def test_queries_of_a_task_have_its_name(measured: Measured) -> None:
    ask()
    with task("nightly report"):
        ask_often()
    assert measured.samples("http_request_db_queries_total", "method", "route") == {
        ("_none", "_none"): 1,
        ("_task", "nightly report"): 5,
    }
    assert measured.repeated() == {("nightly report",): 2}


def test_queries_of_a_task_are_counted_before_any_other_query(measured: Measured) -> None:
    with task("nightly report"):
        ask()
    assert measured.queries() == {("nightly report",): 1}


def test_queries_of_threads_with_the_context_belong_to_the_request(measured: Measured, site: Site) -> None:
    def run() -> None:
        ask()
        connections["default"].connection.close()
        connections["default"].connection = None

    def use_threads(_: Any) -> None:
        context = copy_context()
        threads = [threading.Thread(target=context.run, args=[run]), threading.Thread(target=run)]
        for thread in threads:
            thread.start()
            thread.join()

    hooks["view"] = use_threads
    assert site("/users/1/") == "200"
    assert measured.queries() == {(USER,): 1, ("_none",): 1}


def test_queries_of_a_sync_view_under_asgi_are_counted(measured: Measured, asgi: ASGISite) -> None:
    hooks["view"] = ask_often
    assert asgi("/users/1/") == "200"
    assert measured.queries()[USER,] == 5
    assert measured.repeated() == {(USER,): 2}


async def use_orm(_: Any) -> None:
    assert await Order.objects.acount() == 3
    assert [order.number async for order in Order.objects.order_by("number")] == [1, 2, 3]
    await Order.objects.acreate(number=4)


def test_queries_of_the_async_orm_are_counted(measured: Measured, asgi: ASGISite) -> None:
    hooks["view"] = use_orm
    assert asgi("/async/") == "200"
    assert measured.queries()["/async/",] == 3


def test_concurrent_queries_of_a_request_are_counted_for_it(measured: Measured, asgi: ASGISite) -> None:
    async def gather(_: Any) -> None:
        await asyncio.gather(*(ask_async("SELECT %s", [number]) for number in range(5)))
        thread = sync_to_async(ask_and_close, thread_sensitive=False)
        await asyncio.gather(thread("SELECT 10"), thread("SELECT 11"))
        await asyncio.create_task(ask_async("SELECT 12"))

    hooks["view"] = gather
    assert asgi("/async/") == "200"
    assert measured.queries()["/async/",] == 8
    assert measured.repeated()["/async/",] == 3


def ask_and_close(sql: str) -> Any:
    """Execute a query with a connection that is closed afterwards."""
    try:
        return ask(sql)
    finally:
        connections["default"].close()


def test_concurrent_requests_have_their_own_queries(measured: Measured, asgi: ASGISite) -> None:
    async def view(request: Any) -> None:
        for _ in range(3):
            await ask_async("SELECT 1" if request.path == "/async/" else "SELECT 2")
            await asyncio.sleep(0)

    async def both() -> None:
        other = ASGISite()
        await asyncio.gather(asgi.serve("/async/"), other.serve("/async/"), asgi.serve("/users/1/"))

    hooks["view"] = lambda request: view(request) if request.path == "/async/" else ask_often()
    asyncio.run(both())
    assert measured.queries() == {**measured.queries(), ("/async/",): 6, (USER,): 5}
    assert measured.repeated() == {("/async/",): 2, (USER,): 2}


def test_queries_of_an_async_stream_are_counted(measured: Measured, asgi: ASGISite) -> None:
    def query() -> Awaitable[Any]:
        return ask_async()

    hooks["start"] = hooks["between"] = hooks["end"] = query
    assert asgi("/async-stream/") == "200"
    assert measured.queries()["/async-stream/",] == 3


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
def test_queries_of_a_sync_stream_under_asgi_are_counted(measured: Measured, asgi: ASGISite) -> None:
    hooks["start"] = hooks["between"] = hooks["end"] = lambda: bool(ask()) or None
    assert asgi("/stream/") == "200"
    assert measured.queries()["/stream/",] == 3


def test_response_that_is_dropped_counts_its_queries(measured: Measured, site: Site) -> None:
    def view(_: Any) -> None:
        ask()

    hooks["view"] = view
    body: Any = site.open("/users/1/")
    del body
    site("/foo/")
    assert measured.queries() == {(USER,): 1, ("/foo/",): 1}
