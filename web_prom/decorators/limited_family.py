"""The metric family of decorated functions: its limit, its children, and the errors of its labels."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from web_prom.errors import ConflictError
from web_prom.metrics import conventions
from web_prom.metrics.families import error_counter
from web_prom.metrics.get_or_create import get_or_create
from web_prom.metrics.labels import clean_label_value
from web_prom.metrics.limited_metric import LimitedMetric
from web_prom.metrics.writers import InMemoryWriter, make_writer
from web_prom.multiprocess.writing.activation import switch_callbacks
from web_prom.multiprocess.writing.slot_limiter import is_in_slots
from web_prom.posix import at_fork
from web_prom.runtime import this_process

logger = logging.getLogger("web_prom")

Write = Callable[[float, object], object]
"""Writes an amount to a child. The second argument is ignored."""

_lock = Lock()
_families: WeakValueDictionary[int, LimitedFamily] = WeakValueDictionary()
"""The families by the id of their metric, to which each of them refers. The decorated functions keep them."""


class LimitedFamily:
    """One metric family of decorated functions. Functions with the same metric share it, and its limit.

    Safe to share between threads. The children are looked up again after the switch to shared values, and
    after a fork in the child process, because its slot has other label sets.

    Args:
        metric: The metric.
        registry: The registry, which also gets the errors of labels and the number of overflows.
        bounds: The upper bounds of the buckets of a histogram.
        label_names: The names of its labels.
        constant_names: The labels that are constants in the code. An overflow label set keeps their values.
        limit: The maximum number of label sets.

    Attributes:
        name: The name of the family.
        writes: What writes to the child of each label set that was used, without overflow label sets. It is
            the same dictionary for the life of the family.
    """

    def __init__(
        self,
        metric: MetricWrapperBase,
        registry: CollectorRegistry,
        *,
        bounds: tuple[float, ...],
        label_names: tuple[str, ...],
        constant_names: frozenset[str],
        limit: int,
    ) -> None:
        self.limit = limit
        self.constant_names = constant_names
        self.writes: dict[tuple[str, ...], Write] = {}
        self._metric = metric
        self._bounds = bounds
        self._label_names = label_names
        self._registry = registry
        self._limited = LimitedMetric(metric, limit, (), constant_names, label_names)
        self.name = self._limited.name
        self._warned: set[str] = set()

    def write_of(self, values: tuple[str, ...]) -> Write:
        """Return what writes to the child for label values, or to the overflow label set.

        Args:
            values: The values of all labels, not necessarily clean.
        """
        clean = tuple(map(clean_label_value, values))
        if self._label_names:
            child, overflow = self._limited.child_and_overflow({}, clean)
        else:
            child, overflow = self._metric, False
        write = _write_of(child, self._bounds)
        if overflow:
            self._count_overflow()
        elif clean == values:  # else a client could fill the memory with keys
            self.writes[values] = write
        return write

    def record_error(self, stage: str) -> None:
        """Count an error of the instrumentation, and log the first one of each stage. Never raises."""
        try:
            error_counter(self._registry).labels(stage).inc()
            self._warn(
                stage,
                "error in stage '%s' of %s; counted in web_prom_instrumentation_errors_total",
                stage,
                self.name,
                exc_info=True,
            )
        except Exception:
            logger.debug("an instrumentation error could not be counted", exc_info=True)

    def _count_overflow(self) -> None:
        spec = conventions.LABEL_OVERFLOW
        counter = get_or_create(Counter, spec.name, spec.documentation, spec.labels, registry=self._registry)
        counter.labels(self.name).inc()
        self._warn(
            "overflow",
            "%s has %d label sets, as many as its decorator allows. Further label sets are counted under "
            "_overflow. The usual reason is a label with an unlimited number of values.",
            self.name,
            self.limit,
        )

    def _warn(self, what: str, message: str, *arguments: object, exc_info: bool = False) -> None:
        if what not in self._warned:
            self._warned.add(what)
            logger.warning(message, *arguments, exc_info=exc_info)


def _write_of(child: Any, bounds: tuple[float, ...]) -> Write:
    """Return what writes to a child. It is valid until the values of the process move to another place."""
    if isinstance(child, Histogram):
        writer = make_writer(None, child, bounds, ())
        # In memory it takes a third of the time of observe(). A value in a file can be removed by others, and
        # observe() handles that.
        return writer.write if isinstance(writer, InMemoryWriter) else child.observe  # type: ignore[return-value]
    method = child.inc if isinstance(child, Counter | Gauge) else child.observe
    return lambda amount, _: method(amount)


def family_for(
    metric: MetricWrapperBase,
    registry: CollectorRegistry,
    *,
    bounds: tuple[float, ...],
    label_names: tuple[str, ...],
    constant_names: frozenset[str],
    limit: int,
) -> LimitedFamily:
    """Return the family of a metric. Create it if the metric has none. Arguments as :class:`LimitedFamily`.

    Raises:
        ConflictError: The family exists with another limit, or with other constant labels.
    """
    with _lock:
        family = _families.get(id(metric))
        if family is None:
            family = LimitedFamily(
                metric,
                registry,
                bounds=bounds,
                label_names=label_names,
                constant_names=constant_names,
                limit=limit,
            )
            _families[id(metric)] = family
    name = family.name
    if family.limit != limit:
        raise ConflictError(
            f"{name} is decorated twice, with max_label_sets={family.limit} and with max_label_sets={limit}; "
            "give both the same limit"
        )
    if family.constant_names != constant_names:
        differing = sorted(family.constant_names ^ constant_names)[0]
        raise ConflictError(
            f"{name} is decorated twice: label {differing!r} is a constant in one decorator and a "
            "function in the other; use the same kind in both, for example a function that returns a constant"
        )
    return family


closed_calls: deque[Callable[[], object]] = deque()
"""What is to be written for calls that ended with GeneratorExit. The functions do not raise.

The garbage collector can end a generator while the same thread holds the lock of a value. So these calls are
written with the next call of a decorated function, or at the next scrape.
"""


def write_closed() -> None:
    """Write what is in :data:`closed_calls`. Never raises."""
    while closed_calls:
        try:
            write_call = closed_calls.popleft()
        except IndexError:  # another thread took the last one
            return
        write_call()


def write(family: LimitedFamily, values: tuple[str, ...], amount: float) -> None:
    """Write an amount for label values. Never raises: an error is counted."""
    try:
        write_amount = family.writes.get(values) or family.write_of(values)
        write_amount(amount, None)
    except Exception:
        family.record_error("decorator")


def _drop_writes() -> None:
    for family in list(_families.values()):
        family.writes.clear()


def _begin_in_child() -> None:
    """Drop what belongs to the parent: the slot of the child has other label sets, and no closed calls."""
    _lock._at_fork_reinit()  # type: ignore[attr-defined]
    closed_calls.clear()
    if is_in_slots():
        _drop_writes()


switch_callbacks.append(_drop_writes)
this_process.add_publish_callback(write_closed)
at_fork(after_in_child=_begin_in_child)
