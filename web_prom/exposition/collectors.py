"""The collectors of a registry: which of them are custom, and which metrics are not in value files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.metrics import Counter, Gauge, Histogram, MetricWrapperBase, Summary
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from web_prom.multiprocess.reading.collector import WorkersCollector
from web_prom.multiprocess.reading.process_metrics import collect_process
from web_prom.upstream import registry as upstream_registry
from web_prom.upstream.children import callback_value, children_of, family_of, has_callback
from web_prom.upstream.registry import watches_own_process

_INSTRUMENTS_IN_FILES = (Counter, Gauge, Histogram, Summary)
# They read the value files, whose metrics are in the scrape already.
_FILE_READERS = (MultiProcessCollector, WorkersCollector)


class TargetInfo:
    """A collector for the labels of the target (``target_info``)."""

    __name__ = "target"

    def __init__(self, labels: dict[str, str]) -> None:
        self._labels = labels

    def collect(self) -> Iterable[Metric]:
        """Return the family."""
        family = Metric("target", "Target metadata", "info")
        family.add_sample("target_info", self._labels, 1)
        return [family]


# The collectors of prometheus_client and of this package. None of them waits for anything.
BUILTIN_COLLECTORS = (ProcessCollector, PlatformCollector, GCCollector, *_FILE_READERS, TargetInfo)


def collectors_of(registry: CollectorRegistry) -> list[Any]:
    """Return the collectors of a registry in the order of ``collect()``, with one for ``target_info``."""
    target = registry.get_target_info()
    return [*([TargetInfo(target)] if target else []), *upstream_registry.collectors_of(registry)]


def collectors_not_in_files(collectors: Iterable[Any]) -> Iterator[Any]:
    """Yield the collectors whose metrics are not in value files, except those about this process alone."""
    for collector in collectors:
        if isinstance(collector, (*_INSTRUMENTS_IN_FILES, *_FILE_READERS)):
            continue
        if not _is_about_this_process(collector):
            yield collector


def is_instrument(collector: Any) -> bool:
    """Return whether a collector is an instrument of prometheus_client, whose names its registry contains."""
    return isinstance(collector, MetricWrapperBase)


def is_custom(collector: Any) -> bool:
    """Return whether a collector is written by the user. It may wait, for example for a database."""
    return not isinstance(collector, (MetricWrapperBase, *BUILTIN_COLLECTORS))


def families_of(collector: Any) -> list[Metric]:
    """Return the families of a collector.

    Raises:
        UnreadableError: The collector watches a process that could not be read this time.
        Exception: What the collector raises.
    """
    return (
        collect_process(collector) if isinstance(collector, ProcessCollector) else list(collector.collect())
    )


def units_of(collectors: Iterable[Any]) -> dict[str, str]:
    """Return the units of instruments by name. The value files do not contain units."""
    families = [family_of(each) for each in collectors if isinstance(each, MetricWrapperBase)]
    return {family.name: family.unit for family in families if family.unit}


def store_callback_values(
    collectors: Iterable[Any], catch_errors: Callable[[Any], AbstractContextManager[None]]
) -> None:
    """Write the results of the callbacks of gauges (``Gauge.set_function``) to the value files.

    With shared values prometheus_client never calls them, and shows the initial zero of the gauge. Each
    process that answers a scrape stores its own results. Those of several processes are merged by
    ``multiprocess_mode``, as for any gauge.

    Args:
        collectors: The collectors of a registry.
        catch_errors: Returns the context in which the callback of a gauge is called.
    """
    for gauge in collectors:
        if isinstance(gauge, Gauge):
            for child in children_of(gauge):
                if has_callback(child):
                    with catch_errors(gauge):
                        child.set(callback_value(child))


def _is_about_this_process(collector: Any) -> bool:
    if isinstance(collector, ProcessCollector):
        # A collector with another process id watches, for example, a daemon. It is about the same process
        # in each worker.
        return watches_own_process(collector)
    return isinstance(collector, PlatformCollector | GCCollector)
