"""Names of the families that no table of :mod:`web_prom.metrics` has: of servers, processes and the exporter.

The names of counters end in ``_total``, as in a scrape.
"""

from __future__ import annotations

WORKER_CAPACITY = "http_server_worker_capacity"
BACKLOG = "http_server_backlog"
BACKLOG_LIMIT = "http_server_backlog_limit"
LISTEN_OVERFLOWS = "http_server_listen_overflows_total"
LOOP_LAG = "asyncio_loop_lag_seconds"
HUB_LAG = "gevent_hub_lag_seconds"

SCRAPE_SERIES = "web_prom_scrape_series"
SCRAPE_DURATION = "web_prom_scrape_duration_seconds"
DAMAGED_FILES = "web_prom_damaged_files"
STORAGE_ERRORS = "web_prom_storage_errors_total"

MIGRATIONS_APPLIED = "django_migrations_applied"
MIGRATIONS_UNAPPLIED = "django_migrations_unapplied"

MODEL_CHANGES = "django_model_changes_total"

TEMPLATE_RENDER = "template_render_duration_seconds"

GC_DURATION = "python_gc_duration_seconds"

# These are the names of prometheus_client. In a scrape of several workers they have the label "worker".
PROCESS_START_TIME = "process_start_time_seconds"
PROCESS_CPU = "process_cpu_seconds_total"
PROCESS_RESIDENT_MEMORY = "process_resident_memory_bytes"
PROCESS_OPEN_FDS = "process_open_fds"
PROCESS_MAX_FDS = "process_max_fds"
