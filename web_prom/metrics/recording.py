"""One request's life: it begins, is annotated, and finishes once; the only code that observes."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry

from web_prom.config.settings import Config
from web_prom.metrics.families import LimitedMetric, families_for
from web_prom.metrics.labels import (
    EMPTY,
    OTHER,
    UNMATCHED,
    known_methods,
    route_is_excluded,
    sanitize_label_value,
    status_label,
)
from web_prom.metrics.request_start import RequestStart, RequestStartCache
from web_prom.metrics.writers import GaugeUpdater, RequestWriter, gauge_updaters, make_writer
from web_prom.multiprocess.writing.activation import is_shared

logger = logging.getLogger("web_prom")

RECORDING_KEY = "web_prom.recording"
"""Where a request's recording is in its WSGI environ or ASGI scope."""

# How most requests begin.
_USUAL: Mapping[str, str] = {"method": "GET", "scheme": "http"}

CacheKey = tuple[Any, ...]
"""Request start, route, status and extra labels of a request; then its error, if a label has it."""


class Recorder:
    """Observes the requests of one application.

    Safe to share between threads. After a fork the child goes on with the same object; nothing has to
    be called.

    Args:
        config: The application's settings.
        registry: Where its families are.
        owner: The application's name, for messages.
        resolve_route: Sets on a recording what only a framework knows, as the response starts.

    Raises:
        ConflictError: As :func:`web_prom.metrics.families.families_for`.
        DirectoryError: Likewise.
    """

    mount_path: Callable[[Recording], str] | None = None
    """Returns the path template at which the application of a request is mounted, where that is known."""

    def __init__(
        self,
        config: Config,
        registry: CollectorRegistry = REGISTRY,
        *,
        owner: str = "the application",
        resolve_route: Callable[[Recording], None] | None = None,
    ) -> None:
        self.config = config
        self.resolve_route = resolve_route or _no_route
        self.owner = owner
        self.registry = registry
        self.families = families_for(registry, config, owner)
        self.naming = self.families.naming
        self.request_starts = RequestStartCache(
            self.naming.start_attributes, known_methods(config.extra_methods), self._steps
        )
        self.extra_labels = tuple(config.extra_labels.items())
        self.abandoned: deque[tuple[Recording, float]] = deque()
        self._constants = tuple(config.constant_labels.values())
        self._no_extra = ("",) * len(self.extra_labels)
        self._warned: set[str] = set()
        self.rebind_values()
        self.families.recorders.add(self)

    def rebind_values(self) -> None:
        """Bind the values that requests write; again after the values of a registry were replaced."""
        self.request_starts.rebind_values()
        self._steps(_USUAL)  # a worker is one from its start on, and not from its first request on
        self.queue = self.plain_child_of(self.families.queue) if self.config.queue_time else None
        self._measures = [
            (field, getattr(self.families, field))
            for field in ("request_size", "response_size", "first_byte")
            if getattr(self.config, field)
        ]
        self.writers: dict[CacheKey, RequestWriter | None] = {}

    def counts_with(self, other: Recorder) -> bool:
        """Tell whether both count in the same families: a request that passes both is counted by one."""
        if self.registry is other.registry:
            return True
        return is_shared() and self.families.duration.name == other.families.duration.name

    def record_internal_error(self, stage: str) -> None:
        """Count an error of the instrumentation itself, and log the first of each stage. Never raises."""
        try:
            self.families.errors.labels(stage).inc()
            self._warn_once(stage, "error while %s of %s; counted in web_prom_instrumentation_errors_total")
        except Exception:
            logger.debug("an instrumentation error could not be counted", exc_info=True)

    def finish_abandoned(self) -> None:
        """Finish the requests that nobody can finish any more, with the time at which that came about."""
        while True:
            try:
                recording, ended = self.abandoned.popleft()
            except IndexError:  # or another thread was faster
                return
            recording.finish(ended)

    def writer_for(self, key: CacheKey) -> RequestWriter | None:
        """Return the values that a request of this key writes, or None if it is not measured."""
        request_start, route, code, extra, *errors = key
        status = status_label(code or "500", classes=self.config.status_classes)
        attributes = {**request_start.attributes, **_route_facts(route), "status": status}
        attributes["error"] = errors[0] if errors else status if status >= "500" else EMPTY
        if route_is_excluded(attributes["route"], self.config.exclude):
            if not extra and status != OTHER:
                self.writers[key] = None
            return None
        tail = (*(extra or self._no_extra), *self._constants)
        folded = False

        def child(family: LimitedMetric) -> Any:
            nonlocal folded
            found, overflow = family.admit((*map(attributes.__getitem__, family.attributes), *tail))
            if overflow:
                folded = True
                self._overflowed(family.name)
            return found

        requests = self.families.requests
        writer = make_writer(
            None if requests is None else child(requests),
            child(self.families.duration),
            self.config.duration_buckets,
            [(field, child(family).observe) for field, family in self._measures],
        )
        # What a client or a careless application can invent without end is looked up each time.
        if not folded and status != OTHER:
            self.writers[key] = writer
        return writer

    def count_exception(self, recording: Recording, error: BaseException) -> None:
        """Count one exception of a request, where the naming has a family of exceptions."""
        family = self.families.exceptions
        if family is not None:
            attributes = {**recording.request_start.attributes, **_route_facts(recording.route)}
            attributes["exception"] = type(error).__name__
            values = tuple(map(attributes.__getitem__, family.attributes))
            self.child_of(family, values, recording.extra).inc()

    def child_of(self, family: LimitedMetric, values: tuple[str, ...], extra: tuple[str, ...]) -> Any:
        """Return the child of a family for its own labels and the extra ones, or what stands for it."""
        found, overflow = family.admit((*values, *(extra or self._no_extra), *self._constants))
        if overflow:
            self._overflowed(family.name)
        return found

    def plain_child_of(self, instrument: Any) -> Any:
        """Return the child of an instrument that has no labels but the constant ones."""
        return instrument.labels(*self._constants) if self._constants else instrument

    def extra_values(
        self, request: Any, response: Any, *, passing: tuple[type[Exception], ...] = ()
    ) -> tuple[str, ...]:
        """Return the values of the extra labels for a request and its response; raises only ``passing``."""
        values = []
        for name, function in self.extra_labels:
            try:
                values.append(sanitize_label_value(str(function(request, response))))
            except passing:
                raise
            except Exception:
                self.record_internal_error(f"label {name}")
                values.append("")
        return tuple(values)

    def _steps(self, attributes: Mapping[str, str]) -> tuple[GaugeUpdater, GaugeUpdater]:
        """Return what takes the gauge of requests in progress up and down, for what they begin with."""
        labels = self.naming.in_progress.labels.values()
        values = (*map(attributes.__getitem__, labels), *self._constants)
        gauge = self.families.in_progress
        in_flight = self.families.in_flight.setdefault(values, [])
        return gauge_updaters(gauge.labels(*values) if values else gauge, in_flight)

    def _overflowed(self, family: str) -> None:
        self.families.overflow.labels(family).inc()
        if family not in self._warned:
            self._warned.add(family)
            logger.warning(
                "%s has %d label sets, as many as PROM_MAX_LABEL_SETS allows; further ones are counted "
                "under _overflow. A label with values that grow without end is the usual reason.",
                family,
                self.config.max_label_sets,
            )

    def _warn_once(self, stage: str, message: str) -> None:
        if stage not in self._warned:
            self._warned.add(stage)
            logger.warning(message, stage, self.owner, exc_info=True)


