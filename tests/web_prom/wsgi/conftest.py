"""Fixtures for the tests of the WSGI middleware."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom.support import App
from web_prom import PrometheusMiddleware


@pytest.fixture
def measure(registry: CollectorRegistry) -> Callable[..., PrometheusMiddleware]:
    """Return a function that wraps an application so that the test's registry measures it."""

    def wrap(app: App, **options: Any) -> PrometheusMiddleware:
        return PrometheusMiddleware(app, registry=registry, **options)

    return wrap
