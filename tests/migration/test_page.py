"""docs/how-to/migrating.rst names every metric and every setting of the four libraries."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_fastapi_instrumentator import Instrumentator
from prometheus_flask_exporter import PrometheusMetrics
from starlette_exporter import PrometheusMiddleware

from tests.migration import compare, test_fastapi_instrumentator, test_flask_exporter
from tests.migration.test_django_prometheus import RELEASE
from tests.sdists import fetch_sdist

PAGE = compare.PAGE.read_text("utf-8")

NAMES = {*re.findall(r"\w+", " ".join(re.findall(r"``([^`]+)``", PAGE)))}


def arguments(*functions: Callable[..., Any]) -> set[str]:
    """Return the names of the arguments of functions, without the application."""
    names = {name for function in functions for name in inspect.signature(function).parameters}
    return names - {"self", "app", "kwargs", "args"}


@pytest.mark.parametrize(
    "functions",
    [
        (PrometheusMetrics.__init__,),
        (PrometheusMiddleware.__init__,),
        (Instrumentator.__init__, Instrumentator.instrument),
    ],
)
def test_page_names_each_argument(functions: tuple[Callable[..., Any], ...]) -> None:
    assert arguments(*functions) - NAMES == set()


def test_page_names_each_setting_of_django_prometheus(request: pytest.FixtureRequest) -> None:
    folder = fetch_sdist("django-prometheus", request, RELEASE)
    sources = [path.read_text("utf-8") for path in (folder / "django_prometheus").rglob("*.py")]
    found = {name for text in sources for name in re.findall(r'settings, "(PROMETHEUS_\w+)"', text)}
    read = {name for text in sources for name in re.findall(r"settings\.(PROMETHEUS_\w+)", text)}
    assert found | read
    assert (found | read) - NAMES == set()


def test_page_names_each_metric_of_django_prometheus(request: pytest.FixtureRequest) -> None:
    folder = fetch_sdist("django-prometheus", request, RELEASE)
    text = "".join(path.read_text("utf-8") for path in _modules(folder / "django_prometheus"))
    metrics = set(re.findall(r'"(django_(?:http|db|cache|model|migrations)_\w+)"', text))
    assert len(metrics) > 30
    assert {name for name in metrics if not {name, f"{name}_total"} & NAMES} == set()


def test_page_names_each_metric_of_flask_exporter_and_the_instrumentator() -> None:
    reports = (test_flask_exporter.theirs(), test_fastapi_instrumentator.theirs({}))
    names = {name for report in reports for name in report.types}
    assert {name for name in names if not {name, f"{name}_total"} & NAMES} == set()


def _modules(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.py") if "tests" not in path.parts]
