"""The section ``websockets`` of a snapshot: connections and messages of each route."""

from __future__ import annotations

from typing import Any

from web_prom.live.families import Families, add_columns, json_bounds
from web_prom.metrics import conventions

MAX_ROUTES = 200
"""Rows for routes: those with the most connections."""

Row = dict[str, Any]


def websocket_section(families: Families) -> dict[str, Any] | None:
    """Return the section, or None if the scrape has no family of WebSockets."""
    in_progress = families.total(conventions.WEBSOCKETS_IN_PROGRESS.name)
    bounds, histograms = families.histograms(conventions.WEBSOCKET_DURATION.name)
    ended = families.samples(conventions.WEBSOCKETS.name)
    messages = families.samples(conventions.WEBSOCKET_MESSAGES.name)
    if in_progress is None and not ended and not messages:
        return None
    rows: dict[str, Row] = {}

    def row(route: str) -> Row:
        found = rows.get(route)
        if found is None:
            found = rows[route] = _empty_row(route, len(bounds))
        return found

    for labels, value in ended:
        codes, code = row(labels.get("route", ""))["codes"], labels.get("code", "")
        codes[code] = codes.get(code, 0.0) + value
    for labels, value in messages:
        member = "received" if labels.get("direction") == "received" else "sent"
        row(labels.get("route", ""))[member] += value
    for histogram in histograms:
        found = row(histogram.labels.get("route", ""))
        found["seconds"] += histogram.seconds
        found["counts"] = add_columns((found["counts"], histogram.counts))
    most = sorted(rows.values(), key=lambda each: -sum(each["codes"].values()))
    return {
        "buckets": json_bounds(bounds),
        "in_progress": max(in_progress or 0.0, 0.0),
        "routes": most[:MAX_ROUTES],
        "left_out": max(len(most) - MAX_ROUTES, 0),
    }


def _empty_row(route: str, buckets: int) -> Row:
    return {
        "route": route,
        "codes": {},
        "received": 0.0,
        "sent": 0.0,
        "seconds": 0.0,
        "counts": [0.0] * buckets,
    }
