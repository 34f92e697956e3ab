"""The shared metric families: made once per registry, however many applications write to them."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, ref

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from web_prom.config.settings import PREFIX, Config
from web_prom.errors import ConflictError
from web_prom.metrics.conventions import NAMINGS, MetricSpec, same
from web_prom.metrics.get_or_create import find, get_or_create
from web_prom.metrics.labels import BOUNDED_ATTRIBUTES, LabelSetLimiter, sanitize_label_value
from web_prom.metrics.refusals import watch_refusals
from web_prom.multiprocess.directory.dead_files import merge_dead_files
from web_prom.multiprocess.directory.environment import DIR_VARIABLE
from web_prom.multiprocess.writing.activation import is_shared, share_values
from web_prom.multiprocess.writing.early_activation import switch_at_first_value
from web_prom.multiprocess.writing.slot_cap import SlotCap, is_in_slots
from web_prom.posix import at_fork

logger = logging.getLogger("web_prom")

# A process that imports an adapter and never builds its middleware writes to a slot too.
switch_at_first_value()

# Settings that give the families their names, labels, buckets and values. Applications that share a
# registry must agree on them: other buckets would break `sum by (le)`, other labels the family itself.
SHARED_SETTINGS = (
    "naming",
    "namespace",
    "duration_buckets",
    "duration_status",
    "size_buckets",
    "status_classes",
    "max_label_sets",
)

# A queue is longer than a request may take, and still seconds.
QUEUE_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)

# A WebSocket lasts as long as somebody looks at a page: from a second to a day.
CONNECTION_BUCKETS = (1.0, 10.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 14400.0, 43200.0, 86400.0)

# What no convention names keeps its name, and its labels, whatever the naming.
_FIRST_BYTE = MetricSpec(
    name="http_response_first_byte_seconds",
    documentation="Seconds from the call of the application to the first byte of the response body.",
    labels=same("method", "route"),
)
_WEBSOCKETS = MetricSpec(
    name="websocket_connections_total",
    documentation="WebSocket connections that came to their end.",
    labels=same("route", "code"),
)
_WEBSOCKET_DURATION = MetricSpec(
    name="websocket_connection_duration_seconds",
    documentation="Seconds from the call of the application to the end of the WebSocket connection.",
    labels=same("route"),
)
_WEBSOCKET_MESSAGES = MetricSpec(
    name="websocket_messages_total",
    documentation="WebSocket messages received and sent.",
    labels=same("route", "direction"),
)

_lock = RLock()
_by_registry: WeakKeyDictionary[CollectorRegistry, MetricFamilies] = WeakKeyDictionary()


class LimitedMetric:
    """One metric family of ours and the cap on its label sets. Safe to share between threads.

    Where values are in shared files, the cap is on what the slot of this process has, whichever process wrote
    it. After a fork the child has its own slot, and what was admitted before does not count there.

    Args:
        metric: The family.
        limit: How many label sets it may have.
        facts: What its first labels tell, in order; the others are the constant and the extra ones.
        closed: Facts and labels whose values nobody can add to, besides those that are closed in every
            family.
    """

    def __init__(
        self, metric: MetricWrapperBase, limit: int, attributes: Sequence[str], closed: Sequence[str]
    ) -> None:
        self.metric = metric
        self.name = metric._name
        self.attributes = tuple(attributes)
        told = (*attributes, *metric._labelnames[len(attributes) :])
        all_closed = BOUNDED_ATTRIBUTES.union(closed)
        self._cap = LabelSetLimiter(limit, [one in all_closed for one in told])
        self._slot_cap = SlotCap(metric, limit, self._cap.is_overflow)

    def admit(self, values: tuple[str, ...]) -> tuple[Any, bool]:
        """Return the child for a label set, and whether the cap folded the set into ``_overflow``."""
        values = tuple(map(sanitize_label_value, values))
        if is_in_slots():
            admitted = values if self._slot_cap.admit(values) else self._cap.fold(values)
        else:
            admitted = self._cap.admit(values)
        return self.metric.labels(*admitted), admitted != values


class MetricFamilies:
    """The families of one registry.

    Get them with :func:`families_for`. They are the same object for every application that uses the
    registry, in every thread; after a fork each process writes its own values.

    Attributes:
        naming: What the families of requests are called; they are described there.
        requests, exceptions: Families that not every naming has; then None.
        duration: The family that every naming has.
        in_progress: The gauge of requests that are served now, whose first labels tell of their beginning.
        errors: ``web_prom_instrumentation_errors_total``, by ``stage``.
        overflow: ``web_prom_label_overflow_total``, by ``family``.
    """

    def __init__(self, registry: CollectorRegistry, config: Config, owner: str) -> None:
        # Weak, as the value of a WeakKeyDictionary must not keep its key alive.
        self._registry = ref(registry)
        self.config = config
        self.naming = NAMINGS[config.naming]
        self.owner = owner
        self.recorders: WeakSet[Any] = WeakSet()
        """Whoever keeps values bound; ``rebind_values()`` is called when they have to be bound anew."""
        self._constants = tuple(config.constant_labels)
        self._extra = (*config.extra_labels, *self._constants)
        self.in_flight: dict[tuple[str, ...], list[int]] = {}
        """For each label set of ``in_progress``, an item for each request (web_prom.metrics.writers)."""
        self._made: dict[str, Any] = {}
        self._own: WeakSet[Any] = WeakSet()
        self.ensure_registered()
        watch_refusals(registry, self._own)

    def ensure_registered(self) -> bool:
        """Make the families, or those of them that the registry no longer has.

        Returns:
            Whether any was made, so that anything bound to its predecessor is bound anew.
        """
        before = dict(vars(self))
        naming, buckets = self.naming, self.config.duration_buckets
        duration = naming.duration
        if self.config.duration_status and "status" not in duration.labels.values():
            duration = replace(duration, labels={**duration.labels, "status": "status"})
        self.requests = self._family(Counter, naming.requests) if naming.requests else None
        self.duration = self._family(Histogram, duration, buckets=buckets)
        self.exceptions = self._family(Counter, naming.exceptions) if naming.exceptions else None
        self.in_progress = self._plain(
            Gauge,
            naming.in_progress.name,
            naming.in_progress.documentation,
            (*naming.in_progress.labels, *self._constants),
            namespace=self.config.namespace,
            multiprocess_mode="livesum",
        )
        self.errors = error_counter(self.registry)
        self.overflow = self._plain(
            Counter,
            "web_prom_label_overflow_total",
            "Observations counted under _overflow because the family had PROM_MAX_LABEL_SETS label sets.",
            ("family",),
        )
        return before != vars(self)

    @property
    def registry(self) -> CollectorRegistry:
        """The registry of the families, kept alive by whoever writes to it or scrapes it."""
        registry = self._registry()
        assert registry is not None
        return registry

    @property
    def is_registered(self) -> bool:
        """Whether the registry still has the families."""
        return find(self.duration.name, self.registry) is self.duration.metric

    @property
    def request_size(self) -> LimitedMetric:
        """The histogram of request bodies, made when first asked for."""
        return self._family(Histogram, self.naming.request_size, buckets=self.config.size_buckets)

    @property
    def response_size(self) -> LimitedMetric:
        """The histogram of response bodies, made when first asked for."""
        return self._family(Histogram, self.naming.response_size, buckets=self.config.size_buckets)

    @property
    def first_byte(self) -> LimitedMetric:
        """``http_response_first_byte_seconds``, made when first asked for."""
        return self._family(Histogram, _FIRST_BYTE, buckets=self.config.duration_buckets)

    @property
    def queue(self) -> Any:
        """``http_request_queue_seconds``, made when first asked for."""
        return self._plain(
            Histogram,
            "http_request_queue_seconds",
            "Seconds that a request waited between the proxy's X-Request-Start and the application.",
            self._constants,
            namespace=self.config.namespace,
            buckets=QUEUE_BUCKETS,
        )

    @property
    def websockets_in_progress(self) -> Any:
        """``websocket_connections_in_progress``, made when first asked for."""
        return self._plain(
            Gauge,
            "websocket_connections_in_progress",
            "WebSocket connections that are open now.",
            self._constants,
            namespace=self.config.namespace,
            multiprocess_mode="livesum",
        )

    @property
    def websockets(self) -> LimitedMetric:
        """``websocket_connections_total``, made when first asked for."""
        return self._family(Counter, _WEBSOCKETS, closed=("code",))

    @property
    def websocket_duration(self) -> LimitedMetric:
        """``websocket_connection_duration_seconds``, made when first asked for."""
        return self._family(Histogram, _WEBSOCKET_DURATION, buckets=CONNECTION_BUCKETS)

    @property
    def websocket_messages(self) -> LimitedMetric:
        """``websocket_messages_total``, made when first asked for."""
        return self._family(Counter, _WEBSOCKET_MESSAGES, closed=("direction",))

    def check_compatible(self, config: Config, owner: str) -> None:
        """Refuse a configuration that would give the families another shape.

        Raises:
            ConflictError: It would; the message names both configurations and the setting.
        """
        for name in (*SHARED_SETTINGS, "constant_labels", "extra_labels"):
            ours, theirs = getattr(self.config, name), getattr(config, name)
            if name in ("constant_labels", "extra_labels"):
                ours, theirs = tuple(ours), tuple(theirs)
            if ours != theirs:
                raise ConflictError(
                    f"{self.owner} and {owner} write to one registry and do not agree: "
                    f"{PREFIX}{name.upper()} is {ours!r} in the first and {theirs!r} in the second; "
                    "give both the same value, or give one of them a registry of its own"
                )

    def rebind(self) -> None:
        """Have everything that keeps values bound to these families bind them anew."""
        for recorder in list(self.recorders):
            recorder.rebind_values()

    def _family(
        self, kind: type[Any], spec: MetricSpec, closed: tuple[str, ...] = (), **options: Any
    ) -> LimitedMetric:
        metric = self._plain(
            kind,
            spec.name,
            spec.documentation,
            (*spec.labels, *self._extra),
            namespace=self.config.namespace,
            **options,
        )
        made: LimitedMetric | None = self._made.get(spec.name)
        if made is None or made.metric is not metric:
            attributes, all_closed = tuple(spec.labels.values()), (*self._constants, *closed)
            made = self._made[spec.name] = LimitedMetric(
                metric, self.config.max_label_sets, attributes, all_closed
            )
        return made

    def _plain(self, kind: type[Any], name: str, documentation: str, labels: Any, **options: Any) -> Any:
        try:
            made = get_or_create(kind, name, documentation, labels, registry=self.registry, **options)
            self._own.add(made)
            return made
        except ConflictError as error:
            if "namespace" not in options:
                raise
            raise ConflictError(
                f"{error}\nThe second is web-prom's, which measures every request: do without the first, "
                f"or set {PREFIX}NAMESPACE, which stands before web-prom's names."
            ) from None


def families_for(registry: CollectorRegistry, config: Config, owner: str) -> MetricFamilies:
    """Return the families of a registry, making them if this is its first application.

    Args:
        registry: The registry of the families.
        config: The application's settings.
        owner: The application's name, for error messages.

    Raises:
        ConflictError: The registry's families were made with other settings, or the registry has
            another metric of one of these names.
        DirectoryError: PROMETHEUS_MULTIPROC_DIR names a directory that cannot be used.

    Safe to call from any thread.
    """
    with _lock:
        if share_values(registry, *_by_registry):
            for every in list(_by_registry.values()):
                every.rebind()
        if is_shared() and DIR_VARIABLE in os.environ:
            merge_dead_files(Path(os.environ[DIR_VARIABLE]))
        families = _by_registry.get(registry)
        # Where a test suite emptied the registry, nothing is left to agree with.
        if families is None or not (families.config == config or families.is_registered):
            families = _by_registry[registry] = MetricFamilies(registry, config, owner)
        else:
            families.check_compatible(config, owner)
            if families.ensure_registered():
                families.rebind()
        return families


def existing_families(registry: Any) -> MetricFamilies | None:
    """Return the families of a registry if an application has made them."""
    return _by_registry.get(registry)


def _bind_in_child() -> None:
    """Forget what was admitted to the parent's slot: the child has another slot, with other label sets."""
    if is_in_slots():
        for families in list(_by_registry.values()):
            for recorder in list(families.recorders):
                recorder.writers = {}


at_fork(after_in_child=_bind_in_child)


def error_counter(registry: CollectorRegistry) -> Counter:
    """Return ``web_prom_instrumentation_errors_total`` of a registry, making it if it is not there.

    Raises:
        ConflictError: The registry has another metric of this name.
    """
    return get_or_create(
        Counter,
        "web_prom_instrumentation_errors_total",
        "Errors in the instrumentation itself, by what it was doing; the requests went on.",
        ("stage",),
        registry=registry,
    )
