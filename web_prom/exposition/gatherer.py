"""The content of one scrape: of one process, or of all workers that share a directory."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from time import perf_counter
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import RestrictedRegistry

from web_prom import family_names
from web_prom.exposition.collector_errors import CollectorErrorHandler
from web_prom.exposition.collectors import (
    collectors_not_in_files,
    collectors_of,
    families_of,
    is_custom,
    is_instrument,
    store_callback_values,
    units_of,
)
from web_prom.exposition.encoding.encoder import Encode, MetricSource
from web_prom.exposition.encoding.registry_encoder import RegistryEncoder
from web_prom.exposition.encoding.text_builder import TextBuilder, join_parts
from web_prom.exposition.scrape_context import ContextFactory
from web_prom.metrics.families import existing_families
from web_prom.multiprocess.directory.environment import DIR_VARIABLE
from web_prom.multiprocess.directory.server_directory import server_pid
from web_prom.multiprocess.reading.collector import WorkersCollector, collector_for
from web_prom.multiprocess.reading.process_metrics import process_families
from web_prom.multiprocess.writing.activation import is_shared
from web_prom.multiprocess.writing.current_storage import recover_files
from web_prom.runtime import this_process
from web_prom.runtime.backlog import Backlog
from web_prom.runtime.process_details import process_detail_families
from web_prom.upstream.registry import check_registry, has_collectors, restriction_of


class Gatherer:
    """Gathers the metrics of one registry, or of a shared directory without a registry.

    Safe to share between threads and to use after a fork.

    Args:
        registry: The registry of the application, or any object with a ``collect()``. None if there is no
            application.
        directory: The shared directory. None to use the directory that this process writes to, if it does.
        collector_timeout: The seconds that custom collectors may take; 0 for no limit.
        context: Returns the context manager of the application that answers
            (:mod:`web_prom.exposition.scrape_context`).
        process_details: Whether threads, page faults and context switches of the processes are collected.

    Raises:
        TypeError: The registry has no ``collect()``.

    Attributes:
        context: The context managers that the caller enters around a scrape.
    """

    def __init__(
        self,
        registry: MetricSource | None,
        directory: str | None = None,
        *,
        collector_timeout: float,
        context: ContextFactory | None = None,
        process_details: bool = False,
    ) -> None:
        if registry is not None:
            check_registry(registry, "collect")
        self._source = registry
        self._directory = directory
        self._registry: MetricSource | None = registry
        self._names: frozenset[str] | None = None
        if isinstance(registry, RestrictedRegistry) and (found := restriction_of(registry)) is not None:
            self._registry, self._names = found
        self._error_handler = CollectorErrorHandler(self._registry, collector_timeout, context)
        self.context = self._error_handler.context
        self._encoder = RegistryEncoder()
        self._backlog = Backlog()
        self._process_details = process_details

    def gather(self, encode: Encode, content_type: str, names: Collection[str] | None) -> bytes:
        """Return the text of a scrape.

        Args:
            encode: The encoder of prometheus_client for the format.
            content_type: The format.
            names: The names of the wanted samples; None for all samples.

        Raises:
            Exception: What a source raises that is not a registry, or what prevents the reading of the
                value files.
        """
        started = perf_counter()
        self._prepare_recorders()
        directory = self._directory or (os.environ.get(DIR_VARIABLE) if is_shared() else None)
        if directory:
            if self._names is not None:
                names = self._names if names is None else self._names.intersection(names)
            text = TextBuilder(encode, content_type, names)
            # An exporter does not write to the directory, unless it belongs to the server.
            merging = self._directory is None or server_pid() is not None
            about_workers = self._add_all_workers(text, collector_for(directory, merging=merging))
        else:
            text = TextBuilder(encode, content_type, names)
            self._add_this_process(text)
            about_workers = []
        series = _gauge(
            family_names.SCRAPE_SERIES, "Samples in this scrape, without those about the scrape.", text.series
        )
        text.add([*about_workers, series])
        seconds = perf_counter() - started
        text.add([_gauge(family_names.SCRAPE_DURATION, "Duration of this scrape in seconds.", seconds)])
        return text.finish()

    def _prepare_recorders(self) -> None:
        """Have the recorders write what they only write at a scrape."""
        families = None if self._registry is None else existing_families(self._registry)
        if families is not None:
            for recorder in list(families.recorders):
                recorder.on_scrape()

    def _add_this_process(self, text: TextBuilder) -> None:
        """Add the metrics of this process, as prometheus_client would write them."""
        source = self._source
        if not (isinstance(source, CollectorRegistry) and _is_unmodified(source) and has_collectors()):
            text.add(() if source is None else source.collect())
            return
        custom = self._error_handler.collect(each for each in collectors_of(source) if is_custom(each))
        custom_families = {id(collector): families for collector, families in custom}
        # Read again, because the counter of failures may have been registered meanwhile.
        collectors = collectors_of(source)
        # If two collectors use one name, the instrument has precedence, as with shared values.
        for position, collector in sorted(enumerate(collectors), key=lambda item: _precedence(item[1])):
            with self._error_handler.catch_errors(collector), text.at_position(position):
                if is_instrument(collector):
                    text.add_instrument(collector, self._encoder)
                elif id(collector) in custom_families:
                    self._add_unique(text, collector, custom_families[id(collector)])
                else:
                    self._add_unique(text, collector, families_of(collector))
        self._encoder.retain(collectors)
        # Without a measured application there are no workers, and no requests that could wait.
        if existing_families(self._registry) is not None:
            self._add_unique(text, this_process, this_process.measurements.families("0", shared=False))
            self._add_runtime(text, {"": os.getpid()})

    def _add_all_workers(self, text: TextBuilder, collector: WorkersCollector) -> list[Metric]:
        """Add the merged metrics of all workers, then the other metrics of this process.

        Returns:
            The metrics about the workers and their files.
        """
        registered = self._registered()
        recover_files()
        this_process.publish()
        # Before the files are read, so that values that the collectors write are in the scrape.
        custom = self._error_handler.collect(collectors_not_in_files(registered))
        store_callback_values(registered, self._error_handler.catch_errors)
        text.add_merged(collector, units_of(registered))
        workers, server = collector.workers, server_pid()
        for source, families in ((process_families, process_families(workers)), *custom):
            self._add_unique(text, source, families)
        self._add_runtime(text, {str(slot): pid for slot, pid in workers.items() if pid != server})
        return [
            _gauge(
                "web_prom_workers",
                "Processes that write metrics now, without the server's own, which handles no requests.",
                sum(pid != server for pid in workers.values()),
            ),
            _gauge("web_prom_files", "Value files, including those of past workers.", collector.files),
            _gauge(
                family_names.DAMAGED_FILES, "Value files that could not be read.", collector.corrupt_files
            ),
            _gauge(
                "web_prom_ambiguous_families",
                "Families whose samples have different labels, because two libraries use one name.",
                collector.ambiguous_families,
            ),
        ]

    def _add_unique(self, text: TextBuilder, source: Any, families: Iterable[Metric]) -> None:
        """Add the families of one source, except those whose names another source has used.

        A source can yield a family several times: OpenTelemetry once per scope, and other collectors once per
        item. What is not a family, or cannot be written, is counted as a failure of the source.
        """
        parts: dict[tuple[str, str], list[Metric]] = {}
        for family in families:
            with self._error_handler.catch_errors(source):
                name, kind = family.name, family.type
                if not (isinstance(name, str) and isinstance(kind, str)):
                    raise TypeError(f"name {name!r} and type {kind!r} of a family; both must be text")
                parts.setdefault((name, kind), []).append(family)
        source_names: set[bytes] = set()
        for same in parts.values():
            with self._error_handler.catch_errors(source):
                text.add_unique(join_parts(same), source_names)

    def _add_runtime(self, text: TextBuilder, pids: Mapping[str, int]) -> None:
        """Add the metrics that the system has about the processes of the server, by the label ``worker``."""
        self._add_unique(text, self._backlog, self._backlog.families(pids.values(), server=server_pid()))
        if self._process_details:
            self._add_unique(text, process_detail_families, process_detail_families(pids))

    def _registered(self) -> list[Any]:
        """Return the collectors of the application."""
        if isinstance(self._registry, CollectorRegistry):
            return collectors_of(self._registry)
        return [] if self._registry is None else [self._registry]


def _is_unmodified(registry: CollectorRegistry) -> bool:
    return type(registry).collect is CollectorRegistry.collect


def _precedence(collector: Any) -> int:
    return 0 if is_instrument(collector) else 2 if is_custom(collector) else 1


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(name, documentation, value=value)
