"""Names, help, labels and buckets of the database families.

The names of queries and connections are those of OpenTelemetry in the spelling of Prometheus:
https://opentelemetry.io/docs/specs/semconv/database/database-metrics/. OpenTelemetry has no names for
connections that are opened, fail or are closed, and none for transactions. These follow the same style.
"""

from __future__ import annotations

from web_prom.metrics.conventions import MetricSpec, same_names

_POOL = "db_client_connection_pool_name"

DURATION_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
"""Upper bounds of all histograms of this module, in seconds."""

OPERATION_DURATION = MetricSpec(
    name="db_client_operation_duration_seconds",
    documentation="Seconds that database operations took until the database had executed them.",
    labels=same_names("db_system_name", "db_namespace", "db_operation_name", "error_type"),
)

CONNECTION_COUNT = MetricSpec(
    name="db_client_connection_count",
    documentation="Connections of connection pools now, by what they do.",
    labels=same_names(_POOL, "db_client_connection_state"),
)

CONNECTION_MAX = MetricSpec(
    name="db_client_connection_max",
    documentation="Connections that connection pools may have.",
    labels=same_names(_POOL),
)

PENDING_REQUESTS = MetricSpec(
    name="db_client_connection_pending_requests",
    documentation="Requests that wait for a connection of a pool now.",
    labels=same_names(_POOL),
)

TIMEOUTS = MetricSpec(
    name="db_client_connection_timeouts_total",
    documentation="Requests that got no connection of a pool within its timeout.",
    labels=same_names(_POOL),
)

WAIT_TIME = MetricSpec(
    name="db_client_connection_wait_time_seconds",
    documentation="Seconds until a pool gave a connection, without the time to open one.",
    labels=same_names(_POOL),
)

USE_TIME = MetricSpec(
    name="db_client_connection_use_time_seconds",
    documentation="Seconds between the checkout of a connection and its return to the pool.",
    labels=same_names(_POOL),
)

CREATE_TIME = MetricSpec(
    name="db_client_connection_create_time_seconds",
    documentation="Seconds that it took to open a connection.",
    labels=same_names(_POOL),
)

OPENED = MetricSpec(
    name="db_client_connection_opened_total",
    documentation="Connections to the database that were opened.",
    labels=same_names(_POOL),
)

FAILURES = MetricSpec(
    name="db_client_connection_failures_total",
    documentation="Connections to the database that could not be opened.",
    labels=same_names(_POOL, "error_type"),
)

CLOSED = MetricSpec(
    name="db_client_connection_closed_total",
    documentation="Connections to the database that were closed.",
    labels=same_names(_POOL),
)

TRANSACTIONS = MetricSpec(
    name="db_client_transactions_total",
    documentation="Transactions that ended, by how they ended: commit or rollback.",
    labels=same_names("db_system_name", "db_namespace", "outcome"),
)

SAVEPOINTS = MetricSpec(
    name="db_client_savepoints_total",
    documentation="Operations on savepoints: create, release or rollback.",
    labels=same_names("db_system_name", "db_namespace", "operation"),
)
