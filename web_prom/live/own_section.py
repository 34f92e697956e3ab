"""The section ``own`` of a snapshot: the metrics of the service itself and of its libraries."""

from __future__ import annotations

import math
from collections.abc import Iterable
from heapq import nlargest
from typing import Any

from web_prom.live.families import Families, json_bounds, lasting
from web_prom.live.family_table import PREFIXED, UNPREFIXED
from web_prom.live.text_samples import Family

MAX_FAMILIES = 100
MAX_SERIES = 20
"""Series of each family: those with the highest values. The member ``left_out`` counts the others."""

_UNITS = ("seconds", "bytes", "ratio", "celsius", "meters", "grams", "volts", "amperes", "joules")


def own_section(families: Families) -> list[dict[str, Any]]:
    """Return the section. Call it last: it has the families that no other section has asked for."""
    names = families.names
    added = {*map(names.find, PREFIXED), *map(names.spelled, UNPREFIXED), *names.of_requests()}
    found = (family for family in families.unused(added) if family.series)
    return [_family(families, family) for family in sorted(found, key=lambda each: each.name)][:MAX_FAMILIES]


def _family(families: Families, family: Family) -> dict[str, Any]:
    described = (_distributions if family.type in ("histogram", "summary") else _values)(families, family)
    labels = _label_names(family)
    for each in described["series"]:
        each["labels"] = [each["labels"].get(name, "") for name in labels]
    return {
        "name": family.name,
        "type": family.type,
        "help": family.help,
        "unit": _unit(family.name),
        "labels": labels,
        **described,
    }


def _label_names(family: Family) -> list[str]:
    names: list[str] | None = family.derived.get("label names")
    if names is None:
        found = dict.fromkeys(name for labels in family.series.labels for name in labels)
        added = ("le", "quantile") if family.type in ("histogram", "summary") else ()
        names = family.derived["label names"] = [name for name in found if name not in added]
    return names


def _values(families: Families, family: Family) -> dict[str, Any]:
    series = lasting(family)
    # Values that are not finite count as 0.
    found = nlargest(MAX_SERIES, series, key=lambda each: families.value(each) or 0.0)
    return {
        "total": _total(families, family),
        "series": [{"labels": each.labels, "value": families.value(each)} for each in found],
        "buckets": None,
        "left_out": max(len(series) - MAX_SERIES, 0),
    }


def _total(families: Families, family: Family) -> float | None:
    if family.type != "counter":
        return None
    return math.fsum(value for _, value in families.samples_of(family))


def _distributions(families: Families, family: Family) -> dict[str, Any]:
    bounds, histograms = families.histograms_of(family)
    has_buckets = family.type == "histogram"
    rows = []
    for histogram in nlargest(MAX_SERIES, histograms, key=lambda each: each.observed):
        row: dict[str, Any] = {
            "labels": histogram.labels,
            "count": histogram.observed,
            "sum": histogram.seconds,
        }
        if has_buckets:
            row["counts"] = histogram.counts
        rows.append(row)
    return {
        "total": None,
        "series": rows,
        "buckets": json_bounds(bounds) if has_buckets else None,
        "left_out": max(len(histograms) - MAX_SERIES, 0),
    }


def _unit(name: str, units: Iterable[str] = _UNITS) -> str:
    name = name.removesuffix("_total")
    return next((unit for unit in units if name.endswith(f"_{unit}")), "")
