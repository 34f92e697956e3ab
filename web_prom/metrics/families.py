"""The metric families of one registry. All applications that use the registry share them."""

from __future__ import annotations

import os
from pathlib import Path
from threading import RLock
from typing import Any, Protocol
from weakref import WeakSet

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from web_prom.config.raw_values import PREFIX
from web_prom.config.settings import Config
from web_prom.errors import ConflictError
from web_prom.metrics import conventions
from web_prom.metrics.family_factory import FamilyFactory
from web_prom.metrics.get_or_create import find, get_or_create
from web_prom.metrics.limited_metric import LimitedMetric
from web_prom.metrics.naming_families import exception_counters, further_families, size_family
from web_prom.metrics.queue_time import QueueTimeHistogram
from web_prom.metrics.refusals import warn_of_refused_metrics
from web_prom.multiprocess.directory.dead_files import merge_dead_files
from web_prom.multiprocess.directory.environment import DIR_VARIABLE
from web_prom.multiprocess.writing.activation import is_shared, share_values
from web_prom.multiprocess.writing.early_activation import switch_at_first_value
from web_prom.multiprocess.writing.slot_limiter import is_in_slots
from web_prom.posix import at_fork
from web_prom.upstream.registry import check_registry

# A process that imports an adapter and never creates its middleware writes to a slot too.
switch_at_first_value()

SHARED_SETTINGS = (
    "naming",
    "namespace",
    "duration_buckets",
    "duration_status",
    "size_buckets",
    "status_classes",
    "max_label_sets",
)
"""Settings that must be the same for all applications that share a registry.

They set names, labels, buckets and label values. Other buckets would break ``sum by (le)``, and other labels
the family itself.
"""

_lock = RLock()
_registries: WeakSet[CollectorRegistry] = WeakSet()
"""The registries that have families."""

# The attribute of a registry for its families. They keep the functions of extra labels alive, which may refer
# to the registry. As values of a WeakKeyDictionary they would then keep it alive for ever.
_ATTRIBUTE = "_web_prom_families"


class ValueUser(Protocol):
    """An object that keeps children or values of the families, for example the recorder of an application."""

    def rebind_values(self) -> None:
        """Look up the children and values again."""

    def drop_writers(self) -> None:
        """Drop the writers: a forked child has another slot with other label sets."""

    def on_scrape(self) -> None:
        """Write what is only written at a scrape of this process, for example requests without an end."""


