"""The module ``unittest_helper`` of prometheus-flask-exporter's tests, which its archive does not contain.

A plugin for the pytest process that runs these tests.
"""

from __future__ import annotations

import re
import sys
import unittest
from importlib.metadata import version
from typing import Any

import flask
from prometheus_client import CollectorRegistry


class BaseTestCase(unittest.TestCase):
    """The base class of the library's tests, by the names that they use."""

    def setUp(self) -> None:
        """Create an application."""
        self.app = flask.Flask(__name__)
        self.app.testing = True
        self.client = self.app.test_client()

    def metrics(self, **arguments: Any) -> Any:
        """Instrument the application with a registry of its own."""
        from prometheus_flask_exporter import PrometheusMetrics  # the library, or what is in its place

        arguments.setdefault("registry", CollectorRegistry(auto_describe=True))
        return PrometheusMetrics(self.app, **arguments)

    def assertMetric(
        self, name: str, value: object, *labels: tuple[str, object], endpoint: str = "/metrics"
    ) -> None:
        """Assert that there is one sample with these labels. Its value matches a regular expression."""
        lines = [line for line in self._lines(endpoint) if _matches(line, name, labels)]
        assert len(lines) == 1, (name, labels)
        assert re.match(str(value), lines[0].rsplit(" ", 1)[1]), lines

    def assertAbsent(self, name: str, *labels: tuple[str, object], endpoint: str = "/metrics") -> None:
        """Assert that there is no sample with these labels."""
        found = [line for line in self._lines(endpoint) if _matches(line, name, labels)]
        assert found == []

    def assumeMinimumFlaskVersion(self, release: str) -> None:
        """Skip the test under an older Flask."""
        if _release(version("flask")) < _release(release):
            self.skipTest(f"needs Flask {release}")

    def assumeBeforeFlaskVersion(self, release: str) -> None:
        """Skip the test under a newer Flask."""
        if _release(version("flask")) >= _release(release):
            self.skipTest(f"needs a Flask before {release}")

    def _lines(self, endpoint: str) -> list[str]:
        response = self.client.get(endpoint)
        assert response.status_code == 200
        return response.text.splitlines()


def _release(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", release)[:3])


def _matches(line: str, name: str, labels: tuple[tuple[str, object], ...]) -> bool:
    found = re.fullmatch(rf"{re.escape(name)}(?:\{{(.*)\}})? \S+", line)
    if found is None:
        return False
    present = set(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found.group(1) or ""))
    return present == {(key, str(value)) for key, value in labels}


sys.modules["unittest_helper"] = sys.modules[__name__]
