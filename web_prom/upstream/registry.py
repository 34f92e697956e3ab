"""Registries, prometheus_client's own collectors, and the text of numbers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import (
    PROCESS_COLLECTOR,
    CollectorRegistry,
    ProcessCollector,
    exposition,
    generate_latest,
)
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from web_prom.upstream.checks import PROBE, checked


def check_registry(registry: object, *methods: str) -> None:
    """Raise an error that says how to correct it if an argument is not a registry.

    Args:
        registry: What the caller gave.
        methods: The names of the methods that the registry must have.

    Raises:
        TypeError: The object is a class, or has not all of these methods.
    """
    if isinstance(registry, type) or not all(callable(getattr(registry, name, None)) for name in methods):
        raise TypeError(
            f"registry is {registry!r}, which is not a CollectorRegistry of prometheus_client; "
            "give an instance of it, or omit the argument to use the default registry"
        )


@checked("collectors of registries", "scrapes take longer, and fail if one collector fails")
def has_collectors() -> bool:
    """Check where a registry has its collectors. Without it, all attributes are searched."""
    registry, collector = CollectorRegistry(auto_describe=True), _Families([Metric(PROBE, "", "gauge")])
    registry.register(collector)
    return _collectors_of(registry) == [collector] and _find(registry, PROBE) is collector


def collectors_of(registry: CollectorRegistry) -> list[Any]:
    """Return what is registered, in the order of registration."""
    if has_collectors():
        return _collectors_of(registry)
    found = (list(each) for each in _mappings(registry) if all(hasattr(key, "collect") for key in list(each)))
    return next(filter(None, found), [])


def find_collector(registry: CollectorRegistry, name: str) -> Any:
    """Return the collector that has registered a name, or None."""
    if has_collectors():
        return _find(registry, name)
    return next((each[name] for each in _mappings(registry) if hasattr(each.get(name), "collect")), None)


def _mappings(registry: CollectorRegistry) -> list[dict[Any, Any]]:
    return [each for each in vars(registry).values() if isinstance(each, dict)]


def _collectors_of(registry: CollectorRegistry) -> list[Any]:
    return list(registry._collector_to_names)


def _find(registry: CollectorRegistry, name: str) -> Any:
    return registry._names_to_collectors.get(name)


def restriction_of(registry: Any) -> tuple[CollectorRegistry, frozenset[str]] | None:
    """Return the registry and the names of a ``RestrictedRegistry``; None if they cannot be found.

    Whatever the attributes are called, they are the only ones of their types.
    """
    attributes = vars(registry).values()
    registries = [each for each in attributes if isinstance(each, CollectorRegistry)]
    names = [each for each in attributes if isinstance(each, (set, frozenset))]
    if len(registries) != 1 or len(names) != 1:
        return None
    return registries[0], frozenset(names[0])


def locks_of(registry: CollectorRegistry) -> Iterator[Any]:
    """Give the locks of a registry, its collectors, their children and the values of those.

    Whatever the attributes are called: a lock is what can be reset in a fork.
    """
    yield from _locks(registry)
    for collector in collectors_of(registry):
        yield from _locks(collector)


def _locks(owner: Any, depth: int = 3) -> Iterator[Any]:
    for attribute in list(getattr(owner, "__dict__", {}).values()):
        if hasattr(attribute, "_at_fork_reinit"):
            yield attribute
        elif depth:
            several = attribute.values() if isinstance(attribute, dict) else attribute
            for each in list(several) if isinstance(attribute, (dict, list)) else (attribute,):
                if isinstance(each, MetricWrapperBase) or hasattr(each, "get_exemplar"):
                    yield from _locks(each, depth - 1)


# prometheus_client's own collectors ------------------------------------------------------------------


@checked("attributes of ProcessCollector", "process metrics may be missing from a scrape without an error")
def has_process_details() -> bool:
    """Check what follows about a ``ProcessCollector``. Without it, collectors are collected as they are."""
    collector = ProcessCollector(pid=lambda: " self ", proc=os.devnull, registry=None)
    if process_directory(collector) != (os.devnull, f"{os.devnull}/self") or has_boot_time(collector):
        return False
    set_boot_time(collector, 1.0)
    return has_boot_time(collector) and callable(_read_boot_time(collector))


def watches_own_process(collector: ProcessCollector) -> bool:
    """Return whether a collector shows the process that answers the scrape.

    Without :func:`has_process_details` only prometheus_client's own one does.
    """
    if has_process_details():
        return bool(collector._pid() == "self")
    return collector is PROCESS_COLLECTOR


def process_directory(collector: Any) -> tuple[str, str]:
    """Return the directory ``/proc`` of a collector, and that of its process: after the check."""
    return collector._proc, os.path.join(collector._proc, str(collector._pid()).strip())


def has_boot_time(collector: Any) -> bool:
    """Return whether a collector has read when the machine was started: after the check."""
    return bool(collector._btime)


def read_boot_time(collector: Any) -> float:
    """Return when the machine was started, as a collector reads it: after the check.

    Raises:
        OSError: It cannot be read.
    """
    return float(_read_boot_time(collector)())


def _read_boot_time(collector: Any) -> Callable[[], float]:
    read: Callable[[], float] = collector._boot_time
    return read


def set_boot_time(collector: Any, seconds: float) -> None:
    """Give a collector the time when the machine was started: after the check."""
    collector._btime = seconds


@checked("method that merges samples", "families that files have with different types are not in scrapes")
def has_merging() -> bool:
    """Check :func:`merge_samples`. Without it, samples are not merged."""
    metric = Metric(PROBE, "", "gauge")
    for pid, value in (("1", 1.0), ("2", 2.0)):
        metric.add_sample(PROBE, (("a", "x"), ("pid", pid)), value)  # type: ignore[arg-type]
    samples = _merge_samples(metric, "max").samples
    return [(sample.name, sample.labels, sample.value) for sample in samples] == [(PROBE, {"a": "x"}, 2.0)]


def merge_samples(metric: Metric, multiprocess_mode: str) -> Metric:
    """Return a family whose samples are merged as prometheus_client does it: after :func:`has_merging`.

    Args:
        metric: The family. The labels of its samples are pairs.
        multiprocess_mode: The mode of a gauge.
    """
    return _merge_samples(metric, multiprocess_mode)


def _merge_samples(metric: Any, mode: str) -> Metric:
    metric._multiprocess_mode = mode
    merge: Any = MultiProcessCollector._accumulate_metrics
    (merged,) = merge({metric.name: metric}, True)
    return merged  # type: ignore[no-any-return]


# Numbers ---------------------------------------------------------------------------------------------


def _encoded(value: float) -> str:
    """Return a number as prometheus_client's text format has it."""
    family = Metric(PROBE, "", "gauge")
    family.add_sample(PROBE, {}, value)
    return generate_latest(_Families([family])).split()[-1].decode()


class _Families:
    """A registry of some families."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


float_text: Callable[[float], str] = getattr(exposition, "floatToGoString", _encoded)
"""Return a number as text, as Go writes it. Without prometheus_client's function, a family is encoded."""
