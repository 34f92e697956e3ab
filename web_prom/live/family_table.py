"""The names of the families that web-prom and prometheus_client add to a scrape.

The names of the families of requests are in :mod:`web_prom.metrics.namings`. Families of models, migrations
and templates are not here: no section of a snapshot has them, so they are shown as own metrics.
"""

from __future__ import annotations

PREFIXED = frozenset(
    {
        "http_response_first_byte_seconds",
        "http_request_queue_seconds",
        "http_request_db_queries_total",
        "http_request_db_seconds_total",
        "http_request_db_repeated_queries_total",
        "websocket_connections_in_progress",
        "websocket_connections_total",
        "websocket_connection_duration_seconds",
        "websocket_messages_total",
        "db_client_operation_duration_seconds",
        "db_client_connection_count",
        "db_client_connection_max",
        "db_client_connection_pending_requests",
        "db_client_connection_timeouts_total",
        "db_client_connection_wait_time_seconds",
        "db_client_connection_use_time_seconds",
        "db_client_connection_create_time_seconds",
        "db_client_connection_opened_total",
        "db_client_connection_failures_total",
        "db_client_connection_closed_total",
        "db_client_transactions_total",
        "db_client_savepoints_total",
        "cache_operations_total",
        "cache_operation_duration_seconds",
        "http_client_request_duration_seconds",
    }
)
"""Families that have the namespace of the service."""

UNPREFIXED = frozenset(
    {
        "anyio_threadpool_tasks_waiting",
        "anyio_threadpool_tokens",
        "asgiref_thread_wait_seconds",
        "asyncio_loop_lag_seconds",
        "gevent_hub_lag_seconds",
        "http_server_backlog",
        "http_server_backlog_limit",
        "http_server_listen_overflows_total",
        "http_server_worker_capacity",
        "process_context_switches_total",
        "process_cpu_seconds_total",
        "process_max_fds",
        "process_open_fds",
        "process_page_faults_total",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "process_threads",
        "process_virtual_memory_bytes",
        "python_gc_collections_total",
        "python_gc_duration_seconds",
        "python_gc_objects_collected_total",
        "python_gc_objects_uncollectable_total",
        "python_info",
        "web_prom_ambiguous_families",
        "web_prom_damaged_files",
        "web_prom_files",
        "web_prom_instrumentation_errors_total",
        "web_prom_label_overflow_total",
        "web_prom_scrape_duration_seconds",
        "web_prom_scrape_series",
        "web_prom_storage_errors_total",
        "web_prom_workers",
    }
)
"""Families that never have a namespace."""
