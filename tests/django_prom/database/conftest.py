"""Fixtures for the tests of the measurement of databases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings
from prometheus_client import CollectorRegistry

from tests.django_prom.database.project import Measured, use_databases


@pytest.fixture
def measured(registry: CollectorRegistry, django_db_blocker: Any) -> Iterator[Measured]:
    """Switch PROM_DATABASE on, and give the project a SQLite database in memory, and a second one."""
    with django_db_blocker.unblock(), use_databases(replica={}), override_settings(PROM_DATABASE=True):
        yield Measured(registry)
