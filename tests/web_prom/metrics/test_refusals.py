"""Other exporters in the same process whose metrics have names of web-prom."""

from __future__ import annotations

import importlib.util
import logging
import textwrap
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary

from tests.web_prom.support import hello, python, requests, serve
from web_prom import ConflictError, PrometheusMiddleware

pytestmark = pytest.mark.slow


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return a new registry for the test."""
    return CollectorRegistry()


def other_metric(registry: CollectorRegistry) -> Counter:
    """Create a metric as another exporter does."""
    return Counter("http_requests_total", "Theirs.", ["handler", "method"], registry=registry)


def test_fault_93_conflict_error_if_the_other_metric_is_first(registry: CollectorRegistry) -> None:
    """The message names the solution."""
    other_metric(registry)
    with pytest.raises(ConflictError, match="PROM_NAMESPACE"):
        PrometheusMiddleware(hello, registry=registry)


def test_fault_93_warning_if_the_other_metric_is_refused(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once for each name, also if the exporter ignores the error."""
    app = PrometheusMiddleware(hello, registry=registry)
    with caplog.at_level(logging.WARNING, "web_prom"):
        Counter("own_total", "Help.", registry=registry)
        with pytest.raises(ValueError, match="Duplicated"):
            Counter("own_total", "Help.", registry=registry)
        assert caplog.messages == []
        for _ in range(2):
            with pytest.raises(ValueError, match="Duplicated"):
                other_metric(registry)
    (message,) = caplog.messages
    assert "http_requests" in message
    assert "PROM_NAMESPACE" in message
    serve(app)
    assert requests(registry) == {("GET", "_unmatched", "200"): 1}


def test_fault_93_no_warning_with_a_namespace(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    PrometheusMiddleware(hello, registry=registry, namespace="shop")
    other_metric(registry)
    assert caplog.messages == []


@pytest.mark.parametrize("ours_first", [False, True])
def test_fault_93_warning_for_two_registries_with_one_directory(
    shared: Path, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture, ours_first: bool
) -> None:
    def ours() -> None:
        serve(PrometheusMiddleware(hello, registry=registry))

    def others() -> None:
        other_metric(CollectorRegistry()).labels("/", "GET").inc()

    for make in (ours, others) if ours_first else (others, ours):
        make()
        make()
    (message,) = [message for message in caplog.messages if "two instruments" in message]
    assert "http_requests," in message
    assert "handler, method" in message
    assert "PROM_NAMESPACE" in message


def test_fault_93_no_warning_for_equal_definitions(shared: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two applications have two registries with equal families. Other names cause no warning."""
    for _ in range(2):
        registry = CollectorRegistry()
        serve(PrometheusMiddleware(hello, registry=registry))
        for kind in (Counter, Gauge, Histogram, Summary):
            kind(f"own_{kind.__name__}", "Help.", ["label"], registry=registry).labels("x")
            kind(f"bare_{kind.__name__}", "Help.", registry=registry)
    assert caplog.messages == []


LOGGED = (
    "import logging, sys, warnings; logging.basicConfig(stream=sys.stdout); warnings.simplefilter('ignore')\n"
)
PEERS = {
    "prometheus_flask_exporter, ours first": """
        from flask import Flask
        from flask_prom import FlaskProm
        from prometheus_flask_exporter import PrometheusMetrics, NO_PREFIX
        app = Flask("shop")
        FlaskProm(app)
        try:
            PrometheusMetrics(app, defaults_prefix=NO_PREFIX)
        except ValueError as error:
            print("ValueError", error)
        """,
    "prometheus_fastapi_instrumentator, ours first": """
        from fastapi import FastAPI
        from fastapi.testclient import TestClient
        from prometheus_fastapi_instrumentator import Instrumentator
        from web_prom.asgi import PrometheusMiddleware
        app = FastAPI()
        Instrumentator().instrument(app).expose(app, endpoint="/theirs")
        app = PrometheusMiddleware(app)
        with TestClient(app) as client:
            print(client.get("/theirs").status_code)
        """,
    "starlette_exporter, ours first": """
        from fastapi import FastAPI
        from fastapi.testclient import TestClient
        import starlette_exporter
        from web_prom.asgi import PrometheusMiddleware
        app = FastAPI()
        app.add_middleware(starlette_exporter.PrometheusMiddleware, prefix="http")
        app = PrometheusMiddleware(app)
        try:
            with TestClient(app) as client:
                print(client.get("/").status_code)
        except ValueError as error:
            print("ValueError", error)
        """,
}


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("shares", [False, True])
def test_fault_93_warning_with_real_exporters(peer: str, shares: bool, tmp_path: Path) -> None:
    """All metrics are in one registry, in a new process."""
    if importlib.util.find_spec(peer.partition(",")[0]) is None:
        pytest.skip("not for these versions")
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)} if shares else {}
    text = python(LOGGED + textwrap.dedent(PEERS[peer]), **environ)
    assert text.count("PROM_NAMESPACE") >= 1, text
