"""Gauges of applied and unapplied migrations (``PROM_MIGRATIONS``). Only imported if the setting is on."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import prometheus_client
from django.apps import apps
from django.db import connections, router
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from web_prom.family_names import MIGRATIONS_APPLIED, MIGRATIONS_UNAPPLIED
from web_prom.metrics.conventions import MetricSpec, same_names
from web_prom.metrics.recorder import Recorder
from web_prom.multiprocess.directory.environment import DIR_VARIABLE
from web_prom.multiprocess.directory.server_directory import server_pid
from web_prom.multiprocess.directory.shared_interval import SharedInterval
from web_prom.multiprocess.writing.activation import is_shared
from web_prom.multiprocess.writing.watch_thread import each_second
from web_prom.posix import at_fork

APPLIED = MetricSpec(
    name=MIGRATIONS_APPLIED,
    documentation="Migrations that are applied to a database.",
    labels=same_names("db_namespace"),
)

UNAPPLIED = MetricSpec(
    name=MIGRATIONS_UNAPPLIED,
    documentation="Migrations of the project that are not applied to a database.",
    labels=same_names("db_namespace"),
)

INTERVAL = 60.0
"""Seconds between two readings."""

_turns = SharedInterval("django_migrations", INTERVAL)

# How long a fork waits for a reading. Its connection must not be copied to the child.
_FORK_SECONDS = 0.1

Key = tuple[str, str]
"""The label of an app and the name of a migration."""


class MigrationState:
    """Reads the state of each database once a minute, in a thread that ends when it has the state.

    No request and no scrape waits for a database. Of the processes with shared values, one reads in each
    minute, the first time a second after it is ready. A scrape has the latest value of each database,
    whichever process has written it. In a process without shared values, the first scrape starts the reading,
    and the next scrape has the values.

    If a database cannot be read, its gauges keep their values, and the error is counted with the stage
    ``migrations``. A reading that hangs is not repeated. A server's own process, which forks the workers,
    reads nothing.

    Databases to which the routers allow no migration of any model are not read. The migrations of the project
    are read from its files once.

    Args:
        recorder: The recorder of the project.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._due = 0.0
        self._thread: threading.Thread | None = None
        self._migrations: Mapping[Key, Any] | None = None

    def start(self) -> None:
        """Read from now on."""
        _running.append(self)
        self._recorder.families.recorders.add(self)
        if tick not in each_second:
            each_second.append(tick)

    def stop(self) -> None:
        """Start no more readings."""
        _running.remove(self)
        self._recorder.families.recorders.discard(self)
        if not _running:
            each_second.remove(tick)

    def rebind_values(self) -> None:
        """Do nothing: the gauges are looked up at each reading."""

    def drop_writers(self) -> None:
        """Do nothing, as above."""

    def on_scrape(self) -> None:
        """Start a reading, if no other thread does so in this process. Never raises."""
        if not is_shared():
            self.tick()

    def tick(self) -> None:
        """Start a reading if it is due. Returns at once, and never raises."""
        try:
            if monotonic() < self._due or self.is_reading or server_pid() == os.getpid():
                return
            directory = os.environ.get(DIR_VARIABLE) if is_shared() else None
            if directory and not _turns.take(Path(directory)):
                return
            self._due = monotonic() + INTERVAL
            self._thread = threading.Thread(target=self.read, name="django_prom migrations", daemon=True)
            self._thread.start()
        except Exception:  # for example, no thread can be started
            self._recorder.record_internal_error("migrations")

    @property
    def is_reading(self) -> bool:
        """Whether the thread of a reading runs."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self, seconds: float) -> None:
        """Wait for the end of a reading."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)

    def forget_thread(self) -> None:
        """Forget the thread of the parent in a forked child."""
        self._thread = None
        self._due = 0.0

    def read(self) -> None:
        """Read all databases and set the gauges. Never raises."""
        try:
            aliases = migrated_databases()
            if self._migrations is None:
                loader = MigrationLoader(None, load=False)
                loader.load_disk()
                self._migrations = loader.disk_migrations
        except Exception:
            self._recorder.record_internal_error("migrations")
            return
        for alias in aliases:
            try:
                applied = _read_applied(alias)
                unapplied = unapplied_migrations(self._migrations, applied)
                self._gauge(APPLIED, alias).set(len(applied))
                self._gauge(UNAPPLIED, alias).set(len(unapplied))
            except Exception:
                self._recorder.record_internal_error("migrations")

    def _gauge(self, spec: MetricSpec, alias: str) -> Any:
        recorder = self._recorder
        gauge = recorder.families.unlimited_family(
            prometheus_client.Gauge, spec, multiprocess_mode="mostrecent"
        )
        return gauge.labels(alias, *recorder.config.constant_labels.values())


def migrated_databases() -> list[str]:
    """Return the aliases of the databases to which the routers allow migrations, as Django checks it."""
    models = [(config.label, model) for config in apps.get_app_configs() for model in config.get_models()]
    return [
        alias
        for alias in connections
        if connections[alias].settings_dict["ENGINE"] != "django.db.backends.dummy"
        and any(
            router.allow_migrate(alias, label, model_name=model._meta.object_name) for label, model in models
        )
    ]


def unapplied_migrations(migrations: Mapping[Key, Any], applied: Collection[Key]) -> set[Key]:
    """Return the migrations that ``manage.py migrate`` would apply.

    A migration that replaces others (a squashed one) is applied when all of these are applied. If only
    some of them are applied, the others are still needed, and the replacement is not.

    Args:
        migrations: All migrations of the project.
        applied: The migrations that a database has recorded.
    """
    found = set(applied) & migrations.keys()
    needed = set(migrations)
    # A replacement can be replaced by another one. The inner one comes first.
    replacements = [key for key in migrations if migrations[key].replaces]
    for key in sorted(replacements, key=lambda key: _depth(key, migrations)):
        replaced = [tuple(each) for each in migrations[key].replaces]
        states = [each in found or each in applied for each in replaced]
        if all(states):
            found.add(key)
        else:
            found.discard(key)
        if all(states) or not any(states):
            needed.difference_update(replaced)
        else:
            needed.discard(key)
    return needed - found


def _depth(key: Key, migrations: Mapping[Key, Any]) -> int:
    migration = migrations.get(key)
    if migration is None or not migration.replaces:
        return 0
    return 1 + max(_depth(tuple(each), migrations) for each in migration.replaces)


def _read_applied(alias: str) -> set[Key]:
    """Return the migrations that a database has recorded; none if it has no table of migrations."""
    connection = connections[alias]  # of this thread
    try:
        return set(MigrationRecorder(connection).applied_migrations())
    finally:
        connection.close()


def tick() -> None:
    """Start the readings that are due. Called once a second in a process with shared values."""
    for state in list(_running):
        state.tick()


_running: list[MigrationState] = []


def _wait_for_readings() -> None:
    for state in _running:
        state.wait(_FORK_SECONDS)


def _forget_threads() -> None:
    for state in _running:
        state.forget_thread()


at_fork(before=_wait_for_readings, after_in_child=_forget_threads)
