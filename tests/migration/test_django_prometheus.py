"""django-prometheus and PROM_NAMING = "django-prometheus" on the same traffic, each in its own process."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import interpreters
from tests.migration import compare
from tests.migration.compare import Difference, Report, Samples, assert_equal, like_ours, rename
from tests.sdists import fetch_sdist

pytestmark = pytest.mark.slow  # the tests start processes

ROOT = Path(__file__).parents[2]
RELEASE = "2.5.0"

LATENCY = "django_http_requests_latency_seconds_by_view_method"


def _timed_once(samples: Samples, _ours: Samples) -> Samples:
    """Take back the second observations of the two requests whose views raised."""
    return {
        (name, labels): value - (name.endswith(f"{LATENCY}_count") and _raised(dict(labels)))
        for (name, labels), value in samples.items()
    }


def _raised(labels: Mapping[str, str]) -> bool:
    return labels["method"] == "GET" and labels["view"] in ("error", "item")


DIFFERENCES = (
    Difference("Views that raise", _timed_once),
    Difference(
        "Unknown methods",
        rename("method", {"PURGE": "<invalid method>"}, only=lambda name: LATENCY in name),
    ),
    Difference("Sizes of bodies", like_ours(lambda name, _labels: "_body_total_bytes" in name)),
    Difference("Errors at 0", compare.zeros),
    Difference("Names of models", rename("model", {"order": "orders.Order"})),
    Difference("Calls of executemany", like_ours(lambda name, _labels: name.endswith("db_execute_total"))),
)


@pytest.fixture(scope="session")
def their_path(request: pytest.FixtureRequest) -> Path:
    """The folder of django-prometheus.

    It is not installed: its releases do not allow each Django that the tests run with.
    """
    return fetch_sdist("django-prometheus", request, RELEASE)


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite database."""
    path = tmp_path_factory.mktemp("django") / "database.sqlite3"
    run("migrate", path)
    return path


def run(mode: str, database: Path, path: Path = ROOT, **settings: Any) -> Report:
    if mode != "migrate":  # each run changes a copy
        database = Path(shutil.copy(database, database.with_name(f"{mode}.sqlite3")))
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PROM")}
    finished = interpreters.run(
        (sys.executable, "-m", "tests.migration.django_run", mode, str(database), json.dumps(settings)),
        cwd=ROOT,
        env={**environ, "PYTHONPATH": str(path), "DJANGO_SETTINGS_MODULE": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return compare.read(finished.stdout)


THEIR_SETTINGS: dict[str, Any] = {"PROMETHEUS_EXPORT_MIGRATIONS": True}
OUR_SETTINGS: dict[str, Any] = {
    "PROM_NAMING": "django-prometheus",
    "PROM_DATABASE": True,
    "PROM_CACHE": True,
    "PROM_MIGRATIONS": True,
    "PROM_MODELS": ["orders.Order"],
}


@pytest.mark.parametrize(
    ("their_settings", "our_settings"),
    [
        ({}, {}),
        (
            {"PROMETHEUS_METRIC_NAMESPACE": "shop", "PROMETHEUS_LATENCY_BUCKETS": [0.1, 1, 10]},
            {"PROM_NAMESPACE": "shop", "PROM_DURATION_BUCKETS": [0.1, 1, 10]},
        ),
    ],
)
def test_families_are_those_of_the_library(
    their_settings: dict[str, Any], our_settings: dict[str, Any], their_path: Path, database: Path
) -> None:
    theirs = run("theirs", database, their_path, **THEIR_SETTINGS, **their_settings)
    ours = run("ours", database, **OUR_SETTINGS, **our_settings)
    prefix = "shop_" if their_settings else ""
    assert_equal(theirs, ours, DIFFERENCES, missing=[f"{prefix}django_db_execute_many"])
