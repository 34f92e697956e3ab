"""Dashboards in Grafana's classic schema: variables, annotations, links and the places of panels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from web_prom import family_names
from web_prom.dashboards import database, route, service, workers
from web_prom.dashboards.model import Dashboard, Row
from web_prom.dashboards.names import RANGE, RATE, Names
from web_prom.dashboards.options import DashboardOptions
from web_prom.dashboards.panel_json import DATASOURCE, Json, panel_json, text_json

DASHBOARDS: Mapping[str, Callable[[Names], Dashboard]] = {
    "service": service.dashboard,
    "route": route.dashboard,
    "database": database.dashboard,
    "workers": workers.dashboard,
}
"""What makes each dashboard, by name."""

SCHEMA_VERSION = 42
"""The classic schema of Grafana 13. Older releases load it too, as far as they know its fields."""

COLUMNS = 24
_TEXT_HEIGHT = 4
_VARIABLES = ("datasource", "job", "instance")
_DOCS_PATH = "docs/how-to/grafana.rst"


def build_dashboard(name: str, options: DashboardOptions) -> dict[str, Any]:
    """Return a dashboard as Grafana imports it.

    Args:
        name: One of :data:`DASHBOARDS`.
        options: What it is made for.
    """
    names = Names(options)
    dashboard = DASHBOARDS[name](names)
    return {
        "uid": options.uid_of(name),
        "title": f"{options.title_prefix} / {dashboard.title}",
        "description": dashboard.purpose.partition("\n")[0],
        "tags": options.tags,
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "fiscalYearStartMonth": 0,
        "links": [_links(options)],
        "templating": {"list": list(_variables(names, dashboard))},
        "annotations": {"list": _annotations(names)},
        "panels": list(_panels(dashboard, options)),
    }


def _links(options: DashboardOptions) -> Json:
    return {
        "title": "Dashboards of this service",
        "type": "dashboards",
        "tags": options.tags,
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }


def _variables(names: Names, dashboard: Dashboard) -> Iterator[Json]:
    yield {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "regex": "",
        "refresh": 1,
        "hide": 0,
        "multi": False,
        "includeAll": False,
    }
    every = names.name(names.duration, "_count")
    yield _query_variable("job", "Job", f"label_values({every}, job)", several=False)
    yield _query_variable("instance", "Instance", f'label_values({every}{{job="$job"}}, instance)')
    if dashboard.has_route:
        source = f"label_values({names.of(names.duration, part='_count')}, {names.route})"
        yield _query_variable("route", "Route", source)


def _query_variable(name: str, label: str, query: str, *, several: bool = True) -> Json:
    variable: Json = {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"qryType": 1, "query": query, "refId": f"variable-{name}"},
        "regex": "",
        "refresh": 2,
        "sort": 1,
        "hide": 0,
        "multi": several,
        "includeAll": several,
    }
    if several:
        # The label of the route is missing for unknown paths under OpenTelemetry's names.
        variable["allValue"] = ".*"
        variable["current"] = {"text": ["All"], "value": ["$__all"]}
    return variable


def _annotations(names: Names) -> list[Json]:
    return [
        _annotation(
            "Worker starts",
            _rises("max by (job, instance)", names),
            color="orange",
            title="A worker started",
            text="{{instance}}",
        ),
        _annotation(
            "Deploys",
            _rises("min by (job)", names),
            color="blue",
            title="All processes are new: a deploy or a restart",
            text="{{job}}",
        ),
    ]


def _rises(aggregation: str, names: Names) -> str:
    """Return an expression that has a result for some time after an aggregate of start times rose."""
    starts = names.of(family_names.PROCESS_START_TIME)
    # Without a scrape at that time, for example while all instances are down, the last value before counts.
    earlier = f"{aggregation} ({starts} offset {RATE})"
    last = f"max{aggregation[3:]} (last_over_time({starts}[{RANGE}] offset {RATE}))"
    return f"{aggregation} ({starts}) > ({earlier} or {last})"


def _annotation(name: str, expr: str, *, color: str, title: str, text: str) -> Json:
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": color,
        "expr": expr,
        "titleFormat": title,
        "textFormat": text,
        "tagKeys": "",
        "useValueForTime": False,
        "target": {"expr": expr, "refId": f"annotation-{name}"},
    }


def _panels(dashboard: Dashboard, options: DashboardOptions) -> Iterator[Json]:
    page = f"[{_DOCS_PATH}]({options.docs})" if options.docs else f"`{_DOCS_PATH}` of web-prom"
    content = f"{dashboard.purpose}\n\nHow to read and change it: {page}."
    yield {"id": 1, "gridPos": _place(0, 0, COLUMNS, _TEXT_HEIGHT), **text_json(content)}
    top, number = _TEXT_HEIGHT, 2
    variables = "&".join(f"${{{variable}:queryparam}}" for variable in _VARIABLES)
    route_url = f"/d/{options.uid_of('route')}?{variables}&${{__url_time_range}}&var-route=%s"
    for row in dashboard.rows:
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": _place(0, top, COLUMNS, 1),
        }
        number += 1
        places, top = _row_places(row, top + 1)
        for panel, place in zip(row.panels, places, strict=True):
            yield {"id": number, "gridPos": place, **panel_json(panel, route_url)}
            number += 1


def _row_places(row: Row, top: int) -> tuple[list[dict[str, int]], int]:
    """Return the places of a row's panels, and the line below them."""
    places, left = [], 0
    for panel in row.panels:
        if left + panel.width > COLUMNS:
            left, top = 0, top + row.height
        places.append(_place(left, top, panel.width, row.height))
        left += panel.width
    return places, top + row.height


def _place(left: int, top: int, width: int, height: int) -> dict[str, int]:
    return {"x": left, "y": top, "w": width, "h": height}
