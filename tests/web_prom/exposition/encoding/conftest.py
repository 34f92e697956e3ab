"""Fixtures for the tests of encoding."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return a registry with an instrument of each kind."""
    registry = CollectorRegistry()
    orders = Counter("orders", "Help.", ["customer", "payment"], registry=registry)
    line = Gauge("line", "Help.", ["site"], registry=registry)
    took = Histogram("took_seconds", "Help.", ["route"], registry=registry, unit="seconds")
    size = Summary("size", "Help.", ["route"], registry=registry)
    for number in range(1500):
        orders.labels(f"customer-{number}", 'by "card"').inc(number)
    for number in range(100):
        line.labels(f"site-{number}").set(number / 7)
        took.labels(f"/{number}").observe(number)
        size.labels(f"/{number}").observe(number)
    Counter("plain", "Help.", registry=registry).inc()
    return registry
