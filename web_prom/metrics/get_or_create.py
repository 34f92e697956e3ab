"""One definition for each metric name: get the instrument that exists, or make it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from threading import RLock
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from web_prom.errors import ConflictError

Instrument = TypeVar("Instrument", bound=MetricWrapperBase)

_lock = RLock()
_places: WeakKeyDictionary[Any, str] = WeakKeyDictionary()

# What a type adds to its definition, and the attribute that keeps it (the same from 0.20 to 0.26).
_OPTIONS = {"buckets": "_upper_bounds", "multiprocess_mode": "_multiprocess_mode", "states": "_states"}


def get_or_create(
    kind: type[Instrument],
    name: str,
    documentation: str,
    labelnames: Iterable[str] = (),
    *,
    registry: CollectorRegistry = REGISTRY,
    **options: Any,
) -> Instrument:
    """Return the instrument of this definition, making it if the registry has none.

    For modules that are imported twice (under two names, by a reloader, by a test suite), where
    prometheus_client raises "Duplicated timeseries".

    Args:
        kind: ``Counter``, ``Gauge``, ``Histogram``, ``Summary``, ``Info`` or ``Enum``.
        name: The metric's name, as given to ``kind``.
        documentation: The help text.
        labelnames: Names of the labels, in order.
        registry: Where the instrument is, or will be, registered.
        **options: What else ``kind`` takes: ``namespace``, ``subsystem``, ``unit``, ``buckets``,
            ``multiprocess_mode``, ``states``.

    Raises:
        ConflictError: The registry has this name with another definition; the message shows both.
        ValueError: prometheus_client refuses the definition itself.

    Safe to call from any thread.
    """
    labelnames = tuple(labelnames)
    caller = sys._getframe(1)
    place = f"{caller.f_code.co_filename}:{caller.f_lineno}"
    with _lock:
        existing = find(_full_name(kind, name, options), registry)
        if existing is None:
            made = kind(name, documentation, labelnames, registry=None, **options)
            # A histogram x also owns x_count; prometheus_client would name that and neither definition.
            owners = (find(taken, registry) for taken in registry._get_names(made))  # type: ignore[no-untyped-call]
            existing = next((owner for owner in owners if owner is not None), None)
            if existing is None:
                registry.register(made)
                _places[made] = place
                return made
        wanted = _definition(kind, name, documentation, labelnames, options)
        if not isinstance(existing, kind) or _definition_of(existing) != wanted:
            raise ConflictError(
                f"{_full_name(kind, name, options)} is defined twice, and differently:\n"
                f"  {_shown(_definition_of(existing))} at {_places.get(existing, 'a place not recorded')}\n"
                f"  {_shown(wanted)} at {place}\n"
                "Make the two definitions equal, or give one of them another name."
            )
        return existing


def find(full_name: str, registry: CollectorRegistry) -> Any:
    """Return the collector that owns ``full_name`` in ``registry``, or None."""
    return registry._names_to_collectors.get(full_name)


def _full_name(kind: type[MetricWrapperBase], name: str, options: dict[str, Any]) -> str:
    parts = [options.get("namespace", ""), options.get("subsystem", ""), name]
    full = "_".join(part for part in parts if part)
    if kind._type == "counter":
        full = full.removesuffix("_total")
    unit = options.get("unit", "")
    return f"{full}_{unit}" if unit and not full.endswith(f"_{unit}") else full


def _definition(
    kind: type[MetricWrapperBase],
    name: str,
    documentation: str,
    labelnames: tuple[str, ...],
    options: dict[str, Any],
) -> dict[str, Any]:
    definition = {
        "type": kind._type,
        "name": _full_name(kind, name, options),
        "documentation": documentation,
        "labels": labelnames,
        "unit": options.get("unit", ""),
    }
    if kind._type == "histogram":
        default = getattr(kind, "DEFAULT_BUCKETS", ())
        bounds = [float(bound) for bound in options.get("buckets", default)]
        definition["buckets"] = bounds if bounds[-1:] == [float("inf")] else [*bounds, float("inf")]
    if kind._type == "gauge":
        definition["multiprocess_mode"] = options.get("multiprocess_mode", "all")
    if kind._type == "stateset":
        definition["states"] = list(options.get("states") or ())
    return definition


def _definition_of(existing: Any) -> dict[str, Any]:
    definition = {
        "type": getattr(existing, "_type", type(existing).__name__),
        "name": getattr(existing, "_name", "?"),
        "documentation": getattr(existing, "_documentation", "?"),
        "labels": tuple(getattr(existing, "_labelnames", ())),
        "unit": getattr(existing, "_unit", ""),
    }
    for option, attribute in _OPTIONS.items():
        if hasattr(existing, attribute):
            value = getattr(existing, attribute)
            definition[option] = value if isinstance(value, str) else list(value)
    return definition


def _shown(definition: dict[str, Any]) -> str:
    rest = ", ".join(f"{key}={value!r}" for key, value in definition.items() if key != "type" and value)
    return f"{definition['type']}({rest})"
