"""The switch to values that all workers share, and the take-over of instruments made before it."""

from __future__ import annotations

import os
import time
from threading import RLock
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, values
from prometheus_client.metrics import Counter, Gauge, Histogram, MetricWrapperBase, Summary

from web_prom.multiprocess.directory import VARIABLE, make_usable

_lock = RLock()


def is_shared() -> bool:
    """Tell whether new instruments write to the shared directory."""
    return bool(getattr(values.ValueClass, "_multiprocess", False))


def share_values(*registries: CollectorRegistry) -> bool:
    """Write to the shared directory if the environment names one, from now on and for what exists.

    prometheus_client reads the variable once, when it is imported: set later, it has no effect. This
    reads it when first asked, and carries the instruments of ``registries`` and of the default one over
    with their values. Safe to call from any thread, any number of times; call it before workers are
    forked or in each.

    Returns:
        Whether the switch happened in this call, so that anything bound to the old values is bound anew.

    Raises:
        DirectoryError: The directory cannot be made or written.
    """
    path = os.environ.get(VARIABLE)
    if not path:
        return False
    with _lock:
        make_usable(path)
        if is_shared():
            return False
        values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]
        for registry in {REGISTRY, *registries}:
            for collector in list(registry._collector_to_names):
                _carry_over(collector)
        return True


def _carry_over(collector: Any) -> None:
    """Give every child of an instrument a shared cell that begins with the value it had."""
    if not isinstance(collector, Counter | Gauge | Histogram | Summary):
        return
    children = getattr(collector, "_metrics", None)
    for child in [collector] if children is None else list(children.values()):
        before = _cells(child)
        child._metric_init()
        for old, new in zip(before, _cells(child), strict=True):
            if old.get():
                new.set(old.get(), timestamp=time.time())  # what the mode mostrecent goes by


def _cells(child: MetricWrapperBase) -> list[Any]:
    if isinstance(child, Histogram):
        return [child._sum, *child._buckets]
    if isinstance(child, Summary):
        return [child._count, child._sum]
    return [child._value]  # type: ignore[attr-defined]
