"""The sections of a snapshot about what happens inside requests: databases, pools, caches, outgoing calls."""

from __future__ import annotations

from typing import Any

from web_prom.live.families import Families, by_label

MAX_ROWS = 200
"""Rows of each section: those with the most operations."""

_POOL = "db_client_connection_pool_name"


def inside_sections(families: Families) -> dict[str, Any]:
    """Return the sections ``databases``, ``pools``, ``caches`` and ``calls``. Each may be empty."""
    return {
        "databases": _timed(
            families,
            "db_client_operation_duration_seconds",
            system="db_system_name",
            namespace="db_namespace",
            operation="db_operation_name",
            error="error_type",
        ),
        "pools": _pools(families),
        "caches": _caches(families),
        "calls": _timed(
            families,
            "http_client_request_duration_seconds",
            method="http_request_method",
            address="server_address",
            status="http_response_status_code",
            error="error_type",
        ),
    }


def _timed(families: Families, name: str, **members: str) -> list[dict[str, Any]]:
    """Return a row for each histogram of a family: the given labels, and the count and sum."""
    _bounds, histograms = families.histograms(name)
    rows = [
        {
            **{member: histogram.labels.get(label, "") for member, label in members.items()},
            "count": histogram.observed,
            "seconds": histogram.seconds,
        }
        for histogram in histograms
    ]
    return _limited(rows)


def _pools(families: Families) -> list[dict[str, Any]]:
    counts = families.samples("db_client_connection_count")
    by_state = {
        state: by_label(
            [each for each in counts if each[0].get("db_client_connection_state") == state], _POOL
        )
        for state in ("used", "idle")
    }
    others = {
        "max": by_label(families.samples("db_client_connection_max"), _POOL),
        "pending": by_label(families.samples("db_client_connection_pending_requests"), _POOL),
        "timeouts": by_label(families.samples("db_client_connection_timeouts_total"), _POOL),
    }
    members = {**by_state, **others}
    pools = sorted({pool for found in members.values() for pool in found})
    return [
        {"pool": pool, **{member: found.get(pool) for member, found in members.items()}} for pool in pools
    ][:MAX_ROWS]


def _caches(families: Families) -> list[dict[str, Any]]:
    rows: dict[tuple[str, str], dict[str, Any]] = {}

    def row(labels: Any) -> dict[str, Any]:
        key = labels.get("cache", ""), labels.get("operation", "")
        return rows.setdefault(
            key, {"cache": key[0], "operation": key[1], "results": {}, "count": 0.0, "seconds": 0.0}
        )

    for labels, value in families.samples("cache_operations_total"):
        results = row(labels)["results"]
        results[labels.get("result", "")] = results.get(labels.get("result", ""), 0.0) + value
    for histogram in families.histograms("cache_operation_duration_seconds")[1]:
        found = row(histogram.labels)
        found["count"] += histogram.observed
        found["seconds"] += histogram.seconds
    return _limited(list(rows.values()))


def _limited(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: -row["count"])[:MAX_ROWS]
