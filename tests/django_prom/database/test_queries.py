"""The queries of Django's connections: their families, errors and hooks."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DatabaseError, connection, connections
from django.db.backends.utils import CursorDebugWrapper, CursorWrapper
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from prometheus_client import CollectorRegistry, Gauge

from django_prom import conf
from django_prom.database.connection import MeasuredConnection
from django_prom.database.measuring import measuring
from tests.web_prom.support import samples
from web_prom.database.recorder import Database

from .project import Measured, Order, ask, create_orders


def wrappers(alias: str = "default") -> list[Any]:
    """Return the execute wrappers of a connection that are not the test's."""
    return [each for each in connections[alias].execute_wrappers if is_ours(each)]


def is_ours(wrapper: Any) -> bool:
    """Tell whether an execute wrapper is the one of web-prom."""
    return str(wrapper.__qualname__).startswith(f"{MeasuredConnection.__name__}.")


def test_queries_are_observed_by_system_alias_and_operation(measured: Measured) -> None:
    ask("CREATE TABLE orders (number INTEGER)")
    ask("INSERT INTO orders VALUES (%s)", [7])
    assert ask("SELECT number FROM orders") == (7,)
    ask(using="replica")
    assert measured.operations("db_system_name", "db_namespace", "db_operation_name") == {
        ("sqlite", "default", "CREATE"): 1,
        ("sqlite", "default", "INSERT"): 1,
        ("sqlite", "default", "SELECT"): 1,
        ("sqlite", "replica", "SELECT"): 1,
    }
    assert measured.queries() == {("_none",): 4}
    assert measured.errors() == {}


def test_queries_that_fail_are_observed_with_their_exception(measured: Measured) -> None:
    ask("CREATE TABLE orders (number INTEGER UNIQUE)")
    ask("INSERT INTO orders VALUES (1)")
    for sql in ("INSERT INTO orders VALUES (1)", "SELECT a FROM nowhere"):
        with pytest.raises(DatabaseError):
            ask(sql)
    assert measured.operations() == {
        ("CREATE", ""): 1,
        ("INSERT", ""): 1,
        ("INSERT", "IntegrityError"): 1,
        ("SELECT", "OperationalError"): 1,
    }


