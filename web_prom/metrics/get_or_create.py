"""One definition for each metric name: get the instrument that exists, or make it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from threading import RLock
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary
from prometheus_client.metrics import MetricWrapperBase

from web_prom.errors import ConflictError
from web_prom.upstream.children import family_of, has_children, label_names, options_of
from web_prom.upstream.registry import find_collector, has_collectors

Instrument = TypeVar("Instrument", bound=MetricWrapperBase)

_lock = RLock()
_places: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
# What was made here, for find() where the registry cannot be asked.
_made: WeakKeyDictionary[CollectorRegistry, WeakValueDictionary[str, Any]] = WeakKeyDictionary()

_TYPES: dict[type, str] = {
    Counter: "counter",
    Gauge: "gauge",
    Histogram: "histogram",
    Summary: "summary",
    Info: "info",
    Enum: "stateset",
}
# What a registry reserves for a family beside its name.
_SUFFIXES = {
    "counter": ("_total", "_created"),
    "summary": ("_sum", "_count", "_created"),
    "histogram": ("_bucket", "_sum", "_count", "_created"),
    "gaugehistogram": ("_bucket", "_gsum", "_gcount"),
    "info": ("_info",),
}


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
            owners = (find(taken, registry) for taken in reserved_names(made))
            existing = next((owner for owner in owners if owner is not None), None)
            if existing is None:
                registry.register(made)
                _places[made] = place
                _made.setdefault(registry, WeakValueDictionary())[family_of(made).name] = made
                return made
        wanted = _definition(kind, name, documentation, labelnames, options)
        found = _definition_of(existing)
        if not isinstance(existing, kind) or any(wanted.get(part) != found[part] for part in found):
            raise ConflictError(
                f"{_full_name(kind, name, options)} is defined twice, and differently:\n"
                f"  {_shown(found)} at {_places.get(existing, 'a place not recorded')}\n"
                f"  {_shown(wanted)} at {place}\n"
                "Make the two definitions equal, or give one of them another name."
            )
        return existing


def find(full_name: str, registry: CollectorRegistry) -> Any:
    """Return the collector that owns ``full_name`` in ``registry``, or None.

    If the names of the registry cannot be read (``upstream.registry.has_collectors``), it is a metric that
    :func:`get_or_create` has made, as long as the registry collects it.
    """
    if has_collectors():
        return find_collector(registry, full_name)
    made = _made.get(registry, WeakValueDictionary()).get(full_name)
    if made is not None and any(family.name == full_name for family in registry.collect()):
        return made
    return None


def reserved_names(collector: Any) -> list[str]:
    """Return the names that a registry reserves for a collector, whether or not it is registered.

    Raises:
        Exception: What ``describe()`` raises, or ``collect()`` of a collector that has no ``describe()``.
    """
    families = collector.describe() if hasattr(collector, "describe") else collector.collect()
    return [family.name + suffix for family in families for suffix in ("", *_SUFFIXES.get(family.type, ()))]


def _type_of(kind: type[MetricWrapperBase]) -> str:
    return next((name for base, name in _TYPES.items() if issubclass(kind, base)), kind.__name__)


def _full_name(kind: type[MetricWrapperBase], name: str, options: dict[str, Any]) -> str:
    parts = [options.get("namespace", ""), options.get("subsystem", ""), name]
    full = "_".join(part for part in parts if part)
    if _type_of(kind) == "counter":
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
    type_name = _type_of(kind)
    definition = {
        "type": type_name,
        "name": _full_name(kind, name, options),
        "documentation": documentation,
        "labels": labelnames,
        "unit": options.get("unit", ""),
    }
    if type_name == "histogram":
        default = getattr(kind, "DEFAULT_BUCKETS", ())
        bounds = [float(bound) for bound in options.get("buckets", default)]
        definition["buckets"] = bounds if bounds[-1:] == [float("inf")] else [*bounds, float("inf")]
    if type_name == "gauge":
        definition["multiprocess_mode"] = options.get("multiprocess_mode", "all")
    if type_name == "stateset":
        definition["states"] = list(options.get("states") or ())
    return definition


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


def _shown(definition: dict[str, Any]) -> str:
    rest = ", ".join(f"{key}={value!r}" for key, value in definition.items() if key != "type" and value)
    return f"{definition['type']}({rest})"
