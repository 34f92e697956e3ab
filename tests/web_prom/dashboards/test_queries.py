"""Every query parses, and uses only the names and labels of the tables."""

from __future__ import annotations

import importlib
import re
from typing import Any

import promql_parser
import pytest

from tests.web_prom.dashboards.queries import EXAMPLE, Asked, interpolate, queries, selected
from web_prom import family_names
from web_prom.cache import conventions as cache
from web_prom.dashboards import DASHBOARDS, DashboardOptions, build_dashboard
from web_prom.dashboards.options import DASHBOARD_NAMINGS
from web_prom.database import conventions as database
from web_prom.http_client import conventions as calls
from web_prom.metrics import conventions
from web_prom.metrics.conventions import MetricSpec, Naming
from web_prom.templates.render_times import RENDER_TIME

OF_PROMETHEUS = {"up", "scrape_duration_seconds"}
OF_TARGETS = {"job", "instance"}
HISTOGRAM = {"_bucket", "_count", "_sum"}
# The labels of families that are in no table of labels.
OTHER_LABELS = {"worker", "listener", "generation", "model", "operation", "db_namespace"}


def all_specs(naming: Naming) -> list[MetricSpec]:
    """Return the families of a naming and those of all tables."""
    of_requests = [value for value in naming if isinstance(value, MetricSpec)]
    tables = (conventions, database, cache, calls)
    every = [value for table in tables for value in vars(table).values() if isinstance(value, MetricSpec)]
    return [*of_requests, *every, RENDER_TIME]


def fixed_names() -> set[str]:
    """Return the names that are in no table of labels."""
    return {value for name, value in vars(family_names).items() if name.isupper()} | OF_PROMETHEUS


@pytest.fixture(params=[(naming, name) for naming in DASHBOARD_NAMINGS for name in DASHBOARDS], ids=str)
def made(request: pytest.FixtureRequest) -> tuple[Naming, list[Asked]]:
    """Return a naming, and the queries of a dashboard under it."""
    naming, name = request.param
    options = DashboardOptions(naming=naming)
    return options.conventions, list(queries(build_dashboard(name, options)))


def test_every_query_parses(made: tuple[Naming, list[Asked]]) -> None:
    for each in made[1]:
        assert selected(interpolate(each.expr, EXAMPLE)).series, each


def test_queries_use_only_names_and_labels_of_the_tables(made: tuple[Naming, list[Asked]]) -> None:
    naming, asked = made
    labels = {spec.name: set(spec.labels) for spec in all_specs(naming)}
    for each in asked:
        found = selected(interpolate(each.expr, EXAMPLE))
        allowed = {"route"} if "label_replace(" in each.expr else set()
        for series, matched in found.series:
            family = next((series.removesuffix(part) for part in HISTOGRAM if series.endswith(part)), series)
            name = series if series in labels else family
            assert name in labels or name in fixed_names(), (each, series)
            own = labels.get(name, OTHER_LABELS) | OF_TARGETS
            assert matched <= own, (each, series)
            allowed |= own | ({"le"} if series.endswith("_bucket") else set())
        assert found.groups <= allowed, each


def test_quantiles_add_up_the_buckets_of_all_workers(made: tuple[Naming, list[Asked]]) -> None:
    for each in made[1]:
        for labels in re.findall(r"histogram_quantile\([\d.]+, sum by \((.*?)\)", each.expr):
            assert labels.split(", ")[0] == "le"
        assert each.expr.count("histogram_quantile(") == each.expr.count("sum by (le") or (
            "histogram_quantile" not in each.expr
        )


def test_only_the_selected_job_and_instances_are_asked(made: tuple[Naming, list[Asked]]) -> None:
    """No query names a job, and none forgets it."""
    for each in made[1]:
        if each.title in ("variable: job", "variable: instance"):
            continue
        selectors = re.findall(r"\w+\{(.*?)\}", each.expr)
        assert len(selectors) == len(selected(interpolate(each.expr, EXAMPLE)).series)
        assert all(each.startswith('job="$job", instance=~"$instance"') for each in selectors)


def test_divisions_are_guarded_against_no_requests(made: tuple[Naming, list[Asked]]) -> None:
    """A divisor is a comparison with 0, or the number of places, which is never 0."""

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.BinaryExpr) and str(node.op) == "/":
            divisor = " ".join(str(node.rhs.prettify()).split())
            unguarded = (family_names.WORKER_CAPACITY, family_names.PROCESS_MAX_FDS)
            assert "> 0" in divisor or any(name in divisor for name in unguarded), divisor

    for each in made[1]:
        promql_parser.walk(promql_parser.parse(interpolate(each.expr, EXAMPLE)), visit)


def test_namespace_is_a_prefix_of_the_families_that_carry_it() -> None:
    options = DashboardOptions(namespace="shop")
    names = {
        name
        for dashboard in DASHBOARDS
        for each in queries(build_dashboard(dashboard, options))
        for name, _ in selected(interpolate(each.expr, EXAMPLE)).series
    }
    bare = {name for name in names if not name.startswith("shop_")}
    assert bare <= fixed_names() | {f"{name}_bucket" for name in fixed_names()} | {
        conventions.ERRORS.name,
        conventions.LABEL_OVERFLOW.name,
    }


@pytest.mark.parametrize(
    ("name", "of"),
    [
        (family_names.MODEL_CHANGES, "django_prom.model_changes:CHANGES"),
        (family_names.MIGRATIONS_UNAPPLIED, "django_prom.migration_state:UNAPPLIED"),
        (family_names.TEMPLATE_RENDER, "web_prom.templates.render_times:RENDER_TIME"),
    ],
)
def test_names_of_adapters_are_those_of_their_families(name: str, of: str) -> None:
    module, _, attribute = of.partition(":")
    assert getattr(importlib.import_module(module), attribute).name == name
