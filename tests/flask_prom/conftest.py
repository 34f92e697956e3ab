"""Fixtures for the tests of the Flask extension."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from prometheus_client import CollectorRegistry

from flask_prom import FlaskProm

Samples = dict[tuple[str, ...], float]


class Metrics:
    """Reads samples from a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

    def __call__(self, name: str, **labels: str) -> float | None:
        """Return the value of one sample."""
        return self.registry.get_sample_value(name, labels)

    def by_labels(self, name: str, *labels: str) -> Samples:
        """Return the values of all samples of a name, by the values of some labels."""
        return {
            tuple(sample.labels[label] for label in labels): sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == name
        }

    @property
    def requests(self) -> Samples:
        """``http_requests_total`` by method, route and status."""
        return self.by_labels("http_requests_total", "method", "route", "status")

    @property
    def exceptions(self) -> Samples:
        """``http_request_exceptions_total`` by method, route and exception."""
        return self.by_labels("http_request_exceptions_total", "method", "route", "exception")

    def seconds(self, route: str, method: str = "GET") -> float | None:
        """Return the sum of the durations of a route."""
        return self("http_request_duration_seconds_sum", method=method, route=route)

    def timed(self, route: str, method: str = "GET") -> float | None:
        """Return the number of durations of a route."""
        return self("http_request_duration_seconds_count", method=method, route=route)

    @property
    def in_progress(self) -> float | None:
        """``http_requests_in_progress``."""
        return self("http_requests_in_progress")

    @property
    def errors(self) -> Samples:
        """``web_prom_instrumentation_errors_total`` by stage."""
        return self.by_labels("web_prom_instrumentation_errors_total", "stage")


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return a new registry."""
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    """Return a reader of the test's registry."""
    return Metrics(registry)


MakeApp = Callable[..., Flask]


@pytest.fixture
def make_app(registry: CollectorRegistry) -> MakeApp:
    """Return a factory of measured applications, which handle errors as in production."""

    def make(name: str = "shop", **options: Any) -> Flask:
        app = Flask(name)
        app.config["PROPAGATE_EXCEPTIONS"] = False
        FlaskProm(app, registry=registry, **options)
        return app

    return make
