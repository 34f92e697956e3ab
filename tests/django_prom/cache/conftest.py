"""Fixtures for the tests of the measurement of caches."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.core.cache import caches
from django.test import override_settings
from prometheus_client import CollectorRegistry

from tests.django_prom.cache.project import DUMMY, LOCMEM, Measured, configured_caches


@pytest.fixture
def measured(registry: CollectorRegistry) -> Iterator[Measured]:
    """Switch PROM_CACHE on, and give the project three caches."""
    with override_settings(CACHES=configured_caches(other=LOCMEM, dummy=DUMMY), PROM_CACHE=True):
        yield Measured(registry)
        for cache in caches.all():
            cache.clear()
