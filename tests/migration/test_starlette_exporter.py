"""starlette-exporter and PROM_NAMING = "starlette-exporter" on the same traffic."""

from __future__ import annotations

from functools import partial
from typing import Any

import prometheus_client
import pytest
import starlette_exporter
from prometheus_client import CollectorRegistry
from starlette_exporter import optional_metrics

from tests.migration import asgi_app, compare
from tests.migration.compare import Difference, Report, assert_equal, like_ours, rename
from web_prom.asgi import PrometheusMiddleware

UNKNOWN_URLS = Difference(
    "Unknown URLs", like_ours(lambda _name, labels: labels.get("path") == "__unknown__")
)
OTHER_METHODS = Difference("Unknown methods", rename("method", {"PURGE": "_OTHER"}))
ZEROS = Difference("Errors at 0", compare.zeros)
ROUTE_OF_405 = Difference(
    "Route of a 405", like_ours(lambda _name, labels: labels.get("status_code") == "405")
)
SIZES = Difference("Sizes of bodies", like_ours(lambda name, _labels: name.endswith("_body_bytes_total")))
DIFFERENCES = (UNKNOWN_URLS, ROUTE_OF_405, OTHER_METHODS, ZEROS)


@pytest.fixture(autouse=True)
def their_registry(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    """Give the library a registry of its own. It has no argument for that."""
    registry = CollectorRegistry()
    module = starlette_exporter.middleware
    for name in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(module, name, partial(getattr(prometheus_client, name), registry=registry))
    monkeypatch.setattr(module.PrometheusMiddleware, "_metrics", {})
    return registry


def theirs(registry: CollectorRegistry, **options: Any) -> Report:
    app = asgi_app.create_app()
    app.add_middleware(starlette_exporter.PrometheusMiddleware, skip_paths=[asgi_app.EXCLUDED], **options)
    asgi_app.send(app)
    return compare.read(registry)


def ours(**options: Any) -> Report:
    app, registry = asgi_app.create_app(), CollectorRegistry()
    PrometheusMiddleware.install(
        app, registry=registry, naming="starlette-exporter", exclude=[asgi_app.EXCLUDED], **options
    )
    asgi_app.send(app)
    return compare.read(registry)


@pytest.mark.parametrize(
    ("their_options", "our_options"),
    [
        ({}, {}),
        ({"prefix": "shop"}, {"namespace": "shop"}),
        ({"app_name": "shop"}, {"constant_labels": {"app_name": "shop"}}),
        ({"buckets": (0.1, 1, 10)}, {"duration_buckets": (0.1, 1, 10)}),
        ({"labels": {"zone": "a"}}, {"constant_labels": {"zone": "a"}}),
        (
            {"optional_metrics": optional_metrics.all_metrics},
            {"request_size": True, "response_size": True},
        ),
    ],
)
def test_families_are_those_of_the_library(
    their_options: dict[str, Any], our_options: dict[str, Any], their_registry: CollectorRegistry
) -> None:
    differences = [*DIFFERENCES, SIZES] if "optional_metrics" in their_options else DIFFERENCES
    assert_equal(theirs(their_registry, **their_options), ours(**our_options), differences)
