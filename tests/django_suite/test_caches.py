"""Django's own tests of caches, from the source distribution of the installed release.

They run with and without the measurement, and each test must have the same result.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests import interpreters
from tests.sdists import fetch_sdist
from tests.servers.caches import Memcached, Redis
from tests.web_prom.support import ROOT

BACKENDS = "django.core.cache.backends"
RUNS: dict[str, tuple[str, str, Any]] = {
    "local": ("cache", "", None),
    "redis": ("cache.tests.RedisCacheTests", f"{BACKENDS}.redis.RedisCache", Redis),
    "pymemcache": ("cache.tests.PyMemcacheCacheTests", f"{BACKENDS}.memcached.PyMemcacheCache", Memcached),
}
if find_spec("pylibmc"):  # it has no wheels for newer Pythons
    RUNS["pylibmc"] = ("cache.tests.PyLibMCCacheTests", f"{BACKENDS}.memcached.PyLibMCCache", Memcached)


class Run:
    """A run of Django's tests, which goes on while the test does something else."""

    def __init__(self, suite: Path, report: Path, label: str, caches: Any, *, measured: bool) -> None:
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("PROM", "DJANGO"))}
        self._report = report
        self._process = interpreters.Popen(
            [
                sys.executable,
                "runtests.py",
                label,
                "--settings=tests.django_suite.cache_settings",
                "--parallel=1",
            ],
            cwd=suite,
            env={
                **environ,
                "PYTHONPATH": str(ROOT),
                "SUITE_CACHES": json.dumps(caches),
                "SUITE_MEASURED": "1" if measured else "",
                "SUITE_CLOCK": "" if caches else "1",
                "SUITE_REPORT": str(report),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def result(self) -> tuple[dict[str, str], list[Any]]:
        """Return the outcome of each test, and what was measured."""
        output, _ = self._process.communicate()
        assert self._report.exists(), output
        report = json.loads(self._report.read_text("utf-8"))
        return report["outcomes"], report["samples"]


@pytest.mark.parametrize("name", RUNS)
def test_django_tests_have_the_same_results(
    tmp_path: Path, request: pytest.FixtureRequest, name: str
) -> None:
    suite = fetch_sdist("django", request) / "tests"
    label, backend, server = RUNS[name]
    with ExitStack() as stack:
        runs = []
        for mode in ("plain", "measured"):
            caches = {}
            if server is not None:
                location = stack.enter_context(server()).location
                caches = {"server": {"BACKEND": backend, "LOCATION": location}}
            runs.append(Run(suite, tmp_path / mode, label, caches, measured=mode == "measured"))
        (plain, nothing), (measured, samples) = [run.result() for run in runs]
    assert measured == plain
    assert Counter(outcome.split(":")[0] for outcome in plain.values())["passed"] > 50
    assert not [outcome for outcome in plain.values() if outcome.startswith(("failed", "error"))]
    assert nothing == []
    counted = {
        (labels["operation"], labels["result"])
        for name, labels, _ in samples
        if name == "cache_operations_total"
    }
    assert {("get", "hit"), ("get", "miss"), ("get_many", "hit"), ("incr", "ok"), ("clear", "ok")} <= counted
    assert not [sample for sample in samples if sample[0] == "web_prom_instrumentation_errors_total"]
