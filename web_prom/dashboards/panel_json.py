"""Panels in Grafana's classic schema. The functions here know nothing about metrics."""

from __future__ import annotations

from typing import Any

from web_prom.dashboards.model import GREEN, Column, Limits, Panel, Query

Json = dict[str, Any]

DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
"""The data source that the variable selects."""

_REDUCE: Json = {"calcs": ["lastNotNull"], "fields": "", "values": False}


def panel_json(panel: Panel, route_url: str) -> Json:
    """Return a panel without its id and its place.

    Args:
        panel: The panel.
        route_url: The URL of the dashboard of a route, where the name of a route is ``%s``.
    """
    make = {
        "timeseries": _time_series,
        "stat": _stat,
        "table": _table,
        "heatmap": _heatmap,
        "bargauge": _bar_gauge,
    }[panel.kind]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "targets": [_target(query, index, panel.kind) for index, query in enumerate(panel.all_queries())],
        **make(panel, route_url),
    }


def text_json(content: str) -> Json:
    """Return a panel with a text in Markdown."""
    return {
        "type": "text",
        "title": "",
        "description": "What this dashboard is for.",
        "datasource": DATASOURCE,
        "transparent": True,
        "options": {"mode": "markdown", "content": content},
        "fieldConfig": {"defaults": {"unit": "none"}, "overrides": []},
    }


def _target(query: Query, index: int, kind: str) -> Json:
    instant = kind in ("table", "bargauge")
    return {
        "refId": _ref_id(index),
        "datasource": DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "format": {"table": "table", "heatmap": "heatmap"}.get(kind, "time_series"),
        "instant": instant,
        "range": not instant,
        "editorMode": "code",
    }


def _ref_id(index: int) -> str:
    return chr(ord("A") + index)


def _thresholds(limits: Limits | None) -> Json:
    steps = limits.steps() if limits else [(None, GREEN)]
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in steps]}


def _defaults(panel: Panel, **more: Any) -> Json:
    defaults: Json = {"unit": panel.unit, "thresholds": _thresholds(panel.limits), **more}
    for key, value in (("min", panel.low), ("max", panel.high)):
        if value is not None:
            defaults[key] = value
    return defaults


def _override(matcher: str, name: str, **properties: Any) -> Json:
    return {
        "matcher": {"id": matcher, "options": name},
        "properties": [{"id": key.replace("__", "."), "value": value} for key, value in properties.items()],
    }


def _time_series(panel: Panel, _route_url: str) -> Json:
    custom: Json = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 40 if panel.stacked else 8,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if panel.limits else "off"},
    }
    overrides = [
        _override("byName", legend, color={"mode": "fixed", "fixedColor": color})
        for legend, color in panel.colors.items()
    ]
    return {
        "fieldConfig": {
            "defaults": _defaults(panel, color={"mode": "palette-classic"}, custom=custom),
            "overrides": overrides,
        },
        "options": {
            "legend": {
                "showLegend": True,
                "displayMode": "table",
                "placement": "bottom",
                "calcs": ["mean", "max", "lastNotNull"],
                "sortBy": "Max",
                "sortDesc": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def _stat(panel: Panel, _route_url: str) -> Json:
    return {
        "fieldConfig": {"defaults": _defaults(panel, color={"mode": "thresholds"}), "overrides": []},
        "options": {
            "reduceOptions": _REDUCE,
            "colorMode": "value",
            "graphMode": "area",
            "justifyMode": "auto",
            "orientation": "auto",
            "textMode": "auto",
            "wideLayout": True,
            "showPercentChange": False,
            "percentChangeColorMode": "standard",
        },
    }


def _bar_gauge(panel: Panel, _route_url: str) -> Json:
    return {
        "fieldConfig": {"defaults": _defaults(panel, color={"mode": "thresholds"}), "overrides": []},
        "options": {
            "reduceOptions": _REDUCE,
            "displayMode": "basic",
            "orientation": "horizontal",
            "namePlacement": "auto",
            "valueMode": "color",
            "showUnfilled": True,
            "sizing": "auto",
            "minVizHeight": 16,
            "maxVizHeight": 300,
            "minVizWidth": 8,
            "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom", "calcs": []},
        },
    }


def _heatmap(panel: Panel, _route_url: str) -> Json:
    scale: Json = {"type": "linear"}
    hidden: Json = {"legend": False, "tooltip": False, "viz": False}
    return {
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "custom": {"hideFrom": hidden, "scaleDistribution": scale}},
            "overrides": [],
        },
        "options": {
            "calculate": False,
            "cellGap": 1,
            "color": {
                "mode": "scheme",
                "scheme": "Oranges",
                "scale": "exponential",
                "exponent": 0.5,
                "fill": "dark-orange",
                "reverse": False,
                "steps": 64,
            },
            "exemplars": {"color": "rgba(255,0,255,0.7)"},
            "filterValues": {"le": 1e-9},
            "legend": {"show": True},
            "rowsFrame": {"layout": "auto", "value": "Requests"},
            "showValue": "never",
            "tooltip": {"mode": "single", "yHistogram": False, "showColorScale": False},
            "yAxis": {"axisPlacement": "left", "reverse": False, "unit": panel.unit},
        },
    }


def _table(panel: Panel, route_url: str) -> Json:
    columns = panel.columns
    # Grafana names the values of the only query "Value", and those of several "Value #A" and so on.
    values = ["Value"] if len(columns) == 1 else [f"Value #{_ref_id(index)}" for index in range(len(columns))]
    fields = [*panel.labels, *values]
    heads = dict(zip(fields, (*panel.labels.values(), *(column.title for column in columns)), strict=True))
    overrides = [_column_override(column) for column in columns]
    if panel.route_label:
        link = {
            "title": "Open the dashboard of this route",
            "url": route_url % f"${{__data.fields.{heads[panel.route_label]}:percentencode}}",
            "targetBlank": False,
        }
        overrides.append(_override("byName", heads[panel.route_label], links=[link]))
    return {
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "thresholds": _thresholds(panel.limits),
                "custom": {"align": "auto", "filterable": True, "cellOptions": {"type": "auto"}},
            },
            "overrides": overrides,
        },
        "options": {
            "showHeader": True,
            "cellHeight": "sm",
            "frameIndex": 0,
            "sortBy": [{"displayName": columns[0].title, "desc": True}],
        },
        "transformations": [
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True},
                    "indexByName": {name: index for index, name in enumerate(fields)},
                    "renameByName": heads,
                },
            },
        ],
    }


def _column_override(column: Column) -> Json:
    properties: Json = {"unit": column.unit}
    if column.limits:
        properties["thresholds"] = _thresholds(column.limits)
        properties["custom__cellOptions"] = {"type": "color-text"}
    return _override("byName", column.title, **properties)