class Recording:
    """What is known of one request in flight.

    It finishes exactly once: at the end of the body, at ``close()``, or at the latest when nothing
    refers to it any more. One thread at a time uses it.

    Attributes:
        recorder: Who observes it.
        request_start: The attributes that all requests with the same start share.
        route: The route template, or None where no route matched.
        explicit_route: The route that the application set itself. The framework's route does not replace it.
        status: The three digits of the status that the client gets, as text; None before there is one.
        extra: Values of the extra labels.
        outer: The recording of the same request by a layer around this one, for another registry; or None.
        measured: Whether the request is counted and timed; false for an excluded view.
        body_failed: Whether the body failed half way.
        finished: Whether it was observed.
        started: ``perf_counter()`` when the application was called, in seconds.
        request_size, response_size: Bytes of the bodies, where they are measured.
        first_byte: Seconds to the first byte, where it is measured.
        request_id: ``id()`` of the framework's request object; only Django's adapter sets it.
    """

    # The class keeps what few requests change, and nothing that each of them sets: the interpreter does
    # not specialise a store to a name that the class has too. With slots the same takes half as long again.
    extra: tuple[str, ...] = ()
    outer: Any = None
    explicit_route: str | None = None
    measured = True
    body_failed = False
    _errors: list[BaseException] | None = None
    request_id: int

    def __init__(self, recorder: Recorder, start_key: Any) -> None:
        self.finished = True  # until the gauge is up, there is nothing to take down
        self.recorder = recorder
        request_start: RequestStart = recorder.request_starts[start_key]
        self.request_start = request_start
        self.route: str | None = None
        self.status: str | None = None
        if recorder.abandoned:
            recorder.finish_abandoned()
        request_start.inc_in_progress(1)
        self.finished = False
        self.started = perf_counter()

    def add_exception(self, error: BaseException) -> None:
        """Remember an exception; it is counted at the end if the request ends in a server error."""
        if self._errors is None:
            self._errors = [error]
        elif all(error is not known for known in self._errors):
            self._errors.append(error)

    def compute_extra_labels(self, request: Any, response: Any) -> None:
        """Compute the extra labels from the framework's request and response."""
        if self.recorder.extra_labels:
            self.extra = self.recorder.extra_values(request, response)

    def finish(self, ended: float | None = None) -> None:
        """Observe the request, once; further calls do nothing. Never raises.

        Args:
            ended: ``perf_counter()`` at its end, if that is not now.
        """
        if self.finished:
            return
        self.finished = True
        recorder = self.recorder
        errors = self._errors
        writer = None
        try:
            self.request_start.dec_in_progress(-1)
            if self.measured:
                duration = (perf_counter() if ended is None else ended) - self.started
                key: CacheKey = (self.request_start, self.route, self.status, self.extra)
                if errors is not None and recorder.naming.has_error_label and self._failed:
                    key = (*key, type(errors[-1]).__qualname__)
                try:
                    writer = recorder.writers[key]
                except KeyError:
                    writer = recorder.writer_for(key)
                if writer is not None:
                    writer.write(duration, self)
        except Exception:
            recorder.record_internal_error("finish")
        if errors is not None:
            self._count_errors(counted=writer is not None)

    def count_exception_after_finish(self, error: BaseException) -> None:
        """Count an exception that came to light when the request was over, if it was a server error."""
        if self.measured and self.status is not None and self.status >= "500":
            key = (self.request_start, self.route, self.status, self.extra)
            if (self.recorder.writers.get(key) or self.recorder.writer_for(key)) is not None:
                self.recorder.count_exception(self, error)

    @property
    def _failed(self) -> bool:
        """Whether the request ended in a server error, in no response or in a broken body."""
        return self.body_failed or self.status is None or self.status >= "500"

    def _count_errors(self, *, counted: bool) -> None:
        try:
            if counted and self._failed:
                for error in self._errors or ():
                    self.recorder.count_exception(self, error)
        except Exception:
            self.recorder.record_internal_error("finish")
        finally:
            self._errors = None  # an exception holds its frames, and through them this object

    def __del__(self) -> None:
        # The collector may run this while the same thread holds a value's lock: only note it down.
        if not self.finished:
            self.recorder.abandoned.append((self, perf_counter()))


def _route_facts(route: str | None) -> dict[str, str]:
    return {"route": UNMATCHED, "template": EMPTY} if route is None else {"route": route, "template": route}


def _no_route(recording: Recording) -> None:
    """Know nothing that a framework would."""
