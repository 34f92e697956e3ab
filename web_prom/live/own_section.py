"""The section ``own`` of a snapshot: the metrics of the service itself and of its libraries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from web_prom.live.families import Families, json_bounds, lasting
from web_prom.live.text_samples import Family

MAX_FAMILIES = 100
MAX_SERIES = 20
"""Series of each family: those with the highest values. The member ``left_out`` counts the others."""

# Families that web-prom and prometheus_client add to each scrape.
_ADDED = (
    "anyio_",
    "asgiref_",
    "asyncio_",
    "cache_operation",
    "db_client_",
    "gevent_",
    "http_",
    "process_",
    "python_",
    "web_prom_",
    "websocket_",
)
_UNITS = ("seconds", "bytes", "ratio", "celsius", "meters", "grams", "volts", "amperes", "joules")


def own_section(families: Families) -> list[dict[str, Any]]:
    """Return the section. Call it last: it has the families that no other section has asked for."""
    found = (family for family in families.unused() if family.series and not family.name.startswith(_ADDED))
    return [_family(families, family) for family in sorted(found, key=lambda each: each.name)][:MAX_FAMILIES]


def _family(families: Families, family: Family) -> dict[str, Any]:
    is_distribution = family.type in ("histogram", "summary")
    if is_distribution:
        described = _distributions(families, family)
    else:
        described = {
            "series": [
                {"labels": series.labels, "value": families.value(series)} for series in lasting(family)
            ]
        }
    names = dict.fromkeys(name for series in family.series for name in series.labels)
    labels = [name for name in names if not (is_distribution and name in ("le", "quantile"))]
    series = sorted(described["series"], key=lambda each: -(each.get("value", each.get("count")) or 0.0))
    for each in series:
        each["labels"] = [each["labels"].get(name, "") for name in labels]
    return {
        "name": family.name,
        "type": family.type,
        "help": family.help,
        "unit": _unit(family.name),
        "labels": labels,
        "series": series[:MAX_SERIES],
        "buckets": described.get("buckets"),
        "left_out": max(len(series) - MAX_SERIES, 0),
    }


def _distributions(families: Families, family: Family) -> dict[str, Any]:
    bounds, histograms = families.histograms_of(family)
    rows = []
    for histogram in histograms:
        row: dict[str, Any] = {
            "labels": histogram.labels,
            "count": histogram.observed,
            "sum": histogram.seconds,
        }
        if family.type == "histogram":
            row["counts"] = histogram.counts
        rows.append(row)
    return {"series": rows, "buckets": json_bounds(bounds) if family.type == "histogram" else None}


def _unit(name: str, units: Iterable[str] = _UNITS) -> str:
    name = name.removesuffix("_total")
    return next((unit for unit in units if name.endswith(f"_{unit}")), "")
