"""One definition for each metric name: return the existing metric, or create it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from threading import RLock
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from web_prom.errors import ConflictError
from web_prom.upstream.children import family_of, has_children, label_names, options_of
from web_prom.upstream.registry import check_registry, find_collector
from web_prom.upstream.value_class import make_without_values

MetricType = TypeVar("MetricType", bound=MetricWrapperBase)

_lock = RLock()
_locations: WeakKeyDictionary[Any, str] = WeakKeyDictionary()

# The suffixes of the names that a registry reserves for a family, in addition to the name itself.
_SUFFIXES = {
    "counter": ("_total", "_created"),
    "summary": ("_sum", "_count", "_created"),
    "histogram": ("_bucket", "_sum", "_count", "_created"),
    "gaugehistogram": ("_bucket", "_gsum", "_gcount"),
    "info": ("_info",),
}


def get_or_create(
    kind: type[MetricType],
    name: str,
    documentation: str,
    labelnames: Iterable[str] = (),
    *,
    registry: CollectorRegistry = REGISTRY,
    **options: Any,
) -> MetricType:
    """Return the metric with this definition. Create it if the registry has none.

    It is for modules that are imported twice (under two names, by a reloader, by a test suite), for which
    prometheus_client raises "Duplicated timeseries". Safe to call from any thread.

    Args:
        kind: ``Counter``, ``Gauge``, ``Histogram``, ``Summary``, ``Info``, ``Enum``, or a subclass of one.
        name: The metric's name, as given to ``kind``.
        documentation: The help text.
        labelnames: Names of the labels, in order.
        registry: The registry of the metric.
        **options: Further arguments of ``kind``: ``namespace``, ``subsystem``, ``unit``, ``buckets``,
            ``multiprocess_mode``, ``states``.

    Raises:
        ConflictError: The registry has this name with another definition. The message shows both.
        ValueError: prometheus_client does not accept the definition.
        TypeError: ``registry`` is not a registry.
    """
    caller = sys._getframe(1)
    location = f"{caller.f_code.co_filename}:{caller.f_lineno}"
    return get_or_create_at(location, kind, name, documentation, labelnames, registry=registry, **options)


def get_or_create_at(
    location: str,
    kind: type[MetricType],
    name: str,
    documentation: str,
    labelnames: Iterable[str] = (),
    *,
    registry: CollectorRegistry = REGISTRY,
    **options: Any,
) -> MetricType:
    """Do what :func:`get_or_create` does, for a definition at another place.

    Args:
        location: Where the definition is, for the message of a ConflictError.
        kind: As the arguments below, those of :func:`get_or_create`.
        name: See there.
        documentation: See there.
        labelnames: See there.
        registry: See there.
        **options: See there.
    """
    check_registry(registry, "collect", "register")
    labelnames = tuple(labelnames)
    # Two metrics are made with the options.
    options = {
        name: list(option) if isinstance(option, Iterator) else option for name, option in options.items()
    }
    with _lock:
        # Its definition includes what a subclass of the user adds to the arguments.
        wanted = make_without_values(kind, name, documentation, labelnames, registry=None, **options)
        # A histogram x also owns x_count. The error of prometheus_client would show x_count, and neither
        # of the definitions.
        owners = (find(reserved, registry) for reserved in reserved_names(wanted))
        existing = next((owner for owner in owners if owner is not None), None)
        if existing is None:
            created = kind(name, documentation, labelnames, registry=None, **options)
            registry.register(created)
            _locations[created] = location
            return created
        definition, found = _definition_of(wanted), _definition_of(existing)
        if not isinstance(existing, kind) or definition != found:
            raise ConflictError(
                f"{definition['name']} is defined twice, and differently:\n"
                f"  {_format(found)} at {_locations.get(existing, 'an unknown location')}\n"
                f"  {_format(definition)} at {location}\n"
                "Make the two definitions equal, or give one of them another name."
            )
        return existing


def find(full_name: str, registry: CollectorRegistry) -> Any:
    """Return the collector that owns ``full_name`` in ``registry``, or None."""
    return find_collector(registry, full_name)


def reserved_names(collector: Any) -> list[str]:
    """Return the names that a registry reserves for a collector, whether or not it is registered.

    Raises:
        Exception: Any exception of ``describe()``, or of ``collect()`` if there is no ``describe()``.
    """
    families = collector.describe() if hasattr(collector, "describe") else collector.collect()
    return [family.name + suffix for family in families for suffix in ("", *_SUFFIXES.get(family.type, ()))]


def _definition_of(existing: Any) -> dict[str, Any]:
    if not isinstance(existing, MetricWrapperBase):
        return {"type": type(existing).__name__, "name": "?", "documentation": "?", "labels": (), "unit": ""}
    family = family_of(existing)
    definition = {
        "type": family.type,
        "name": family.name,
        "documentation": family.documentation,
        **({"labels": tuple(label_names(existing))} if has_children() else {}),
        "unit": family.unit,
    }
    return {**definition, **options_of(existing)}


def _format(definition: dict[str, Any]) -> str:
    rest = ", ".join(f"{key}={value!r}" for key, value in definition.items() if key != "type" and value)
    return f"{definition['type']}({rest})"
