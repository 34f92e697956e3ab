"""Databases of the test project: connections with other settings, and what was measured of them."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from asgiref.local import Local
from django.db import connections, models
from prometheus_client import CollectorRegistry

SQLITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}


class Order(models.Model):  # type: ignore[misc]
    """A model of no app."""

    number = models.IntegerField(unique=True)

    class Meta:
        app_label = "orders"

    def __str__(self) -> str:
        return str(self.number)


@contextlib.contextmanager
def use_databases(**databases: dict[str, Any]) -> Iterator[None]:
    """Let the project have these databases, none of them connected. Close their connections at the end.

    Args:
        **databases: The entries of DATABASES by alias. What an entry lacks is that of a SQLite database in
            memory. There is always a default database.
    """
    kept = vars(connections).copy()
    entries = {alias: {**SQLITE, **entry} for alias, entry in {"default": {}, **databases}.items()}
    connections.settings = connections.configure_settings(entries)
    connections._connections = Local(connections.thread_critical)
    try:
        yield
    finally:
        for connection in connections.all(initialized_only=True):
            driver_connection, connection.connection = connection.connection, None
            connection.in_atomic_block = False
            if driver_connection is not None:
                driver_connection.close()
        vars(connections).update({"settings": kept.get("settings"), "_connections": kept["_connections"]})
        if "settings" not in kept:
            del connections.settings


class Measured:
    """What was measured.

    Args:
        registry: The registry of the project.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def samples(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Return the sums of a family by the values of some labels, without those that are 0."""
        found: Counter[tuple[str, ...]] = Counter()
        for family in self._registry.collect():
            for sample in family.samples:
                if sample.name == name:
                    found[tuple(sample.labels[label] for label in labels)] += sample.value  # type: ignore[assignment]
        return {key: float(value) for key, value in found.items() if value}

    def operations(self, *labels: str) -> dict[tuple[str, ...], float]:
        """Return the numbers of operations by some labels, by default by operation and error."""
        by = labels or ("db_operation_name", "error_type")
        return self.samples("db_client_operation_duration_seconds_count", *by)

    def queries(self) -> dict[tuple[str, ...], float]:
        """Return the numbers of queries by route."""
        return self.samples("http_request_db_queries_total", "route")

    def repeated(self) -> dict[tuple[str, ...], float]:
        """Return the numbers of repeated queries by route."""
        return self.samples("http_request_db_repeated_queries_total", "route")

    def connections(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Return a family of connections by alias and further labels."""
        return self.samples(f"db_client_connection_{name}", "db_client_connection_pool_name", *labels)

    def errors(self) -> dict[tuple[str, ...], float]:
        """Return the errors of the instrumentation."""
        return self.samples("web_prom_instrumentation_errors_total", "stage")


def ask(sql: str = "SELECT 1", params: Any = None, using: str = "default") -> Any:
    """Execute a query and return its first row."""
    with connections[using].cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchone()


def create_orders(*numbers: int, using: str = "default") -> None:
    """Create the table of orders with these rows."""
    with connections[using].schema_editor() as editor:
        editor.create_model(Order)
    Order.objects.using(using).bulk_create([Order(number=number) for number in numbers])
