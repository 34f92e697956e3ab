"""The recorder of one application: it finds the children and the values that its requests write."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from prometheus_client import REGISTRY, CollectorRegistry, Counter

from web_prom.config.settings import Config
from web_prom.hooks import ExtraLabel, RouteResolver
from web_prom.metrics.families import families_for
from web_prom.metrics.label_value_limiter import limit_values
from web_prom.metrics.labels import (
    EMPTY,
    INTERNAL_SERVER_ERROR,
    OTHER,
    UNMATCHED,
    known_methods,
    status_label,
)
from web_prom.metrics.limited_metric import LimitedMetric
from web_prom.metrics.naming_families import set_info, with_further
from web_prom.metrics.problems import Problems
from web_prom.metrics.query_tally import OutsideQueries, QueryCounters, TallyWriter
from web_prom.metrics.queue_time import QueueTime, flush_queue_times
from web_prom.metrics.request_attributes import RequestAttributes
from web_prom.metrics.request_start import RequestStartCache
from web_prom.metrics.routes import route_is_excluded
from web_prom.metrics.writers import GaugeUpdater, WriteRequest, gauge_updaters, make_writer, shared_gauge
from web_prom.multiprocess.writing.activation import is_shared
from web_prom.runtime import this_process

# The start of most requests.
_USUAL_START: Mapping[str, str] = {"method": "GET", "scheme": "http"}

WriterKey = tuple[Any, ...]
"""Start, route, status and extra labels of a request, and its error if there is one and a label for it."""


class Finishable(Protocol):
    """The recording of a request that was dropped without an end."""

    def finish(self, ended: float | None = None) -> None:
        """Observe the request."""


class Recorder:
    """Records the requests of one application.

    The families belong to the registry, and other applications can share them
    (:class:`web_prom.metrics.families.MetricFamilies`). The recorder has what belongs to one application: the
    values of its constant labels, its extra labels, its excluded routes, and the caches for its requests.

    Safe to share between threads. After a fork the child uses the same object, and needs no call for that.

    Args:
        config: The application's settings.
        registry: The registry of the families.
        owner: The application's name, for messages.
        resolve_route: Called when the response starts. It sets the route on the recording.
        attribute_getters: Functions that return an attribute of a request from the framework's request and
            response, by the names of :attr:`web_prom.metrics.namings.model.Naming.request_attributes`.

    Attributes:
        extra_labels: The functions of :class:`web_prom.metrics.request_attributes.RequestAttributes`.
        compute_extra_values: Its method ``compute``.
        writers: The functions that write requests, by what the requests have in common
            (:data:`WriterKey`); None if such requests are not measured.
        request_starts: The starts of requests that are in use.
        abandoned: Requests that were dropped without an end, with the time of that.
        measures_sizes: Whether body sizes or the time to the first byte are measured.
        database: The database recorder of the application, or None if ``PROM_DATABASE`` is off.

    Raises:
        ConflictError: As :func:`web_prom.metrics.families.families_for`.
        DirectoryError: As :func:`web_prom.metrics.families.families_for`.
    """

    mount_path: Callable[[Any], str] | None = None
    """Returns the path template at which the application of a recording is mounted, if that is known."""

    def __init__(
        self,
        config: Config,
        registry: CollectorRegistry = REGISTRY,
        *,
        owner: str = "the application",
        resolve_route: RouteResolver | None = None,
        attribute_getters: Mapping[str, ExtraLabel] = MappingProxyType({}),
    ) -> None:
        self.config = config
        self.resolve_route: RouteResolver = resolve_route or _resolve_no_route
        self.owner = owner
        self.registry = registry
        self.families = families_for(registry, config, owner)
        self.naming = self.families.naming
        self._problems = Problems(self.families, owner, config.max_label_sets)
        self.request_starts = RequestStartCache(
            self.naming.start_attributes, known_methods(config.extra_methods), self._gauge_updaters
        )
        self._attributes = RequestAttributes(
            self.naming,
            attribute_getters,
            limit_values(config.extra_labels, self.families),
            self.record_internal_error,
        )
        self.extra_labels = self._attributes.functions
        self.compute_extra_values = self._attributes.compute
        # A client may choose the values of extra labels.
        self._zero_errors = config.zero_errors and not config.extra_labels
        self.measures_sizes = bool(config.request_size or config.response_size or config.first_byte)
        self.abandoned: deque[tuple[Finishable, float]] = deque()
        self._constant_values = tuple(config.constant_labels.values())
        self.database: OutsideQueries | None = None
        self.queue_time = (
            QueueTime(lambda: self.constant_child(self.families.queue_time), self.record_internal_error)
            if config.queue_time
            else None
        )
        self.rebind_values()
        self.families.recorders.add(self)
        this_process.add_publish_callback(flush_queue_times)
        this_process.start(capacity=config.worker_capacity, interpreter=config.runtime)

    def rebind_values(self) -> None:
        """Look up the values that requests write.

        Called again after the metrics or the values of the registry were replaced.
        """
        self.request_starts.rebind_values()
        self._gauge_updaters(
            _USUAL_START
        )  # the worker has a series from its start on, not from its first request
        config, families = self.config, self.families
        if families.info is not None:
            set_info(families.info, self._constant_values)
        if self.queue_time is not None:
            self.queue_time.rebind_values()
        if config.queue_time is True:
            self.constant_child(families.queue_time)  # the family is in a scrape before it has a measurement
        self._optional_histograms = [
            (field, getattr(families, field))
            for field in ("request_size", "response_size", "first_byte")
            if getattr(config, field)
        ]
        self.drop_writers()

    def drop_writers(self) -> None:
        """Drop the writers. The next requests look up their children again."""
        self.writers: dict[WriterKey, WriteRequest | None] = {}

    def shares_families_with(self, other: Recorder) -> bool:
        """Tell whether both recorders write to the same families, so that only one may count a request."""
        if self.registry is other.registry:
            return True
        return is_shared() and self.families.duration.name == other.families.duration.name

    def record_internal_error(self, stage: str) -> None:
        """Count an error of the instrumentation, and log the first one of each stage. Never raises."""
        self._problems.count_error(stage)

    def on_scrape(self) -> None:
        """Finish the requests that were dropped without an end, so that they are in the scrape."""
        self.finish_abandoned()

    def finish_abandoned(self) -> None:
        """Finish the requests that were dropped without an end, with the time at which they were dropped."""
        while True:
            try:
                recording, ended = self.abandoned.popleft()
            except IndexError:  # empty; another thread may have taken the last one
                return
            recording.finish(ended)

    def writer_for(self, key: WriterKey) -> WriteRequest | None:
        """Return the function that writes requests with this key, or None if they are not measured."""
        # Some servers do not show their capacity before a request. Few requests come here.
        this_process.detect_capacity()
        request_start, route, code, extra, *errors = key
        status = status_label(code or INTERNAL_SERVER_ERROR, classes=self.config.status_classes)
        attributes = self._attributes.attributes(request_start, route, extra)
        attributes["status"] = status
        attributes["error"] = errors[0] if errors else status if status >= "500" else EMPTY
        if route_is_excluded(UNMATCHED if route is None else route, self.config.exclude):
            if not extra and status != OTHER:
                self.writers[key] = None
            return None
        folded = False

        def child(family: LimitedMetric) -> Any:
            nonlocal folded
            found, overflow = self._child_for(family, attributes, extra)
            folded = folded or overflow
            return found

        requests = self.families.requests
        writer = make_writer(
            None if requests is None else child(requests),
            child(self.families.duration),
            self.config.duration_buckets,
            [(field, _update_of(child(family))) for field, family in self._optional_histograms],
            shared_gauge(request_start.add_at_end),
        )
        writer = with_further(writer, self.naming, self.families.further, attributes, child)
        if self.config.database:
            writer = TallyWriter(writer, self.query_counters(attributes["method"], attributes["route"]))
        if self._zero_errors and requests is not None and route is not None and not folded:
            self._create_error_counter(requests, attributes)
        # Values that a client or the application can invent without a limit are not kept as keys.
        if not folded and status != OTHER:
            self.writers[key] = writer.write
        return writer.write

    def count_exception(self, error: BaseException, key: WriterKey) -> None:
        """Count one exception of a request, if the naming has a family of exceptions."""
        request_start, route, code, extra, *_ = key
        attributes = self._attributes.attributes(request_start, route, extra)
        attributes["exception"] = type(error).__name__
        attributes["status"] = status_label(code or INTERNAL_SERVER_ERROR, classes=self.config.status_classes)
        for family in self.families.exception_counters:
            self.child_for(family, attributes, extra).inc()

    def child_for(self, family: LimitedMetric, attributes: Mapping[str, str], extra: tuple[str, ...]) -> Any:
        """Return the child of a family for a request, or the child of the overflow label set.

        Args:
            family: The family.
            attributes: The attributes of the request.
            extra: The ``extra`` of the recording; empty if it is not known.
        """
        return self._child_for(family, attributes, extra)[0]

    def child_without_extra(self, family: LimitedMetric, attributes: Mapping[str, str]) -> tuple[Any, bool]:
        """Return the child of a family that has no extra labels, and whether it is the overflow label set.

        Do not keep a child of the overflow label set under a key that has an unlimited number of values.

        Args:
            family: The family, of :meth:`MetricFamilies.limited_family`.
            attributes: The values of its labels by attribute.
        """
        child, overflow = family.child_and_overflow(attributes, self._constant_values)
        if overflow:
            self._problems.count_overflow(family.name)
        return child, overflow

    def query_counters(self, method: str, route: str) -> QueryCounters:
        """Return the counters of queries of a method and a route."""
        families, attributes = self.families, {"method": method, "route": route}
        every = families.db_queries, families.db_seconds, families.db_repeated_queries
        return QueryCounters(*(self.child_without_extra(family, attributes)[0] for family in every))

    def constant_child(self, metric: Any) -> Any:
        """Return the child of a metric that has no labels but the constant ones."""
        return metric.labels(*self._constant_values) if self._constant_values else metric

    def _child_for(
        self, family: LimitedMetric, attributes: Mapping[str, str], extra: tuple[str, ...]
    ) -> tuple[Any, bool]:
        labels = (*self._attributes.labels(extra), *self._constant_values)
        child, overflow = family.child_and_overflow(attributes, labels)
        if overflow:
            self._problems.count_overflow(family.name)
        return child, overflow

    def _create_error_counter(self, requests: LimitedMetric, attributes: Mapping[str, str]) -> None:
        """Create the counter of the server errors of a route and a method, at 0.

        ``increase()`` does not see the first increment of a counter that did not exist before. Errors of
        clients create nothing, so that clients cannot add series.
        """
        if attributes["status"] < "4" and attributes["method"] != self.naming.other_method:
            status = status_label(INTERNAL_SERVER_ERROR, classes=self.config.status_classes)
            labels = (*self._attributes.labels(()), *self._constant_values)
            requests.child_and_overflow({**attributes, "status": status}, labels)

    def _gauge_updaters(self, attributes: Mapping[str, str]) -> tuple[GaugeUpdater, GaugeUpdater]:
        """Return the functions that change the gauge of requests in progress for requests with this start."""
        labels = self.naming.in_progress.labels.values()
        values = (*map(attributes.__getitem__, labels), *self._constant_values)
        gauge = self.families.in_progress
        in_flight = self.families.in_flight.setdefault(values, [])
        return gauge_updaters(gauge.labels(*values) if values else gauge, in_flight)


def _update_of(child: Any) -> Callable[[float], None]:
    """Return the function that adds a measured value to a counter, a histogram or a summary."""
    update: Callable[[float], None] = child.inc if isinstance(child, Counter) else child.observe
    return update


def _resolve_no_route(recording: Any) -> None:
    """Do nothing: there is no framework that could find a route."""
