"""Django's connections to PostgreSQL and MariaDB: COPY, server-side cursors, procedures, pools, failures."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import django
import pymysql
import pytest
from django.db import DatabaseError, OperationalError, connection, connections, transaction
from django.db.backends.utils import CursorWrapper
from django.test import override_settings

from tests.django_prom.conftest import Site, registry, site  # noqa: F401
from tests.django_prom.database.conftest import measured  # noqa: F401
from tests.django_prom.database.project import Measured, Order, ask, create_orders, use_databases
from tests.django_prom.views import hooks
from tests.servers.databases import DatabaseServer, PostgreSQL
from tests.web_prom.support import python
from web_prom.runtime.this_process import publish

pymysql.install_as_MySQLdb()

has_pools = pytest.mark.skipif(django.VERSION < (5, 1), reason="Django 5.1 has the first pools")


@pytest.fixture
def on_postgresql(measured: Measured, postgresql: DatabaseServer) -> Iterator[Measured]:  # noqa: F811
    """Let the project use PostgreSQL, with a table of three orders."""
    with use_databases(default=postgresql.django()):
        create_orders(1, 2, 3)
        yield measured
        ask_nothing("DROP TABLE orders_order")


def ask_nothing(sql: str) -> None:
    """Execute a query without a result."""
    with connection.cursor() as cursor:
        cursor.execute(sql)


def operations(measured: Measured, name: str) -> float:  # noqa: F811
    """Return the number of operations with a name that raised nothing."""
    return measured.operations().get((name, ""), 0)


def test_postgresql_queries_are_observed_with_the_name_of_the_system(on_postgresql: Measured) -> None:
    assert {system for (system,) in on_postgresql.operations("db_system_name")} == {"postgresql"}
    with pytest.raises(DatabaseError):
        ask("SELECT a FROM nowhere")
    assert on_postgresql.operations()["SELECT", "ProgrammingError"] == 1
    assert on_postgresql.errors() == {}


def test_fault_36_server_side_cursor_is_observed(on_postgresql: Measured) -> None:
    before = operations(on_postgresql, "SELECT")
    with transaction.atomic():
        rows = Order.objects.order_by("number").iterator(chunk_size=1)
        assert [order.number for order in rows] == [1, 2, 3]
    assert operations(on_postgresql, "SELECT") == before + 1
    with transaction.atomic(), connections["default"].chunked_cursor() as cursor:
        cursor.execute("SELECT number FROM orders_order ORDER BY number")
        assert cursor.fetchmany(2) == [(1,), (2,)]
    assert operations(on_postgresql, "SELECT") == before + 2


def test_fault_36_executemany_with_a_generator_is_observed(on_postgresql: Measured) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO orders_order (number) VALUES (%s)", ((number,) for number in range(10, 20))
        )
    assert Order.objects.count() == 13


@pytest.mark.parametrize("debug", [False, True])
def test_fault_36_copy_is_observed(on_postgresql: Measured, debug: bool) -> None:
    with override_settings(DEBUG=debug), connection.cursor() as cursor:
        with cursor.copy("COPY orders_order (number) FROM STDIN") as copy:
            for number in (7, 8):
                copy.write_row((number,))
        with cursor.copy("COPY (SELECT number FROM orders_order ORDER BY number) TO STDOUT") as copy:
            assert [int(row[0]) for row in copy.rows()] == [1, 2, 3, 7, 8]
        assert cursor.rowcount == 5
    assert operations(on_postgresql, "COPY") == 2


def test_copy_that_fails_is_observed_with_its_exception(on_postgresql: Measured) -> None:
    import psycopg

    statement = "COPY orders_order (number) FROM STDIN"
    refused = pytest.raises(psycopg.errors.UniqueViolation)
    with connection.cursor() as cursor, refused, cursor.copy(statement) as copy:
        copy.write_row((1,))
    connection.rollback()

    class OwnError(Exception):
        pass

    with connection.cursor() as cursor, pytest.raises(OwnError), cursor.copy(statement):
        raise OwnError
    errors = {error.rpartition(".")[2] for name, error in on_postgresql.operations() if name == "COPY"}
    assert errors == {"IntegrityError", "OwnError"}


def test_cursor_has_the_attributes_and_the_type_that_it_had(on_postgresql: Measured) -> None:
    with connection.cursor() as cursor:
        assert isinstance(cursor, CursorWrapper)
        assert type(cursor).__name__ == "CursorWrapper"
        assert hasattr(cursor, "copy")
        assert not hasattr(cursor, "copy_expert")
        with pytest.raises(AttributeError, match="copy_from"):
            _ = cursor.copy_from


def test_stored_procedure_is_observed(on_postgresql: Measured) -> None:
    with connection.cursor() as cursor:
        cursor.callproc("abs", [-7])
        assert cursor.fetchone() == (7,)
        with pytest.raises(DatabaseError) as caught:
            cursor.callproc("no_function_has_this_name")
    kept = [entry for entry in caught.traceback if "django_prom/database" in str(entry.path)]
    # Python 3.10 adds the frames again.
    assert ([entry for entry in kept if "tests" not in str(entry.path)] == []) is (
        sys.version_info >= (3, 11)
    )
    assert operations(on_postgresql, "CALL") == 1
    assert on_postgresql.operations()["CALL", "ProgrammingError"] == 1


def test_server_that_is_killed_fails_the_query_and_the_next_request_works(
    measured: Measured,  # noqa: F811
    site: Site,  # noqa: F811
) -> None:
    hooks["view"] = lambda _: ask() and None
    with PostgreSQL() as server, use_databases(default=server.django(CONN_MAX_AGE=None)):
        assert site("/users/1/") == "200"
        server.kill()
        for _ in range(2):
            assert site("/users/1/") == "500"
        assert site("/foo/") == "500"
        server.start()
        assert site("/users/1/") == "200"
        connection.close()
    failed = {error for name, error in measured.operations() if error}
    assert failed <= {"OperationalError", "InterfaceError"}
    assert failed
    assert measured.connections("failures_total", "error_type")["default", "OperationalError"] >= 1
    assert measured.connections("opened_total") == {("default",): 2}
    assert measured.connections("closed_total") == {("default",): 2}
    assert measured.samples("http_request_exceptions_total", "exception").keys() <= {
        ("OperationalError",),
        ("InterfaceError",),
    }
    assert measured.errors() == {}


@pytest.fixture
def pooled(measured: Measured, postgresql: DatabaseServer) -> Iterator[Measured]:  # noqa: F811
    """Let the project use PostgreSQL through a pool of two connections."""
    pool = {"min_size": 2, "max_size": 2, "timeout": 0.2}
    with use_databases(default=postgresql.django(OPTIONS={"pool": pool})):
        connections["default"].pool.open(wait=True, timeout=60)
        yield measured
        connection.close()
        connections["default"].close_pool()


def pool_states(measured: Measured) -> dict[tuple[str, ...], float]:  # noqa: F811
    """Return the states of the pool's connections."""
    publish()
    return measured.samples("db_client_connection_count", "db_client_connection_state")


