"""Names, help, labels, buckets and label values of the families of caches."""

from __future__ import annotations

from typing import Literal

from web_prom.metrics.conventions import MetricSpec, same_names

OPERATIONS = MetricSpec(
    name="cache_operations_total",
    documentation="Operations of caches; of get_many the keys.",
    labels=same_names("cache", "operation", "result"),
)

DURATION = MetricSpec(
    name="cache_operation_duration_seconds",
    documentation="Seconds from the call of a cache operation to its end.",
    labels=same_names("cache", "operation", "result"),
)

DURATION_BUCKETS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
"""In seconds. A cache in memory answers in microseconds, a cache server in a millisecond."""

Result = Literal["hit", "miss", "ok", "error"]
"""What came of an operation.

``hit``, ``miss``
    The key was in the cache, or was not.
``ok``
    The operation ended without an exception.
``error``
    The operation raised an exception, or its backend returned keys that it could not store.
"""
