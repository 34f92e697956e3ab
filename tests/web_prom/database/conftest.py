"""Fixtures for the tests of databases: a measured application, and engines of SQLAlchemy."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from prometheus_client import CollectorRegistry

from tests.web_prom.database.support import Shop


@pytest.fixture
def shop(registry: CollectorRegistry) -> Shop:
    """Return a measured WSGI application whose requests do what a test tells them."""
    return Shop(registry)


MakeEngine = Callable[..., Any]


@pytest.fixture
def make_engine(tmp_path: Path) -> Iterator[MakeEngine]:
    """Return a function that creates an engine of SQLAlchemy for a SQLite file. It is disposed at the end."""
    engines = []

    def make(name: str = "shop.db", **options: Any) -> Any:
        engines.append(sqlalchemy.create_engine(f"sqlite:///{tmp_path / name}", **options))
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


@pytest.fixture
def engine(make_engine: MakeEngine, tmp_path: Path) -> Any:
    """Return an engine that was not used, for a database with a table `item` that has two rows."""
    with contextlib.closing(sqlite3.connect(tmp_path / "shop.db")) as connection, connection:
        connection.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, price INTEGER UNIQUE)")
        connection.execute("INSERT INTO item (price) VALUES (1), (2)")
    return make_engine()
