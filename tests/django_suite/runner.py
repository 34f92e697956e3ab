"""The test runner of Django that can measure the caches, and that writes the result of each test to a file.

The environment variables of a run:

``SUITE_CACHES``
    Further entries of CACHES, as JSON.
``SUITE_MEASURED``
    Whether web-prom measures the caches.
``SUITE_CLOCK``
    Whether ``time.sleep`` moves a clock in the place of waiting. It must be empty for a cache server.
``SUITE_REPORT``
    The file: the outcome of each test, and what was measured.
"""

from __future__ import annotations

import json
import os
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import TextTestResult

from django.core.cache.backends import db
from django.test.runner import DiscoverRunner
from prometheus_client import REGISTRY


class Result(TextTestResult):
    """The result of a run, with the outcome of each test."""

    outcomes: dict[str, str]

    def startTestRun(self) -> None:
        """Start with no outcome."""
        super().startTestRun()
        self.outcomes = {}

    def addSuccess(self, test: Any) -> None:
        """Keep the outcome."""
        super().addSuccess(test)
        self.outcomes[test.id()] = "passed"

    def addSkip(self, test: Any, reason: str) -> None:
        """Keep the outcome."""
        super().addSkip(test, reason)
        self.outcomes[test.id()] = f"skipped: {reason}"

    def addFailure(self, test: Any, err: Any) -> None:
        """Keep the outcome."""
        super().addFailure(test, err)
        self.outcomes[test.id()] = f"failed: {err[1]!r}"

    def addError(self, test: Any, err: Any) -> None:
        """Keep the outcome."""
        super().addError(test, err)
        self.outcomes[test.id()] = f"error: {err[1]!r}"

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        """Keep the outcome of a failure."""
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.outcomes[subtest.id()] = f"failed: {err[1]!r}"


class Runner(DiscoverRunner):  # type: ignore[misc]
    """The runner."""

    def get_resultclass(self) -> type[Result]:
        """Return the class of the result."""
        return Result

    def run_suite(self, suite: Any, **kwargs: Any) -> Any:
        """Run the tests and write the report."""
        if os.environ["SUITE_CLOCK"]:
            _use_clock()
        if os.environ["SUITE_MEASURED"]:
            from django_prom import caches, conf

            conf.instrumentation()
            caches.install()
        result = super().run_suite(suite, **kwargs)
        report = {"outcomes": result.outcomes, "samples": _samples()}
        Path(os.environ["SUITE_REPORT"]).write_text(json.dumps(report), "utf-8")
        return result


def _use_clock() -> None:
    read, offset = time.time, [0.0]

    def sleep(seconds: Any) -> None:
        offset[0] += seconds

    def now(*args: Any, **kwargs: Any) -> datetime:
        moved: datetime = tz_now(*args, **kwargs) + timedelta(seconds=offset[0])
        return moved

    tz_now, db.tz_now = db.tz_now, now
    time.time = lambda: read() + offset[0]
    time.sleep = sleep


def _samples() -> list[tuple[str, dict[str, str], float]]:
    families = [family for family in REGISTRY.collect() if family.name.startswith(("cache_", "web_prom_"))]
    return [(each.name, each.labels, each.value) for family in families for each in family.samples]
