"""Metrics of other exporters that a registry refuses, because web-prom's families have their names."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any
from weakref import ref

from prometheus_client import CollectorRegistry

logger = logging.getLogger("web_prom")


def watch_refusals(registry: CollectorRegistry, own: Collection[Any]) -> None:
    """Log a warning when a registry refuses a metric for the name of one of ours.

    Some exporters swallow the error, and their metrics are silently missing. The error is raised all the
    same. A second call for a registry does nothing.

    Args:
        registry: The registry.
        own: Our families, now and later.
    """
    if "register" in vars(registry):
        return
    reference, register = ref(registry), type(registry).register
    warned: set[str] = set()

    def watched(collector: Any) -> None:
        current = reference()
        assert current is not None  # whoever calls has it
        try:
            register(current, collector)
        except ValueError:
            _warn(current, collector, own, warned)
            raise

    registry.register = watched  # type: ignore[method-assign]


def _warn(registry: CollectorRegistry, collector: Any, own: Collection[Any], warned: set[str]) -> None:
    try:
        names = registry._get_names(collector)  # type: ignore[no-untyped-call]
        taken = sorted(name for name in names if registry._names_to_collectors.get(name) in own)
        if taken and taken[0] not in warned:
            warned.add(taken[0])
            logger.warning(
                "another metric named %s was refused, because web-prom has registered one. Scrapes lack "
                "it: remove it, or set PROM_NAMESPACE, which stands before web-prom's names.",
                taken[0],
            )
    except Exception:
        logger.debug("a refused metric could not be looked at", exc_info=True)
