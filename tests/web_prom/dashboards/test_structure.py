"""The JSON of dashboards follows the rules of Grafana's classic schema."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from web_prom.dashboards import DASHBOARDS, DashboardOptions, build_dashboard
from web_prom.dashboards.options import DASHBOARD_NAMINGS

KINDS = {"row", "text", "timeseries", "stat", "table", "heatmap", "bargauge"}
# https://github.com/grafana/grafana: ids of packages/grafana-data/src/valueFormats/categories.ts.
UNITS = {"none", "short", "s", "bytes", "percentunit", "reqps", "ops", "cps"}
COLUMNS = 24

Json = dict[str, Any]


@pytest.fixture(params=[(name, naming) for name in DASHBOARDS for naming in DASHBOARD_NAMINGS], ids=str)
def dashboard(request: pytest.FixtureRequest) -> Json:
    """Return a dashboard under a naming."""
    name, naming = request.param
    return build_dashboard(name, DashboardOptions(naming=naming))


def panels(dashboard: Json) -> Iterator[Json]:
    """Yield the panels that are not rows."""
    yield from (panel for panel in dashboard["panels"] if panel["type"] != "row")


def test_dashboard_has_the_fields_that_grafana_reads(dashboard: Json) -> None:
    assert dashboard["schemaVersion"] == 42
    assert re.fullmatch("[A-Za-z0-9_-]{1,40}", dashboard["uid"])
    assert dashboard["title"]
    assert dashboard["description"]
    # An import gives it an id of its own.
    assert "id" not in dashboard


def test_panel_ids_are_unique(dashboard: Json) -> None:
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    assert min(ids) > 0


def test_panels_are_of_current_kinds(dashboard: Json) -> None:
    """Grafana 12 has no graph, singlestat and table-old any more."""
    assert {panel["type"] for panel in dashboard["panels"]} <= KINDS


def test_panels_fill_the_columns_without_overlap(dashboard: Json) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= COLUMNS
        assert place["h"] > 0
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells
    lines = {y for _, y in taken}
    assert lines == set(range(max(lines) + 1))


def test_everything_asks_the_selected_data_source(dashboard: Json) -> None:
    sources = [
        each["datasource"] for panel in panels(dashboard) for each in (panel, *panel.get("targets", []))
    ]
    sources += [each["datasource"] for each in dashboard["annotations"]["list"]]
    sources += [each["datasource"] for each in dashboard["templating"]["list"] if each["type"] == "query"]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)


def test_variables_are_defined_before_they_are_used(dashboard: Json) -> None:
    known: set[str] = set()
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            assert set(re.findall(r"\$(\w+)", variable["query"]["query"])) <= known
        known.add(variable["name"])
    assert {"datasource", "job", "instance"} <= known
    queries = " ".join(target["expr"] for panel in panels(dashboard) for target in panel.get("targets", []))
    used = set(re.findall(r"\$(\w+)", queries)) - {"__rate_interval", "__range", "1"}
    assert used | {"datasource"} == known


def test_panels_have_a_unit_and_a_description_that_says_what_to_do(dashboard: Json) -> None:
    for panel in panels(dashboard):
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["type"] == "text" or len(panel["description"]) > 60, panel["title"]
        assert panel["type"] == "text" or panel["title"]
        for override in panel["fieldConfig"]["overrides"]:
            units = [each["value"] for each in override["properties"] if each["id"] == "unit"]
            assert set(units) <= UNITS


def test_queries_of_a_panel_have_ids_and_legends(dashboard: Json) -> None:
    for panel in panels(dashboard):
        ids = [target["refId"] for target in panel.get("targets", [])]
        assert len(set(ids)) == len(ids)
        for target in panel.get("targets", []):
            assert target["instant"] != target["range"]
            assert target["legendFormat"]
            # A legend shows labels that the result has.
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert label in target["expr"] or label in ("instance", "worker"), panel["title"]


def test_rates_have_the_window_that_fits_the_graph(dashboard: Json) -> None:
    """Graphs ask for the rate in each step; tables ask for the rate in the whole time range."""
    for panel in panels(dashboard):
        window = "$__range" if panel["type"] == "table" else "$__rate_interval"
        for target in panel.get("targets", []):
            expr = re.sub(r'"[^"]*"', "", target["expr"])
            windows = re.findall(r"\[([^\]]*)\]|offset (\S+?)(?:\)|$| )", expr)
            assert {found for pair in windows for found in pair if found} <= {window}, panel["title"]


def test_thresholds_ascend_from_a_base(dashboard: Json) -> None:
    for panel in panels(dashboard):
        if "thresholds" in panel["fieldConfig"]["defaults"]:
            values = [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]
            assert values[0] is None
            assert values[1:] == sorted(values[1:])


def test_first_panel_says_what_the_dashboard_is_for(dashboard: Json) -> None:
    first = dashboard["panels"][0]
    assert first["type"] == "text"
    assert first["gridPos"] == {"x": 0, "y": 0, "w": COLUMNS, "h": 4}
    assert dashboard["description"] in first["options"]["content"]
    assert "docs/how-to/grafana.rst" in first["options"]["content"]


def test_links_keep_variables_and_time(dashboard: Json) -> None:
    (link,) = dashboard["links"]
    assert link["type"] == "dashboards"
    assert link["includeVars"]
    assert link["keepTime"]
    assert set(link["tags"]) <= set(dashboard["tags"])


@pytest.mark.parametrize("name", ["service", "database"])
def test_table_links_a_route_to_its_dashboard(name: str) -> None:
    options = DashboardOptions(uid="shop")
    (table,) = (panel for panel in build_dashboard(name, options)["panels"] if panel["type"] == "table")
    (links,) = (
        property["value"]
        for override in table["fieldConfig"]["overrides"]
        for property in override["properties"]
        if property["id"] == "links"
    )
    url = links[0]["url"]
    assert url.startswith(f"/d/{build_dashboard('route', options)['uid']}?")
    for variable in ("datasource", "job", "instance"):
        assert f"${{{variable}:queryparam}}" in url
    assert "${__url_time_range}" in url
    assert url.endswith("&var-route=${__data.fields.Route:percentencode}")


def test_namings_and_namespaces_can_be_loaded_beside_each_other() -> None:
    every = [
        build_dashboard(name, DashboardOptions(naming=naming, namespace=namespace))
        for name in DASHBOARDS
        for naming in DASHBOARD_NAMINGS
        for namespace in ("", "shop")
    ]
    assert len({dashboard["uid"] for dashboard in every}) == len(every)
    assert len({dashboard["title"] for dashboard in every}) == len(every)
