"""Databases for a test in the process of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.db import connections


@contextmanager
def sqlite_databases(folder: Path, *aliases: str) -> Iterator[None]:
    """Replace the databases of the project with files of SQLite."""
    before = connections.settings
    databases: dict[str, Any] = {
        alias: {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / f"{alias}.sqlite3")}
        for alias in aliases
    }
    _forget_connections()
    connections.settings = connections.configure_settings(databases)
    try:
        yield
    finally:
        _forget_connections()
        connections.settings = before


def _forget_connections() -> None:
    for connection in connections.all(initialized_only=True):
        connection.close()
        del connections[connection.alias]


def create_tables(alias: str, *models: Any) -> None:
    """Create the tables of models without migrations."""
    with connections[alias].schema_editor() as editor:
        for model in models:
            editor.create_model(model)
