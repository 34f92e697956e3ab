"""The section ``requests`` of a snapshot: what each route did, in each naming."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from web_prom.live.families import Families, Histogram, add_columns, json_bounds
from web_prom.metrics.conventions import MetricSpec, Naming
from web_prom.metrics.namings.recognition import label_of, route_reader, status_counter

MAX_ROUTES = 200
"""Rows for routes. The routes with the fewest requests become one row."""

REST = "_rest"
"""The route of the row that has all routes which have no row of their own."""

_NO_REQUESTS: dict[str, Any] = {"buckets": [None], "in_progress": 0, "routes": [], "left_out": 0}

Row = dict[str, Any]


def request_section(families: Families) -> dict[str, Any]:
    """Return the section. Without measured requests it has no rows.

    Counters are those of the scrape. The count of each bucket is not cumulative over the buckets.
    """
    naming = families.names.naming
    if naming is None:
        return dict(_NO_REQUESTS)
    bounds, histograms = families.histograms(naming.duration.name)
    rows: dict[tuple[str, str], Row] = {}

    def row(key: tuple[str, str]) -> Row:
        found = rows.get(key)
        if found is None:
            found = rows[key] = _empty_row(*key, len(bounds))
        return found

    labels = [histogram.labels for histogram in histograms]
    counter = status_counter(naming)
    keys = _keys(families, naming, naming.duration, "status" if counter is None else None, labels)
    for (key, status), histogram in zip(keys, histograms, strict=True):
        _add_duration(row(key), naming, status if counter is None else None, histogram)
    for spec, member, attribute in (
        (counter, "statuses", "status"),
        (naming.exceptions, "exceptions", "exception"),
    ):
        if spec is None:
            continue
        samples = families.samples(spec.name)
        keys = _keys(families, naming, spec, attribute, [labels for labels, _value in samples])
        for (key, name), (_labels, value) in zip(keys, samples, strict=True):
            if value:
                _add(row(key)[member], name or "?", value)
    _add_queries(rows, families)
    return {
        "buckets": json_bounds(bounds),
        "in_progress": max(families.total(naming.in_progress.name) or 0.0, 0.0),
        **_limited(list(rows.values())),
    }


def _keys(
    families: Families,
    naming: Naming,
    spec: MetricSpec,
    attribute: str | None,
    every: Sequence[Mapping[str, str]],
) -> list[tuple[tuple[str, str], str]]:
    """Return, for each label set of a family, its method and route, and the value of one attribute."""
    family = families.find(spec.name)
    if family is None:
        return []
    found: list[tuple[tuple[str, str], str]] | None = family.derived.get("keys")
    if found is None:
        read_route, label = route_reader(naming, spec), label_of(spec, attribute) if attribute else ""
        found = family.derived["keys"] = [(read_route(labels), labels.get(label, "")) for labels in every]
    return found


def _empty_row(method: str, route: str, buckets: int) -> Row:
    return {
        "method": method,
        "route": route,
        "statuses": {},
        "exceptions": {},
        "seconds": 0.0,
        "counts": [0.0] * buckets,
        "queries": None,
        "query_seconds": None,
        "repeated_queries": None,
    }


def _add_duration(row: Row, naming: Naming, status: str | None, histogram: Histogram) -> None:
    row["seconds"] += histogram.seconds
    row["counts"] = add_columns((row["counts"], histogram.counts)) if any(row["counts"]) else histogram.counts
    if status is not None:  # the count of the histogram is the counter of requests
        _add(row["statuses"], status or "?", histogram.observed)
    if naming.exceptions is None:
        error = histogram.labels.get(label_of(naming.duration, "error"))
        if error and not error.isdigit():
            _add(row["exceptions"], error, histogram.observed)


def _add_queries(rows: dict[tuple[str, str], Row], families: Families) -> None:
    for name, member in (
        ("http_request_db_queries_total", "queries"),
        ("http_request_db_seconds_total", "query_seconds"),
        ("http_request_db_repeated_queries_total", "repeated_queries"),
    ):
        for labels, value in families.samples(name):
            row = rows.get((labels.get("method", ""), labels.get("route", "")))
            if row is not None:
                row[member] = (row[member] or 0.0) + value


def _limited(rows: list[Row]) -> dict[str, Any]:
    rows.sort(key=lambda row: -sum(row["counts"]))
    rest = rows[MAX_ROUTES:]
    if rest:
        rows = [*rows[: MAX_ROUTES - 1], _sum_of(rows[MAX_ROUTES - 1 :])]
        return {"routes": rows, "left_out": len(rest) + 1}
    return {"routes": rows, "left_out": 0}


def _sum_of(rows: list[Row]) -> Row:
    total = _empty_row("", REST, 0)
    total["counts"] = add_columns(row["counts"] for row in rows)
    for row in rows:
        for member in ("statuses", "exceptions"):
            for name, value in row[member].items():
                _add(total[member], name, value)
        total["seconds"] += row["seconds"]
        for member in ("queries", "query_seconds", "repeated_queries"):
            if row[member] is not None:
                total[member] = (total[member] or 0.0) + row[member]
    return total


def _add(counters: dict[str, float], name: str, value: float) -> None:
    counters[name] = counters.get(name, 0.0) + value
