"""What one scrape collects, in which order: of one process, or of all workers that share a directory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable
from time import perf_counter
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import RestrictedRegistry

from web_prom.errors import ConflictError
from web_prom.exposition.collectors import (
    CollectorErrorHandler,
    WholeRegistry,
    collectors_of,
    families_of,
    is_custom,
    is_instrument,
    not_in_files,
    store_callbacks,
    units_of,
)
from web_prom.exposition.encoding.encoder import Encode
from web_prom.exposition.encoding.registry_encoder import RegistryEncoder
from web_prom.exposition.encoding.text_builder import TextBuilder, join_families
from web_prom.exposition.scrape_context import ContextFactory
from web_prom.metrics.families import existing_families
from web_prom.multiprocess.directory.environment import DIR_VARIABLE
from web_prom.multiprocess.directory.server_directory import server_pid
from web_prom.multiprocess.reading.collector import WorkersCollector, collector_for
from web_prom.multiprocess.reading.process_metrics import process_families
from web_prom.multiprocess.writing.activation import is_shared
from web_prom.multiprocess.writing.process_files import look
from web_prom.upstream.registry import has_collectors, restriction_of


class Gatherer:
    """Scrapes one registry, or a directory alone.

    Safe to share between threads and to use after a fork.

    Args:
        registry: The application's; anything with a ``collect()``, or None where there is no application.
        directory: What the workers share; None to see at each scrape whether this process shares one.
        collector_timeout: Seconds that custom collectors may take; 0 for no limit.
        context: The context manager of the application that answers
            (:mod:`web_prom.exposition.scrape_context`).

    Attributes:
        context: What a caller enters around a scrape.
    """

    def __init__(
        self,
        registry: Any,
        directory: str | None = None,
        *,
        collector_timeout: float,
        context: ContextFactory | None = None,
    ) -> None:
        self._source = registry
        self._directory = directory
        self._registry = registry
        self._names: frozenset[str] | None = None
        if isinstance(registry, RestrictedRegistry) and (found := restriction_of(registry)) is not None:
            self._registry, self._names = found
        self._guard = CollectorErrorHandler(self._registry, collector_timeout, context)
        self.context = self._guard.context
        self._encoder = RegistryEncoder()

    def gather(self, encode: Encode, content_type: str, names: Collection[str] | None) -> bytes:
        """Return the text of a scrape.

        Args:
            encode: Upstream's encoder of the format.
            content_type: The format.
            names: The samples that are wanted; None for all.

        Raises:
            Exception: What a source raises that is no registry, and what keeps the files from being read.
        """
        begun = perf_counter()
        self._settle()
        directory = self._directory or (os.environ.get(DIR_VARIABLE) if is_shared() else None)
        if directory:
            if self._names is not None:
                names = self._names if names is None else self._names.intersection(names)
            text = TextBuilder(encode, content_type, names)
            # An exporter may not write, unless it is a server's own.
            merging = self._directory is None or server_pid() is not None
            about = self._workers(text, collector_for(directory, merging=merging))
        else:
            text = TextBuilder(encode, content_type, names)
            about = self._process(text)
        series = _gauge(
            "web_prom_scrape_series", "Samples in this scrape, those about it aside.", text.series
        )
        text.add([*about, series])
        seconds = perf_counter() - begun
        text.add([_gauge("web_prom_scrape_duration_seconds", "Seconds that this scrape took.", seconds)])
        return text.finish()

    def _settle(self) -> None:
        """Finish what nobody else can finish, so that it is in the scrape."""
        families = None if self._registry is None else existing_families(self._registry)
        if families is not None:
            for recorder in list(families.recorders):
                recorder.finish_abandoned()

    def _process(self, text: TextBuilder) -> Iterable[Metric]:
        """Put what upstream would give for this process; return what is told about it besides."""
        collect = getattr(type(self._source), "collect", None)
        if collect is not CollectorRegistry.collect or not has_collectors():
            text.add(self._source.collect())
            return []
        custom = self._guard.collect(filter(is_custom, collectors_of(self._source)))
        collected = {id(collector): families for collector, families in custom}
        # Once more: what counts a failure may just have been registered.
        collectors = collectors_of(self._source)
        # Of two that want one name, the instrument has it, as where values are shared.
        for place, collector in sorted(enumerate(collectors), key=lambda item: _rank(item[1])):
            with self._guard.of(collector), text.at_position(place):
                if is_instrument(collector):
                    text.add_instrument(collector, self._encoder)
                elif id(collector) in collected:
                    self._put(text, collector, collected[id(collector)])
                else:
                    self._put(text, collector, families_of(collector))
        self._encoder.keep(collectors)
        return []

    def _put(self, text: TextBuilder, source: Any, families: Iterable[Metric]) -> None:
        """Put the families of one source, without those whose names another one has."""
        own: set[bytes] = set()
        # What is in value files is in the text, and in such a registry too.
        may_repeat = isinstance(source, WholeRegistry)
        for family in join_families(families):
            with contextlib.suppress(ConflictError) if may_repeat else self._guard.of(source):
                text.add_unique(family, own)

    def _workers(self, text: TextBuilder, collector: WorkersCollector) -> Iterable[Metric]:
        """Put what all workers have, and what else this process has; return what is told about them."""
        registered = self._registered()
        look()
        # Before the files are read, so that what this writes is in the scrape.
        custom = self._guard.collect(not_in_files(registered))
        store_callbacks(registered, self._guard)
        text.add_merged(collector, units_of(registered))
        workers, server = collector.workers, server_pid()
        for owner, families in ((process_families, process_families(workers)), *custom):
            self._put(text, owner, families)
        return [
            _gauge(
                "web_prom_workers",
                "Processes that write metrics now, the server's own aside, which takes no requests.",
                sum(pid != server for pid in workers.values()),
            ),
            _gauge("web_prom_files", "Value files, those of past workers too.", collector.files),
            _gauge("web_prom_damaged_files", "Value files that could not be read.", collector.corrupt_files),
            _gauge(
                "web_prom_ambiguous_families",
                "Families whose samples have different labels: two libraries measure under one name.",
                collector.ambiguous_families,
            ),
        ]

    def _registered(self) -> list[Any]:
        if isinstance(self._registry, CollectorRegistry):
            return collectors_of(self._registry)
        return [] if self._registry is None else [self._registry]


def _rank(collector: Any) -> int:
    return 0 if is_instrument(collector) else 2 if is_custom(collector) else 1


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(name, documentation, value=value)
