"""Gauges of applied and unapplied migrations (``PROM_MIGRATIONS``)."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from prometheus_client import CollectorRegistry

from django_prom import conf, migration_state
from django_prom.migration_state import MigrationState, migrated_databases, unapplied_migrations
from tests.servers.process import wait_until
from web_prom.multiprocess.writing.watch_thread import each_second

from .conftest import Site
from .shop.database import sqlite_databases

APPS = ["rest_framework", "django_prom", "tests.django_prom.shop", "tests.django_prom.migrated"]
INITIAL, SECOND, THIRD = "0001_initial", "0002_second", "0003_third"
SQUASHED = "0001_squashed_0002_second"
State = dict[str, tuple[float | None, float | None]]


class Router:
    """Allows no migration of the database ``other``."""

    def allow_migrate(self, db: str, app_label: str, **_: object) -> bool:
        return db != "other"


@pytest.fixture
def project(tmp_path: Path, django_db_blocker: Any) -> Iterator[None]:
    """Install apps with migrations, and create two empty databases."""
    databases = sqlite_databases(tmp_path, "default", "other")
    settings = override_settings(INSTALLED_APPS=APPS, PROM_MIGRATIONS=True)
    with django_db_blocker.unblock(), databases, settings:
        yield


@pytest.fixture
def state(project: None) -> Iterator[MigrationState]:
    """Return the state of a project that a server has loaded."""
    assert conf.instrumentation() is not None
    (found,) = migration_state._running
    # A thread that an earlier test has started calls it once a second.
    each_second.remove(migration_state.tick)
    found.wait(60)
    found.forget_thread()
    yield found
    each_second.append(migration_state.tick)


@pytest.fixture
def gauges(registry: CollectorRegistry) -> Any:
    """Return a reader of both gauges by database."""

    def read() -> State:
        names = ("django_migrations_applied", "django_migrations_unapplied")
        found = {
            alias: tuple(registry.get_sample_value(name, {"db_namespace": alias}) for name in names)
            for alias in ("default", "other")
        }
        return {alias: values for alias, values in found.items() if values != (None, None)}  # type: ignore[misc]

    return read


def record(alias: str, *names: str) -> None:
    """Record migrations as applied."""
    recorder = MigrationRecorder(connections[alias])
    recorder.ensure_schema()
    for name in names:
        recorder.record_applied("migrated", name)


def test_migrations_are_read_from_each_database(state: MigrationState, gauges: Any) -> None:
    """A database without a table of migrations has none."""
    record("default", INITIAL, SECOND)
    state.read()
    assert gauges() == {"default": (2, 1), "other": (0, 2)}


def test_migrations_are_0_unapplied_after_migrate(state: MigrationState, gauges: Any) -> None:
    state.read()
    assert gauges()["default"] == (0, 2)
    call_command("migrate", "migrated", verbosity=0)
    state.read()
    assert gauges()["default"][1] == 0


def test_migrations_of_a_database_that_routers_exclude_are_not_read(
    state: MigrationState, gauges: Any
) -> None:
    with override_settings(DATABASE_ROUTERS=[Router()]):
        assert migrated_databases() == ["default"]


def test_migrations_error_of_a_database_is_counted(
    state: MigrationState, gauges: Any, registry: CollectorRegistry, tmp_path: Path
) -> None:
    """The other databases are read, and the gauges keep the values that they have."""
    state.read()
    connections["default"].close()
    (tmp_path / "default.sqlite3").write_bytes(b"damaged" * 1000)
    record("other", INITIAL)
    state.read()
    assert gauges() == {"default": (0, 2), "other": (1, 2)}
    stage = {"stage": "migrations"}
    assert registry.get_sample_value("web_prom_instrumentation_errors_total", stage) == 1


def test_migrations_are_read_by_a_thread_after_the_first_scrape(
    state: MigrationState, gauges: Any, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No scrape waits. A minute later a scrape starts the next reading."""
    scraped, read = threading.Event(), migration_state._read_applied

    def read_after_the_scrape(alias: str) -> Any:
        assert scraped.wait(60)
        return read(alias)

    monkeypatch.setattr(migration_state, "_read_applied", read_after_the_scrape)
    assert site("/metrics") == "200"
    assert "django_migrations_unapplied{" not in site.text
    scraped.set()
    wait_until(lambda: len(gauges()) == 2, "the reading")
    record("default", INITIAL)
    site("/metrics")
    assert 'django_migrations_applied{db_namespace="default"} 0.0' in site.text
    assert 'django_migrations_unapplied{db_namespace="other"} 2.0' in site.text
    state.wait(10)
    state._due = 0.0
    site("/metrics")
    wait_until(lambda: gauges()["default"] == (1, 2), "the next reading")
    state.wait(10)


def test_migrations_reading_that_hangs_delays_no_scrape(
    state: MigrationState, gauges: Any, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No second thread is started, and the values stay."""
    state.read()
    hanging, released = threading.Event(), threading.Event()

    def hang(alias: str) -> Any:
        hanging.set()
        released.wait(60)
        return set()

    monkeypatch.setattr(migration_state, "_read_applied", hang)
    try:
        site("/metrics")
        assert hanging.wait(60)
        first = state._thread
        state._due = 0.0
        assert site("/metrics") == "200"
        assert 'django_migrations_unapplied{db_namespace="default"} 2.0' in site.text
        assert state._thread is first
    finally:
        released.set()
        state.wait(60)


def test_migrations_reading_uses_no_connection_of_the_caller(state: MigrationState) -> None:
    with CaptureQueriesContext(connections["default"]) as queries:
        state.tick()
        state.wait(60)
    assert len(queries) == 0


def test_migrations_are_read_by_one_of_the_processes_with_shared_values(
    state: MigrationState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration_state, "is_shared", lambda: True)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    state.tick()
    first = state._thread
    assert first is not None
    state.wait(60)
    state._due = 0.0
    state.tick()
    assert state._thread is first


def test_migrations_are_not_read_by_the_process_that_forks_the_workers(
    state: MigrationState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration_state, "server_pid", os.getpid)
    state.tick()
    assert not state.is_reading


def test_migrations_forked_child_starts_its_own_reading(state: MigrationState) -> None:
    """The thread of the parent does not exist in the child."""
    state.tick()
    pid = os.fork()
    if pid == 0:
        os._exit(state.is_reading or state._due != 0.0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    state.wait(60)


def test_migrations_thread_that_cannot_start_is_counted(
    state: MigrationState, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_prom.migration_state.threading.Thread", None)
    state.tick()
    stage = {"stage": "migrations"}
    assert registry.get_sample_value("web_prom_instrumentation_errors_total", stage) == 1


@pytest.mark.parametrize(
    "names",
    [
        (),
        (INITIAL,),
        (INITIAL, SECOND),
        (INITIAL, SECOND, SQUASHED),
        (INITIAL, SECOND, THIRD),
        (INITIAL, SECOND, SQUASHED, THIRD),
    ],
)
def test_unapplied_migrations_are_those_of_migrate(project: None, names: tuple[str, ...]) -> None:
    record("default", *names)
    executor = MigrationExecutor(connections["default"])
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    loader = MigrationLoader(None, load=False)
    loader.load_disk()
    applied = set(MigrationRecorder(connections["default"]).applied_migrations())
    expected = {(migration.app_label, migration.name) for migration, _ in plan}
    assert unapplied_migrations(loader.disk_migrations, applied) == expected
