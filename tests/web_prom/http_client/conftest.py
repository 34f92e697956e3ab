"""Fixtures for the tests of outgoing requests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom.http_client.support import Server, serving
from web_prom.config import Config
from web_prom.http_client import activation, patches
from web_prom.http_client.recorder import CallRecorder
from web_prom.http_client.targets import ProcessTargets
from web_prom.metrics.recorder import Recorder


@pytest.fixture
def server() -> Iterator[Server]:
    """Return a server with an empty log."""
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Restore the classes of the libraries after each test."""
    yield
    patches.restore_methods()
    ProcessTargets._candidates.clear()
    ProcessTargets.choose()


@pytest.fixture
def measured(registry: CollectorRegistry) -> CallRecorder:
    """Measure all requests of the process in the registry of the test."""
    return activation.activate(Recorder(Config(), registry))