@has_pools
def test_pool_is_measured_by_its_statistics(pooled: Measured) -> None:
    for _ in range(3):
        ask()
        assert pool_states(pooled) == {("used",): 1, ("idle",): 1}
        connection.close()
        assert pool_states(pooled) == {("idle",): 2}
    assert pooled.connections("max") == {("default",): 2}
    assert pooled.connections("wait_time_seconds_count") == {("default",): 3}
    assert pooled.connections("use_time_seconds_count") == {("default",): 3}
    assert pooled.connections("opened_total") == {("default",): 2}
    assert pooled.connections("closed_total") == {}
    assert pooled.connections("timeouts_total") == {}
    assert pooled.connections("failures_total") == {}
    connections["default"].pool.pop_stats()
    ask()
    assert pool_states(pooled) == {("used",): 1, ("idle",): 1}
    assert pooled.connections("opened_total") == {("default",): 2}


@has_pools
def test_pool_that_is_empty_counts_timeouts_and_no_failures(pooled: Measured) -> None:
    release, ready = threading.Event(), threading.Semaphore(0)

    def hold() -> None:
        ask()
        ready.release()
        release.wait(30)
        connections["default"].close()

    holders = [threading.Thread(target=hold) for _ in range(2)]
    for holder in holders:
        holder.start()
        assert ready.acquire(timeout=30)
    with pytest.raises(OperationalError, match="couldn't get a connection"):
        ask()
    assert pool_states(pooled) == {("used",): 2}
    release.set()
    for holder in holders:
        holder.join()
    assert pooled.connections("timeouts_total") == {("default",): 1}
    assert pooled.connections("failures_total", "error_type") == {}
    assert pooled.errors() == {}


