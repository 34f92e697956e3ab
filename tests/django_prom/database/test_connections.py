"""The connections of Django: opened, failed, closed, kept; transactions and savepoints."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.sqlite3.base import DatabaseWrapper

from tests.django_prom.conftest import Site
from tests.django_prom.views import hooks
from tests.web_prom.support import python

from .project import Measured, ask, use_databases


def test_connection_is_counted_when_it_is_opened_and_closed(measured: Measured, tmp_path: Path) -> None:
    with use_databases(default={"NAME": str(tmp_path / "shop")}):
        for _ in range(3):
            ask()
            ask()
            connection.close()
            connection.close()
    assert measured.connections("opened_total") == {("default",): 3}
    assert measured.connections("closed_total") == {("default",): 3}
    assert measured.connections("create_time_seconds_count") == {("default",): 3}
    assert measured.connections("use_time_seconds_count") == {("default",): 3}
    assert measured.connections("failures_total", "error_type") == {}


def test_connection_is_closed_after_each_request(measured: Measured, site: Site, tmp_path: Path) -> None:
    hooks["view"] = lambda _: ask() and None
    with use_databases(default={"NAME": str(tmp_path / "shop")}):
        for _ in range(3):
            site("/users/1/")
    assert measured.connections("opened_total") == {("default",): 3}
    assert measured.connections("closed_total") == {("default",): 3}


def test_persistent_connection_is_hooked_once(measured: Measured, site: Site, tmp_path: Path) -> None:
    hooks["view"] = lambda _: ask() and None
    entry = {"NAME": str(tmp_path / "shop"), "CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}
    with use_databases(default=entry):
        for _ in range(3):
            site("/users/1/")
        assert len(connection.execute_wrappers) == 1
        connection.close()
    assert measured.connections("opened_total") == {("default",): 1}
    assert measured.connections("closed_total") == {("default",): 1}
    assert measured.queries() == {("/users/<int:pk>/",): 3}


def test_connection_that_cannot_be_opened_is_counted(measured: Measured, tmp_path: Path) -> None:
    with use_databases(default={"NAME": str(tmp_path / "missing" / "shop")}):
        for _ in range(2):
            with pytest.raises(OperationalError, match="unable to open database file"):
                ask()
    assert measured.connections("failures_total", "error_type") == {("default", "OperationalError"): 2}
    assert measured.connections("opened_total") == {}
    assert measured.operations() == {}


def test_request_without_a_database_fails_as_before(measured: Measured, site: Site, tmp_path: Path) -> None:
    hooks["view"] = lambda _: ask() and None
    with use_databases(default={"NAME": str(tmp_path / "missing" / "shop")}):
        assert site("/users/1/") == "500"
    assert measured.samples("http_request_exceptions_total", "exception") == {("OperationalError",): 1}
    assert measured.errors() == {}


@pytest.mark.usefixtures("measured")
def test_commits_rollbacks_and_savepoints_are_counted(measured: Measured) -> None:
    ask("CREATE TABLE orders (number INTEGER UNIQUE)")
    with transaction.atomic():
        ask("INSERT INTO orders VALUES (1)")
        with pytest.raises(IntegrityError), transaction.atomic():
            ask("INSERT INTO orders VALUES (1)")
        with transaction.atomic():
            ask("INSERT INTO orders VALUES (2)")
    with pytest.raises(LookupError), transaction.atomic():
        raise LookupError
    assert measured.samples("db_client_transactions_total", "db_namespace", "outcome") == {
        ("default", "commit"): 1,
        ("default", "rollback"): 1,
    }
    assert measured.samples("db_client_savepoints_total", "db_namespace", "operation") == {
        ("default", "create"): 2,
        ("default", "rollback"): 1,
        ("default", "release"): 2,
    }


def test_commit_that_fails_is_observed_with_its_exception(measured: Measured) -> None:
    ask("CREATE TABLE shops (id INTEGER PRIMARY KEY)")
    ask("CREATE TABLE orders (shop INTEGER NOT NULL REFERENCES shops (id) DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(IntegrityError), transaction.atomic():
        ask("INSERT INTO orders VALUES (7)")
    assert measured.operations()["COMMIT", "IntegrityError"] == 1
    assert measured.samples("db_client_transactions_total", "outcome") == {("rollback",): 1}


@pytest.mark.usefixtures("measured")
def test_commit_without_a_connection_opens_none(measured: Measured) -> None:
    connection.commit()
    connection.rollback()
    assert connection.connection is None
    assert measured.samples("db_client_transactions_total", "outcome") == {}


class TenantWrapper(DatabaseWrapper):  # type: ignore[misc]
    """A connection object as backends with tenants have it: it sets a schema before each cursor."""

    schema = "public"

    def _cursor(self, name: Any = None) -> Any:
        cursor = super()._cursor(name)
        cursor.execute(f"SELECT '{self.schema}'")
        return cursor

    def _close(self) -> Any:
        self.schema = "public"
        return super()._close()


def test_fault_17_backend_with_tenants_is_measured_as_it_is(
    measured: Measured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = type(sys)("tests_tenants")
    base: Any = type(sys)("tests_tenants.base")
    base.DatabaseWrapper = TenantWrapper
    monkeypatch.setitem(sys.modules, "tests_tenants", module)
    monkeypatch.setitem(sys.modules, "tests_tenants.base", base)
    with use_databases(tenants={"ENGINE": "tests_tenants", "NAME": str(tmp_path / "shop")}):
        tenants = connections["tenants"]
        assert type(tenants) is TenantWrapper
        tenants.schema = "north"
        ask(using="tenants")
        tenants.close()
        assert tenants.schema == "public"
    assert measured.operations("db_namespace", "db_operation_name") == {("tenants", "SELECT"): 2}
    assert measured.connections("closed_total") == {("tenants",): 1}


def test_mirrored_alias_is_measured_under_its_own_name(measured: Measured, tmp_path: Path) -> None:
    with use_databases(default={"NAME": str(tmp_path / "shop")}):
        connections["replica"] = connections["default"].copy(alias="replica")
        connections["replica"].creation.set_as_test_mirror(connections["default"].settings_dict)
        ask("CREATE TABLE orders (number INTEGER)")
        assert ask("SELECT COUNT(*) FROM orders", using="replica") == (0,)
        connections["replica"].close()
        connections["default"].close()
    assert measured.operations("db_namespace", "db_operation_name") == {
        ("default", "CREATE"): 1,
        ("replica", "SELECT"): 1,
    }


def test_refusal_of_a_test_to_use_the_database_works_as_before(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Any) -> Any:
        raise AssertionError("no database here")

    monkeypatch.setattr(BaseDatabaseWrapper, "ensure_connection", refuse)
    with pytest.raises(AssertionError, match="no database here"):
        ask()
    assert measured.operations() == {}


@pytest.mark.slow
def test_modules_of_databases_are_imported_only_if_the_setting_is_on() -> None:
    """With ``PROM_DATABASE`` off, neither a request nor a query runs a statement more."""
    program = """
        import os, sys
        os.environ["DJANGO_SETTINGS_MODULE"] = "tests.django_prom.settings"
        import django
        from django.conf import settings
        settings.DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
        django.setup()
        from django.core.handlers.wsgi import WSGIHandler
        from django.db import connection, connections
        from tests.django_prom.views import hooks
        from tests.web_prom.support import serve
        hooks["view"] = lambda request: connection.cursor().execute("SELECT 1") and None
        assert serve(WSGIHandler(), "/users/1/", HTTP_HOST="testserver") == b"hello"
        assert connection.execute_wrappers == []
        assert "_web_prom" not in vars(connections["default"])
        assert "create_connection" not in vars(connections)
        print(sorted(name for name in sys.modules if "_prom.database" in name))
    """
    assert python(program).strip() == "[]"


def refused_port() -> int:
    """Return a port at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_refused_port_is_counted_as_a_failure_of_the_connection(measured: Measured, site: Site) -> None:
    pytest.importorskip("psycopg")
    hooks["view"] = lambda _: ask() and None
    entry = {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "127.0.0.1",
        "PORT": str(refused_port()),
        "NAME": "shop",
        "USER": "tester",
    }
    with use_databases(default=entry):
        with pytest.raises(OperationalError, match="refused") as caught:
            ask()
        assert type(caught.value.__cause__).__module__.startswith("psycopg")
        assert site("/users/1/") == "500"
    assert measured.connections("failures_total", "error_type") == {("default", "OperationalError"): 2}
    assert measured.operations() == {}
