"""The names and labels of django-prometheus for databases, caches, models and migrations."""

from __future__ import annotations

from collections.abc import Mapping

from web_prom.family_names import MIGRATIONS_APPLIED, MIGRATIONS_UNAPPLIED
from web_prom.metrics.namings.model import MetricSpec, Translation

# Django's names of the systems. OpenTelemetry has others for these.
_VENDORS = {"mariadb": "mysql", "oracle.db": "oracle", "microsoft.sql_server": "microsoft"}

# The classes of caches that django-prometheus has a subclass of, with its names.
_BACKENDS = {
    "django.core.cache.backends.locmem.LocMemCache": "locmem",
    "django.core.cache.backends.filebased.FileBasedCache": "filebased",
    "django.core.cache.backends.memcached.PyLibMCCache": "memcached",
    "django.core.cache.backends.memcached.PyMemcacheCache": "memcached",
    "django.core.cache.backends.redis.RedisCache": "native_redis",
    "django_redis.cache.RedisCache": "redis",
    "django_memcached_consul.memcached.MemcachedCache": "django_memcached_consul",
}

_OF_QUERY = {"alias": "db_namespace", "vendor": "db_system_name"}
_OF_CONNECTION = {"alias": "db_client_connection_pool_name", "vendor": "db_system_name"}

# Django sends these through the connection, where django-prometheus does not see them.
_NOT_EXECUTED = {"db_operation_name": ("COMMIT", "ROLLBACK")}


def _spec(name: str, documentation: str, labels: Mapping[str, str]) -> MetricSpec:
    return MetricSpec(name=f"django_{name}", documentation=documentation, labels=labels)


_NEW_CONNECTIONS = Translation(
    spec=_spec(
        "db_new_connections_total",
        "Counter of created connections by database and by vendor.",
        _OF_CONNECTION,
    ),
    values=_VENDORS,
)


def _model_counter(name: str, operation: str) -> Translation:
    return Translation(
        spec=_spec(f"model_{name}_total", f"Number of {name[:-1]} operations by model.", {"model": "model"}),
        where={"operation": (operation,)},
    )


def _cache_counter(name: str, documentation: str, *results: str) -> Translation:
    return Translation(
        spec=_spec(f"cache_{name}", documentation, {"backend": "backend"}),
        values=_BACKENDS,
        where={"operation": ("get", "get_many"), "result": results},
    )


def _migrations(state: str) -> tuple[Translation, ...]:
    documentation = f"Count of {state} migrations by database connection"
    labels = {"connection": "db_namespace"}
    return (Translation(spec=_spec(f"migrations_{state}_total", documentation, labels), kind="gauge"),)


TRANSLATIONS: Mapping[str, tuple[Translation, ...]] = {
    "db_client_operation_duration_seconds": (
        Translation(
            spec=_spec(
                "db_query_duration_seconds", "Histogram of query duration by database and vendor.", _OF_QUERY
            ),
            kind="histogram",
            values=_VENDORS,
            unless=_NOT_EXECUTED,
        ),
        Translation(
            spec=_spec(
                "db_execute_total", "Counter of executed statements by database and vendor.", _OF_QUERY
            ),
            values=_VENDORS,
            unless=_NOT_EXECUTED,
        ),
        Translation(
            spec=_spec(
                "db_errors_total",
                "Counter of execution errors by database, vendor and exception type.",
                {**_OF_QUERY, "type": "driver_error"},
            ),
            values=_VENDORS,
            unless={**_NOT_EXECUTED, "error_type": ("",)},
        ),
    ),
    "db_client_connection_opened_total": (_NEW_CONNECTIONS,),
    # django-prometheus counts a connection before it is opened.
    "db_client_connection_failures_total": (
        _NEW_CONNECTIONS,
        Translation(
            spec=_spec(
                "db_new_connection_errors_total",
                "Counter of connection failures by database and by vendor.",
                _OF_CONNECTION,
            ),
            values=_VENDORS,
        ),
    ),
    "cache_operations_total": (
        _cache_counter("get_total", "Total get requests on cache", "hit", "miss", "error"),
        _cache_counter("get_hits_total", "Total hits on cache", "hit"),
        _cache_counter("get_misses_total", "Total misses on cache", "miss"),
        _cache_counter("get_fail_total", "Total get request failures by cache", "error"),
    ),
    "django_model_changes_total": (
        _model_counter("inserts", "created"),
        _model_counter("updates", "changed"),
        _model_counter("deletes", "deleted"),
    ),
    MIGRATIONS_APPLIED: _migrations("applied"),
    MIGRATIONS_UNAPPLIED: _migrations("unapplied"),
}
"""The families by the default name of the family that each replaces."""