class MetricFamilies(FamilyFactory):
    """The metric families of one registry.

    Get them with :func:`families_for`. All applications that use the registry, in all threads, have the same
    object. After a fork each process writes its own values.

    Attributes:
        requests: The counter of requests, or None if the naming has none.
        duration: The histogram of durations, which each naming has.
        further: The further families of the naming, in its order.
        exception_counters: The counters of exceptions. Empty if ``duration`` has a label for the error.
        in_progress: The gauge of requests in progress. Its first labels are attributes of the start.
        errors: ``web_prom_instrumentation_errors_total``, by ``stage``.
        overflow: ``web_prom_label_overflow_total``, by ``family``.
        recorders: The recorders that write to the families.
        label_limiters: The limits on the values of labels, by label and limit
            (:class:`web_prom.metrics.label_value_limiter.LabelValueLimiter`).
        in_flight: For each label set of ``in_progress`` a list with an item for each request in progress
            (:func:`web_prom.metrics.writers.gauge_updaters`).
    """

    def __init__(self, registry: CollectorRegistry, config: Config, owner: str) -> None:
        super().__init__(registry, config)
        self.owner = owner
        self.recorders: WeakSet[ValueUser] = WeakSet()
        self.in_flight: dict[tuple[str, ...], list[int]] = {}
        self.label_limiters: dict[tuple[str, int], Any] = {}
        self._registered: tuple[object, ...] = ()
        self.ensure_registered()
        warn_of_refused_metrics(registry, self._own)

    def ensure_registered(self) -> bool:
        """Create the families that the registry does not have.

        Returns:
            Whether a family was created. Children and values of its predecessor must then be looked up again.
        """
        naming = self.naming
        duration = naming.duration
        if self.config.duration_status and "status" not in duration.labels.values():
            duration = duration._replace(labels={**duration.labels, "status": "status"})
        self.requests = self._family(Counter, naming.requests) if naming.requests else None
        self.duration = self._family(Histogram, duration, buckets=self.config.duration_buckets)
        self.exception_counters = exception_counters(naming, self._family)
        self.further = further_families(naming, self.config, self._family)
        self.in_progress: Gauge = self.unlimited_family(
            Gauge, naming.in_progress, multiprocess_mode="livesum"
        )
        self.errors = error_counter(self.registry)
        self.overflow: Counter = self._metric(
            Counter, conventions.LABEL_OVERFLOW, tuple(conventions.LABEL_OVERFLOW.labels)
        )
        before = self._registered
        self._registered = (
            *(self.requests, self.duration, *self.exception_counters, *self.further),
            *(self.in_progress, self.errors, self.overflow),
        )
        return before != self._registered

    @property
    def is_registered(self) -> bool:
        """Whether the registry still has the families."""
        return find(self.duration.name, self.registry) is self.duration.metric

    @property
    def info(self) -> Gauge | None:
        """The gauge with the version of web-prom, or None if the naming has none."""
        spec = self.naming.info
        return None if spec is None else self.unlimited_family(Gauge, spec, multiprocess_mode="max")

    # The families below are created when they are used for the first time.

    @property
    def request_size(self) -> LimitedMetric:
        """The family of the sizes of request bodies."""
        return size_family(self.naming.request_size, self.config, self.naming.size_kind, self._family)

    @property
    def response_size(self) -> LimitedMetric:
        """The family of the sizes of response bodies."""
        return size_family(self.naming.response_size, self.config, self.naming.size_kind, self._family)

    @property
    def first_byte(self) -> LimitedMetric:
        """``http_response_first_byte_seconds``."""
        return self._family(Histogram, conventions.FIRST_BYTE, buckets=self.config.duration_buckets)

    @property
    def queue_time(self) -> Histogram:
        """``http_request_queue_seconds``."""
        buckets = conventions.QUEUE_TIME_BUCKETS
        return self.unlimited_family(QueueTimeHistogram, conventions.QUEUE_TIME, buckets=buckets)  # type: ignore[no-any-return]

    @property
    def websockets_in_progress(self) -> Gauge:
        """``websocket_connections_in_progress``."""
        spec = conventions.WEBSOCKETS_IN_PROGRESS
        return self.unlimited_family(Gauge, spec, multiprocess_mode="livesum")  # type: ignore[no-any-return]

    @property
    def websockets(self) -> LimitedMetric:
        """``websocket_connections_total``."""
        return self._family(Counter, conventions.WEBSOCKETS, bounded=("code",))

    @property
    def websocket_duration(self) -> LimitedMetric:
        """``websocket_connection_duration_seconds``."""
        buckets = conventions.WEBSOCKET_DURATION_BUCKETS
        return self._family(Histogram, conventions.WEBSOCKET_DURATION, buckets=buckets)

    @property
    def websocket_messages(self) -> LimitedMetric:
        """``websocket_messages_total``."""
        return self._family(Counter, conventions.WEBSOCKET_MESSAGES, bounded=("direction",))

    @property
    def db_queries(self) -> LimitedMetric:
        """``http_request_db_queries_total``."""
        return self.limited_family(Counter, conventions.DB_QUERIES)

    @property
    def db_seconds(self) -> LimitedMetric:
        """``http_request_db_seconds_total``."""
        return self.limited_family(Counter, conventions.DB_SECONDS)

    @property
    def db_repeated_queries(self) -> LimitedMetric:
        """``http_request_db_repeated_queries_total``."""
        return self.limited_family(Counter, conventions.DB_REPEATED_QUERIES)

    def check_compatible(self, config: Config, owner: str) -> None:
        """Check that an application with other settings can use the families.

        Raises:
            ConflictError: It cannot. The message names both applications and the setting.
        """
        for name in (*SHARED_SETTINGS, "constant_labels", "extra_labels"):
            ours, theirs = getattr(self.config, name), getattr(config, name)
            if name in ("constant_labels", "extra_labels"):  # the names of labels, not their values
                ours, theirs = tuple(ours), tuple(theirs)
            if ours != theirs:
                raise ConflictError(
                    f"{self.owner} and {owner} write to one registry and do not agree: "
                    f"{PREFIX}{name.upper()} is {ours!r} in the first and {theirs!r} in the second; "
                    "give both the same value, or give one of them a registry of its own"
                )

    def rebind_values(self) -> None:
        """Let all recorders look up their children and values again."""
        for recorder in list(self.recorders):
            recorder.rebind_values()


def families_for(registry: CollectorRegistry, config: Config, owner: str) -> MetricFamilies:
    """Return the families of a registry. Create them for the first application that uses the registry.

    Safe to call from any thread.

    Args:
        registry: The registry of the families.
        config: The application's settings.
        owner: The application's name, for error messages.

    Raises:
        TypeError: The object is not a registry.
        ConflictError: The families of the registry were created with other settings, or the registry has
            another metric with one of their names.
        DirectoryError: PROMETHEUS_MULTIPROC_DIR names a directory that cannot be used.
    """
    check_registry(registry, "collect", "register")
    with _lock:
        if share_values(registry, *_registries):
            for other in _all_families():
                other.rebind_values()
        if is_shared() and DIR_VARIABLE in os.environ:
            merge_dead_files(Path(os.environ[DIR_VARIABLE]))
        families = existing_families(registry)
        # If a test suite has emptied the registry, there are no families whose settings must be the same.
        if families is None or not (families.config == config or families.is_registered):
            families = MetricFamilies(registry, config, owner)
            setattr(registry, _ATTRIBUTE, families)
            _registries.add(registry)
        else:
            families.check_compatible(config, owner)
            if families.ensure_registered():
                families.rebind_values()
        return families


def existing_families(registry: Any) -> MetricFamilies | None:
    """Return the families of a registry, or None if no application has created them."""
    found = getattr(registry, _ATTRIBUTE, None)
    return found if isinstance(found, MetricFamilies) and found.belongs_to(registry) else None


def _all_families() -> list[MetricFamilies]:
    return [found for each in list(_registries) if (found := existing_families(each)) is not None]


def error_counter(registry: CollectorRegistry) -> Counter:
    """Return ``web_prom_instrumentation_errors_total`` of a registry. Create it if the registry has none.

    Raises:
        ConflictError: The registry has another metric with this name.
    """
    spec = conventions.ERRORS
    return get_or_create(Counter, spec.name, spec.documentation, spec.labels, registry=registry)


def _drop_writers_in_child() -> None:
    """Drop the writers of the parent: the slot of the child has other label sets."""
    if is_in_slots():
        for families in _all_families():
            for recorder in list(families.recorders):
                recorder.drop_writers()


at_fork(after_in_child=_drop_writers_in_child)
