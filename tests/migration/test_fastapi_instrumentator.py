"""prometheus-fastapi-instrumentator and PROM_NAMING = "fastapi-instrumentator" on the same traffic."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_fastapi_instrumentator import Instrumentator

from tests.migration import asgi_app, compare
from tests.migration.compare import Difference, Report, assert_equal, like_ours, rename
from web_prom.asgi import PrometheusMiddleware

OTHER_METHODS = Difference("Unknown methods", rename("method", {"PURGE": "_OTHER"}))
ZEROS = Difference("Errors at 0", compare.zeros)
SIZES = Difference("Sizes of bodies", like_ours(lambda name, _labels: name.endswith("_size_bytes_sum")))
DIFFERENCES = (OTHER_METHODS, ZEROS, SIZES)


def theirs(arguments: dict[str, Any], **options: Any) -> Report:
    app, registry = asgi_app.create_app(), CollectorRegistry()
    Instrumentator(excluded_handlers=[f"^{asgi_app.EXCLUDED}$"], registry=registry, **arguments).instrument(
        app, **options
    )
    asgi_app.send(app)
    return compare.read(registry)


def ours(**options: Any) -> Report:
    app, registry = asgi_app.create_app(), CollectorRegistry()
    PrometheusMiddleware.install(
        app, registry=registry, naming="fastapi-instrumentator", exclude=[asgi_app.EXCLUDED], **options
    )
    asgi_app.send(app)
    return compare.read(registry)


@pytest.mark.parametrize(
    ("arguments", "their_options", "our_options"),
    [
        ({}, {}, {}),
        ({}, {"metric_namespace": "shop", "metric_subsystem": "web"}, {"namespace": "shop_web"}),
        ({}, {"latency_lowr_buckets": (0.2, 2)}, {"duration_buckets": (0.2, 2)}),
        ({"should_group_status_codes": False}, {}, {"status_classes": False}),
    ],
)
def test_families_are_those_of_the_library(
    arguments: dict[str, Any], their_options: dict[str, Any], our_options: dict[str, Any]
) -> None:
    assert_equal(theirs(arguments, **their_options), ours(**our_options), DIFFERENCES)
