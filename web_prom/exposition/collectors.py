"""What a registry has and no value file: custom collectors, Info, Enum, callbacks of gauges, units."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.metrics import Counter, Gauge, Histogram, MetricWrapperBase, Summary
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from web_prom.errors import UnreadableError
from web_prom.exposition.collector_threads import CollectorExecutor
from web_prom.exposition.scrape_context import ContextFactory, ScrapeContext
from web_prom.metrics.families import error_counter
from web_prom.multiprocess.reading.collector import WorkersCollector
from web_prom.multiprocess.reading.process_metrics import collect_process
from web_prom.upstream import registry as upstream_registry
from web_prom.upstream.children import callback_value, children_of, family_of, has_callback, has_children
from web_prom.upstream.registry import watches_own_process

logger = logging.getLogger("web_prom")

_IN_FILES = (Counter, Gauge, Histogram, Summary)
# They read the files: whose numbers they give is in the scrape already.
_READERS = (MultiProcessCollector, WorkersCollector)


class CollectorErrorHandler:
    """Lets a collector that fails, or is late, cost its own families, and nothing else.

    Safe to share between threads.

    Args:
        registry: Where failures are counted; if it is none, they are only logged.
        limit: Seconds that custom collectors may take; 0 for no limit.
        context: The context manager of the application that answers.

    Attributes:
        context: What is entered around each answer; collectors in their own threads enter it as well.
    """

    def __init__(self, registry: Any, limit: float, context: ContextFactory | None = None) -> None:
        self._failures = _Failures(registry)
        self.context = ScrapeContext(registry, context, self._failures.count)
        self._collecting = CollectorExecutor(limit, self.context.enter)

    def collect(self, collectors: Iterable[Any]) -> list[tuple[Any, list[Metric]]]:
        """Return collectors, each with its families: none where it fails, which is counted."""
        given = list(collectors)
        begun = self._collecting.start([each for each in given if is_custom(each)])
        found: list[tuple[Any, list[Metric]]] = []
        for collector in given:
            families: list[Metric] = []
            with self.of(collector):
                run = begun.get(id(collector))
                families = families_of(collector) if run is None else run()
            found.append((collector, families))
        return found

    @contextlib.contextmanager
    def of(self, collector: Any) -> Iterator[None]:
        """Count what is raised within, and log the first of each collector.

        Raises:
            UnreadableError: The same, because there is to be no scrape.
        """
        try:
            yield
        except UnreadableError:
            raise
        except Exception:
            self._failures.count(f"collector {name_of(collector)}", "scrapes are without its metrics")


class _Failures:
    """Counts failures of a registry's scrapes, and logs the first of each kind."""

    def __init__(self, registry: Any) -> None:
        self._registry = registry if isinstance(registry, CollectorRegistry) else None
        self._warned: set[tuple[str, type[BaseException] | None]] = set()

    def count(self, stage: str, consequence: str) -> None:
        """Count the exception that is being handled. Never raises."""
        try:
            kind = sys.exc_info()[0]
            if (stage, kind) not in self._warned:
                self._warned.add((stage, kind))
                logger.warning(
                    f"the %s failed, and {consequence}; counted in web_prom_instrumentation_errors_total",
                    stage,
                    exc_info=True,
                )
            if self._registry is not None:
                error_counter(self._registry).labels(stage).inc()
        except Exception:
            logger.debug("an error of the %s could not be counted", stage, exc_info=True)


def name_of(collector: Any) -> str:
    """Return an instrument's own name, or the name of a collector's class: one of a list that is bounded."""
    if isinstance(collector, MetricWrapperBase):
        return family_of(collector).name
    return str(getattr(collector, "__name__", type(collector).__name__))


def collectors_of(registry: CollectorRegistry) -> list[Any]:
    """Return what is registered, and what tells of the target, in upstream's order.

    If the collectors of the registry cannot be found, the registry is one collector itself.
    """
    registered = upstream_registry.collectors_of(registry)
    if registered is None:
        return [WholeRegistry(registry)]
    # As registry.collect() has it, but each by itself.
    target = registry.get_target_info()
    return [*([_Target(target)] if target else []), *registered]


def not_in_files(collectors: Iterable[Any]) -> Iterator[Any]:
    """Give those whose metrics the value files do not have, and that are not of one process alone."""
    for collector in collectors:
        if not isinstance(collector, (*_IN_FILES, *_READERS)) and not _is_of_this_process(collector):
            yield collector


def is_instrument(collector: Any) -> bool:
    """Tell whether a collector is an instrument of prometheus_client, whose names its registry knows."""
    return isinstance(collector, MetricWrapperBase)


def is_custom(collector: Any) -> bool:
    """Tell whether a collector is the user's own, which may ask a database, say, and wait for it."""
    return not isinstance(collector, (MetricWrapperBase, *BUILTIN_COLLECTORS))


def store_callbacks(collectors: Iterable[Any], guard: CollectorErrorHandler) -> None:
    """Write what the callbacks of gauges give (``Gauge.set_function``) to the value files.

    With shared values prometheus_client never calls them, and shows the zero that the gauge began with.
    Each process that answers a scrape does so for itself; ``multiprocess_mode`` then says, as
    for any gauge, what several make together.
    """
    for gauge in collectors if has_children() else ():
        if isinstance(gauge, Gauge):
            for child in children_of(gauge):
                if has_callback(child):
                    with guard.of(gauge):
                        child.set(callback_value(child))


def units_of(collectors: Iterable[Any]) -> dict[str, str]:
    """Return the units of instruments by name: the value files do not have them."""
    families = [family_of(each) for each in collectors if isinstance(each, MetricWrapperBase)]
    return {family.name: family.unit for family in families if family.unit}


class _Target:
    """The labels of the target (``target_info``) as a collector."""

    __name__ = "target"

    def __init__(self, labels: dict[str, str]) -> None:
        self._labels = labels

    def collect(self) -> Iterable[Metric]:
        family = Metric("target", "Target metadata", "info")
        family.add_sample("target_info", self._labels, 1)
        return [family]


class WholeRegistry:
    """All metrics of a registry whose collectors cannot be found, where values are shared.

    Those of this process alone are left out. Those that are in value files have to be left out too.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        """Return the families that have samples."""
        families = [family for each in _OF_ONE_PROCESS for family in each.collect()]
        names = {family.name for family in families}
        return [each for each in self._registry.collect() if each.samples and each.name not in names]


_OF_ONE_PROCESS = (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR)

# prometheus_client's and ours, of which none waits for anything.
BUILTIN_COLLECTORS = (ProcessCollector, PlatformCollector, GCCollector, *_READERS, _Target)


def families_of(collector: Any) -> list[Metric]:
    """Return what a collector has.

    Raises:
        UnreadableError: It watches a process that could not be read this time.
        Exception: What the collector raises.
    """
    return (
        collect_process(collector) if isinstance(collector, ProcessCollector) else list(collector.collect())
    )


def _is_of_this_process(collector: Any) -> bool:
    if isinstance(collector, ProcessCollector):
        # One with a process id of its own watches a daemon, say, whoever answers the scrape.
        return watches_own_process(collector)
    return isinstance(collector, PlatformCollector | GCCollector)
