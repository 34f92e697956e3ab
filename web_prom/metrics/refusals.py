"""Warnings about metrics of other exporters that a registry refuses because web-prom has their names."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any
from weakref import ref

from prometheus_client import CollectorRegistry

from web_prom.metrics.get_or_create import find, reserved_names

logger = logging.getLogger("web_prom")


def warn_of_refused_metrics(registry: CollectorRegistry, own: Collection[Any]) -> None:
    """Log a warning when a registry refuses a metric because web-prom has a metric with the same name.

    Some exporters ignore the error, so their metrics are missing without a message. The error is still
    raised. A second call for a registry does nothing.

    Args:
        registry: The registry.
        own: The metrics of web-prom. Metrics may be added later.
    """
    if "register" in vars(registry):
        return
    reference, register = ref(registry), type(registry).register
    warned: set[str] = set()

    def register_and_warn(collector: Any) -> None:
        current = reference()
        assert current is not None  # the caller has a reference
        try:
            register(current, collector)
        except ValueError:
            _warn(current, collector, own, warned)
            raise

    registry.register = register_and_warn  # type: ignore[method-assign]


def _warn(registry: CollectorRegistry, collector: Any, own: Collection[Any], warned: set[str]) -> None:
    try:
        taken = sorted(name for name in reserved_names(collector) if find(name, registry) in own)
        if taken and taken[0] not in warned:
            warned.add(taken[0])
            logger.warning(
                "another metric named %s was refused, because web-prom has registered one. Scrapes do not "
                "contain it. Remove it, or set PROM_NAMESPACE: it is put before the names of web-prom's "
                "metrics.",
                taken[0],
            )
    except Exception:
        logger.debug("a refused metric could not be examined", exc_info=True)