def test_queries_raise_the_exception_of_the_database_unchanged(measured: Measured) -> None:
    with pytest.raises(DatabaseError, match="no such table: nowhere") as caught:
        ask("SELECT a FROM nowhere")
    assert type(caught.value.__cause__).__module__ == "sqlite3"
    assert caught.value.__context__ is caught.value.__cause__


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 adds the frame again")
@pytest.mark.parametrize("is_recorded", [True, False])
def test_tracebacks_of_the_database_have_no_frame_of_the_measurement(
    measured: Measured, is_recorded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_recorded:  # as in a management command, if there is a shared directory
        monkeypatch.setattr(measuring, "recorder", None)
        monkeypatch.setattr(measuring, "_is_settled", True)
    with pytest.raises(DatabaseError) as caught:
        ask("SELECT a FROM nowhere")
    assert bool(measured.operations()) is is_recorded
    modules = [entry.frame.f_globals["__name__"] for entry in caught.traceback]
    assert not [module for module in modules if module.startswith(("django_prom", "web_prom"))]
    assert [entry.name for entry in caught.traceback][:3] == [
        "test_tracebacks_of_the_database_have_no_frame_of_the_measurement",
        "ask",
        "execute",
    ]


def test_fault_36_executemany_gets_a_generator_unread(measured: Measured) -> None:
    ask("CREATE TABLE orders (number INTEGER)")
    read: list[int] = []

    def numbers() -> Iterator[tuple[int]]:
        for number in range(3):
            read.append(number)
            yield (number,)

    seen: list[Any] = []

    def look(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        seen.append((params, many, list(read)))
        return execute(sql, params, many, context)

    generator = numbers()
    with connection.execute_wrapper(look), connection.cursor() as cursor:
        cursor.executemany("INSERT INTO orders VALUES (%s)", generator)
    assert seen == [(generator, True, [])]
    assert ask("SELECT COUNT(*) FROM orders") == (3,)
    assert measured.operations()["INSERT", ""] == 1


class NoLength:
    """Parameters whose length nobody may ask for."""

    def __iter__(self) -> Iterator[tuple[int]]:
        return iter([(1,), (2,)])

    def __len__(self) -> int:
        raise AssertionError("the length was asked for")

    def __bool__(self) -> bool:
        raise AssertionError("the truth was asked for")


def test_fault_36_executemany_is_not_asked_for_the_length_of_its_parameters(measured: Measured) -> None:
    ask("CREATE TABLE orders (number INTEGER)")
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO orders VALUES (%s)", NoLength())
    assert ask("SELECT COUNT(*) FROM orders") == (2,)


def test_fault_36_iterator_is_observed(measured: Measured) -> None:
    create_orders(1, 2, 3)
    before = measured.operations().get(("SELECT", ""), 0)
    found = [order.number for order in Order.objects.order_by("number").iterator(chunk_size=1)]
    assert found == [1, 2, 3]
    assert measured.operations()["SELECT", ""] == before + 1


@pytest.mark.usefixtures("measured")
def test_fault_17_engines_and_classes_are_not_replaced() -> None:
    from django.db.backends.sqlite3.base import DatabaseWrapper

    ask()
    assert type(connections["default"]) is DatabaseWrapper
    assert connections["default"].settings_dict["ENGINE"] == "django.db.backends.sqlite3"
    with connection.cursor() as cursor:
        assert type(cursor) is CursorWrapper
    with override_settings(DEBUG=True), connection.cursor() as cursor:
        assert type(cursor) is CursorDebugWrapper
    assert "execute" not in vars(CursorWrapper(None, None))


def test_connections_are_hooked_once(measured: Measured) -> None:
    for _ in range(3):
        connections["default"].connect()
        ask()
        connections["default"].connection.close()
    assert len(wrappers()) == 1
    assert measured.operations() == {("SELECT", ""): 3}


def test_connections_of_other_threads_are_hooked(measured: Measured) -> None:
    def run() -> None:
        ask()
        connections["default"].connection.close()
        connections["default"].connection = None

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert measured.operations() == {("SELECT", ""): 3}


def test_connections_that_exist_before_are_hooked(measured: Measured) -> None:
    with override_settings(PROM_DATABASE=False):
        ask()
        assert wrappers() == []
    assert len(wrappers()) == 1
    ask()
    assert measured.operations() == {("SELECT", ""): 1}


def test_connection_objects_of_other_code_are_hooked_when_they_connect(measured: Measured) -> None:
    copy = connections["default"].copy()
    with copy.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert [is_ours(wrapper) for wrapper in copy.execute_wrappers] == [True]
    copy.connection.close()
    assert measured.operations() == {("SELECT", ""): 1}


def test_setting_switched_off_removes_the_hooks(measured: Measured) -> None:
    ask()
    names = set(vars(connections["default"]))
    with override_settings(PROM_DATABASE=False):
        removed = names - set(vars(connections["default"]))
        assert {"_web_prom", "get_new_connection", "_commit", "_rollback", "_close"} <= removed
        assert "create_connection" not in vars(connections)
        ask()
    assert measured.samples("db_client_operation_duration_seconds_count", "db_namespace") == {("default",): 1}


def test_execute_wrapper_of_the_application_stays_when_a_block_ends(measured: Measured) -> None:
    """``execute_wrapper`` removes the last wrapper of the list, which must be its own one."""
    calls: list[str] = []

    def own(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        calls.append(sql)
        return execute(sql, params, many, context)

    with override_settings(PROM_DATABASE=False):
        wrapper = connection.execute_wrapper(own)
        wrapper.__enter__()
    ask("SELECT 1")
    wrapper.__exit__(None, None, None)
    ask("SELECT 2")
    assert calls == ["SELECT 1"]
    assert measured.operations() == {("SELECT", ""): 2}


def test_queries_that_an_execute_wrapper_refuses_are_observed_as_errors(measured: Measured) -> None:
    class RefusedError(Exception):
        pass

    def refuse(*_: Any) -> Any:
        raise RefusedError

    with connection.execute_wrapper(refuse), pytest.raises(RefusedError):
        ask()
    ((operation, error),) = measured.operations()
    assert (operation, error.rpartition(".")[2]) == ("SELECT", "RefusedError")


def test_error_of_the_measurement_is_counted_and_the_query_goes_on(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask()

    def fail(*_: Any) -> Any:
        raise LookupError("in the instrumentation")

    monkeypatch.setattr(Database, "_write_for_text", fail)
    assert ask("SELECT 5") == (5,)
    assert measured.errors() == {("database",): 1}


def test_error_of_a_hook_is_counted_and_the_connection_works(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask()

    def fail(*_: Any) -> Any:
        raise LookupError("in the instrumentation")

    monkeypatch.setattr(MeasuredConnection, "__init__", fail)
    assert ask("SELECT 6", using="replica") == (6,)
    assert measured.errors()["database",] >= 1


def test_queries_are_logged_as_before(measured: Measured) -> None:
    with CaptureQueriesContext(connection) as captured:
        ask("SELECT 1")
    assert [query["sql"] for query in captured.captured_queries] == ["SELECT 1"]
    assert measured.operations() == {("SELECT", ""): 1}


def test_queries_are_written_to_the_registry_of_the_present_settings(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask()
    other = CollectorRegistry()
    monkeypatch.setattr(conf, "REGISTRY", other)
    with override_settings(PROM_CONSTANT_LABELS={"shop": "north"}, PROM_NAMESPACE="inner"):
        ask()
        name = "inner_db_client_operation_duration_seconds_count"
        assert samples(other, name, "shop") == {("north",): 1}
    assert measured.operations() == {("SELECT", ""): 1}


def test_queries_are_not_observed_if_the_families_cannot_be_created(
    measured: Measured, registry: CollectorRegistry
) -> None:
    Gauge("db_client_operation_duration_seconds", "Another one.", registry=registry)
    assert ask("SELECT 4") == (4,)
    assert measured.errors() == {("database",): 1}
