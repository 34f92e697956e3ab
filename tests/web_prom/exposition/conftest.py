"""Fixtures for the tests of scrapes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary

from tests.web_prom.support import hello, serve
from web_prom import PrometheusMiddleware


@pytest.fixture
def filled(registry: CollectorRegistry) -> CollectorRegistry:
    """Return the registry with an instrument of each type, a custom collector, and a measured request."""
    Counter("shop_orders", "Orders.", ["site"], registry=registry).labels('a"b\\c\nd').inc(
        2, {"trace_id": "x"}
    )
    Gauge("shop_baskets", "Help with \\ and\nnewline.", registry=registry).set(-0.5)
    Histogram("shop_time_seconds", "Help.", unit="seconds", registry=registry).observe(0.3)
    Summary("shop_size", "Help.", ["site"], registry=registry).labels("größe").observe(7)
    Info("shop_build", "Help.", registry=registry).info({"version": "1"})
    Enum("shop_state", "Help.", states=["on", "off"], registry=registry).state("off")

    class Custom:
        def collect(self) -> Iterable[Any]:
            family = prometheus_client.metrics_core.UntypedMetricFamily("shop_custom", "Help.", labels=["a"])
            family.add_metric(["x"], float("nan"), timestamp=1700000000.5)
            family.add_metric(["y"], float("inf"))
            yield family

    registry.register(Custom())
    serve(PrometheusMiddleware(hello, registry=registry))
    return registry
