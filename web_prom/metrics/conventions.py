"""Names, help, labels and buckets of all metric families of web-prom.

This module contains data only. :mod:`web_prom.metrics.families` creates the families from it. The families of
requests have several namings, which are in :mod:`web_prom.metrics.namings`. All other families are here.
"""

from __future__ import annotations

from collections.abc import Mapping

from web_prom.metrics.namings import NAMINGS, OPENTELEMETRY, PROMETHEUS, MetricSpec, Naming, same_names

__all__ = ["NAMINGS", "OPENTELEMETRY", "PROMETHEUS", "MetricSpec", "Naming", "same_names"]

# The families below are in no convention. They keep their names and labels under each naming.

DEFAULT_SIZE_BUCKETS = (100.0, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8)
"""Upper bounds of the histograms of body sizes, in bytes, if the user sets none."""

FIRST_BYTE = MetricSpec(
    name="http_response_first_byte_seconds",
    documentation="Seconds from the call of the application to the first byte of the response body.",
    labels=same_names("method", "route"),
)

QUEUE_TIME = MetricSpec(
    name="http_request_queue_seconds",
    documentation="Seconds that a request waited for a worker.",
    labels={},
)

QUEUE_TIME_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)
"""In seconds. A request can wait longer in a queue than it should take to be served."""

WEBSOCKETS_IN_PROGRESS = MetricSpec(
    name="websocket_connections_in_progress",
    documentation="WebSocket connections that are open now.",
    labels={},
)

WEBSOCKETS = MetricSpec(
    name="websocket_connections_total",
    documentation="WebSocket connections that came to their end.",
    labels=same_names("route", "code"),
)

WEBSOCKET_DURATION = MetricSpec(
    name="websocket_connection_duration_seconds",
    documentation="Seconds from the call of the application to the end of the WebSocket connection.",
    labels=same_names("route"),
)

WEBSOCKET_DURATION_BUCKETS = (1.0, 10.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 14400.0, 43200.0, 86400.0)
"""In seconds. A WebSocket is open as long as a user has the page open: from a second to a day."""

WEBSOCKET_MESSAGES = MetricSpec(
    name="websocket_messages_total",
    documentation="WebSocket messages received and sent.",
    labels=same_names("route", "direction"),
)

SETTING_LABELS: Mapping[str, frozenset[str]] = {
    "database": frozenset(
        {
            "db_client_connection_pool_name",
            "db_client_connection_state",
            "db_namespace",
            "db_operation_name",
            "db_system_name",
            "error_type",
            "method",
            "operation",
            "outcome",
            "route",
        }
    ),
    "cache": frozenset({"cache", "operation", "result"}),
    "http_client": frozenset(
        {"error_type", "http_request_method", "http_response_status_code", "server_address"}
    ),
    "models": frozenset({"model", "operation"}),
    "migrations": frozenset({"db_namespace"}),
    "templates": frozenset({"engine", "template"}),
}
"""The label names of the families that a setting switches on, by the field of the setting."""

DB_QUERIES = MetricSpec(
    name="http_request_db_queries_total",
    documentation="Database queries of requests that finished.",
    labels=same_names("method", "route"),
)

DB_SECONDS = MetricSpec(
    name="http_request_db_seconds_total",
    documentation="Seconds that requests spent in database queries.",
    labels=same_names("method", "route"),
)

DB_REPEATED_QUERIES = MetricSpec(
    name="http_request_db_repeated_queries_total",
    documentation="Executions of one SQL text beyond the second in one request (N+1 queries).",
    labels=same_names("method", "route"),
)

ERRORS = MetricSpec(
    name="web_prom_instrumentation_errors_total",
    documentation="Errors in the instrumentation itself, by what it was doing; the requests went on.",
    labels=same_names("stage"),
)

LABEL_OVERFLOW = MetricSpec(
    name="web_prom_label_overflow_total",
    documentation=(
        "Observations counted under _overflow, because a family has as many label sets as its limit allows, "
        "or a label as many values."
    ),
    labels=same_names("family"),
)
