"""Fixtures for the tests of the measurement of databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import override_settings
from prometheus_client import CollectorRegistry

from tests.django_prom.database.project import Measured, use_databases


@pytest.fixture
def measured(registry: CollectorRegistry) -> Iterator[Measured]:
    """Switch PROM_DATABASE on, and give the project a SQLite database in memory, and a second one."""
    with use_databases(replica={}), override_settings(PROM_DATABASE=True):
        yield Measured(registry)