def test_mariadb_is_measured(measured: Measured, mariadb: DatabaseServer) -> None:  # noqa: F811
    with use_databases(default=mariadb.django()):
        create_orders(1, 2, 3)
        assert [order.number for order in Order.objects.order_by("number").iterator()] == [1, 2, 3]
        with connection.cursor() as cursor:
            cursor.execute("CREATE PROCEDURE seven() SELECT 7")
            cursor.callproc("seven")
            assert cursor.fetchone() == (7,)
            assert not hasattr(cursor, "copy")
        with pytest.raises(DatabaseError):
            ask("SELECT a FROM nowhere")
        ask_nothing("DROP TABLE orders_order")
        ask_nothing("DROP PROCEDURE seven")
        connection.close()
    assert {system for (system,) in measured.operations("db_system_name")} == {"mariadb"}
    assert operations(measured, "CALL") == 1
    assert measured.operations()["SELECT", "ProgrammingError"] == 1
    assert measured.connections("opened_total") == measured.connections("closed_total") != {}
    assert measured.errors() == {}


PSYCOPG2 = """
    import io, os, sys
    sys.modules["psycopg"] = None  # Django prefers it
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.django_prom.settings"
    os.environ["PROM_DATABASE"] = "true"
    import django
    from django.conf import settings
    settings.DATABASES = {"default": {
        "ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "PORT": sys.argv[1],
        "USER": sys.argv[2], "NAME": sys.argv[3],
    }}
    django.setup()
    from django.db import connection
    from prometheus_client import REGISTRY
    from tests.django_prom.database.project import Order, create_orders
    create_orders(1, 2)
    settings.DEBUG = len(sys.argv) > 4
    with connection.cursor() as cursor:
        cursor.copy_from(io.StringIO("3\\n4\\n"), "orders_order", columns=["number"])
        cursor.copy_expert("COPY orders_order (number) FROM STDIN", io.StringIO("5\\n"))
        copied = io.StringIO()
        cursor.copy_to(copied, "orders_order", columns=["number"])
        assert sorted(map(int, copied.getvalue().split())) == [1, 2, 3, 4, 5]
        cursor.callproc("abs", [-7])
        assert cursor.fetchone() == (7,)
        assert not hasattr(cursor, "copy")
    assert [order.number for order in Order.objects.order_by("number").iterator(2)] == [1, 2, 3, 4, 5]
    with connection.schema_editor() as editor:
        editor.delete_model(Order)
    connection.close()
    for operation in ("COPY", "CALL", "SELECT"):
        print(operation, REGISTRY.get_sample_value("db_client_operation_duration_seconds_count", {
            "db_system_name": "postgresql", "db_namespace": "default",
            "db_operation_name": operation, "error_type": "",
        }))
"""


@pytest.mark.parametrize("debug", [[], ["debug"]])
def test_fault_36_psycopg2_is_measured(postgresql: DatabaseServer, debug: list[str]) -> None:
    found = python(PSYCOPG2, str(postgresql.port), postgresql.user, postgresql.database, *debug)
    assert found.split() == ["COPY", "3.0", "CALL", "1.0", "SELECT", "1.0"]
