"""The class in which new metrics keep their numbers, and prometheus_client's own two classes for that."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from threading import RLock
from typing import Any, TypeVar

from prometheus_client import Counter, Gauge, Histogram, Summary, metrics
from prometheus_client.metrics import MetricWrapperBase

from web_prom.upstream.checks import PROBE

MetricType = TypeVar("MetricType", bound=MetricWrapperBase)

logger = logging.getLogger("web_prom")

# Metrics look the value class up in this module, each time that one is made.
_values: Any = getattr(metrics, "values", None)

# One for each process: a fork lacks the thread that may hold its parent's lock.
_locks: dict[int, RLock] = {}


class _Missing:
    """The class of no value."""


InMemoryValue: Any = getattr(_values, "MutexValue", _Missing)
"""The class of values that one process keeps for itself; if the name is missing, a class of no value."""


def value_class() -> Any:
    """Return the class in which new metrics keep their numbers; None if the name is missing."""
    return getattr(_values, "ValueClass", None)


def set_value_class(kind: Any) -> None:
    """Have new metrics keep their numbers in a class: after :func:`can_replace_value_class`."""
    with _lock():
        _values.ValueClass = kind


def in_memory_class() -> Any:
    """Return the class of values that one process keeps for itself, while the variable is not set."""
    return _values.get_value_class() if InMemoryValue is _Missing else InMemoryValue


def is_multiprocess(kind: Any) -> bool:
    """Return whether values of a class are in files."""
    return bool(getattr(kind, "_multiprocess", is_own_multiprocess(kind)))


def is_own_multiprocess(kind: Any) -> bool:
    """Return whether a class is prometheus_client's for files per process id.

    The name of the class does not matter. If the flag is missing, it is any class of that module but the one
    for values in memory.
    """
    if getattr(kind, "__module__", None) != getattr(_values, "__name__", ""):
        return False
    return bool(getattr(kind, "_multiprocess", kind is not InMemoryValue))


def can_replace_value_class(kind: Any) -> bool:
    """Check that metrics make their values of the value class, with the arguments that such a class takes.

    Nothing is written to files.

    Args:
        kind: The class for the metrics that other threads make meanwhile.
    """
    try:
        with throwaway_values(kind) as made:
            Counter(PROBE, "Help.", ["a"], registry=None).labels("x")
            Gauge(PROBE, "Help.", registry=None, multiprocess_mode="max")
            Histogram(PROBE, "Help.", ["a"], registry=None, buckets=(1,)).labels("x")
            Summary(PROBE, "Help.", registry=None)
    except Exception:
        logger.debug("the value class of prometheus_client cannot be replaced", exc_info=True)
        return False
    names = ("a",), ("a", "le")
    return made == [
        ("counter", PROBE, f"{PROBE}_total", names[0], ("x",), "Help."),
        ("gauge", PROBE, PROBE, (), (), "Help.", "max"),
        ("histogram", PROBE, f"{PROBE}_sum", names[0], ("x",), "Help."),
        ("histogram", PROBE, f"{PROBE}_bucket", names[1], ("x", "1.0"), "Help."),
        ("histogram", PROBE, f"{PROBE}_bucket", names[1], ("x", "+Inf"), "Help."),
        ("summary", PROBE, f"{PROBE}_count", (), (), "Help."),
        ("summary", PROBE, f"{PROBE}_sum", (), (), "Help."),
    ]


@contextmanager
def throwaway_values(kind: Any = None) -> Iterator[list[tuple[Any, ...]]]:
    """Have throwaway metrics keep their numbers in memory. Metrics of other threads are made as before.

    Args:
        kind: The class for metrics of other threads; None for the present one.

    Yields:
        The arguments with which each value of a throwaway metric was made.
    """
    made: list[tuple[Any, ...]] = []
    with _lock():
        former = value_class()
        real = former if kind is None else kind

        def make(cls: type, typ: str, metric_name: str, *arguments: Any, **options: Any) -> Any:
            if metric_name != PROBE:
                return real(typ, metric_name, *arguments, **options)
            made.append((typ, metric_name, *arguments, *options.values()))
            return _ThrowawayValue()

        # A subclass, so that whoever looks at the class meanwhile sees what it is.
        _values.ValueClass = type(real.__name__, (real,), {"__slots__": (), "__new__": make})
        try:
            yield made
        finally:
            _values.ValueClass = former


def make_without_values(kind: type[MetricType], *arguments: Any, **options: Any) -> MetricType:
    """Make a metric that has no numbers, to read its definition. No value is made, and no file is written.

    A subclass that uses its numbers in ``__init__`` has them.

    Args:
        kind: The class of the metric.
        *arguments: The arguments of the class.
        **options: Its arguments by name. They include ``registry=None``.

    Raises:
        Exception: What the class raises.
    """
    # If the name is missing, the metric has numbers, which does no harm.
    with suppress(Exception):
        made: MetricType = _class_without_values(kind)(*arguments, **options)
        return made
    return kind(*arguments, **options)


@lru_cache(maxsize=64)
def _class_without_values(kind: type) -> Any:
    return type(kind)(kind.__name__, (kind,), {"_metric_init": lambda metric: None})


class _ThrowawayValue:
    """A value of a throwaway metric. It is in memory, whatever prometheus_client's own classes are."""

    def __init__(self) -> None:
        self._number = 0.0

    def inc(self, amount: float) -> None:
        self._number += amount

    def set(self, number: float, timestamp: float | None = None) -> None:
        self._number = number

    def get(self) -> float:
        return self._number

    def get_exemplar(self) -> None:
        return None


def _lock() -> RLock:
    return _locks.setdefault(os.getpid(), RLock())


def redirect(kind: Any, make_successor: Callable[[Any], Any]) -> None:
    """Have all values of prometheus_client's class for files read and write other values.

    A metric that is in no known registry keeps values of that class.

    Args:
        kind: The class.
        make_successor: Makes the other value, when a value is used for the first time from now on.
    """

    def successor(value: Any) -> Any:
        found = vars(value).get("_successor")
        return found or vars(value).setdefault("_successor", make_successor(value))

    kind.inc = lambda value, amount: successor(value).inc(amount)
    kind.set = lambda value, amount, timestamp=None: successor(value).set(amount, timestamp)
    kind.get = lambda value: successor(value).get()


def successor_of(value: Any) -> Any:
    """Return the value to which a value of prometheus_client's class for files is redirected, or None."""
    if not is_own_multiprocess(type(value)):
        return None
    value.get()
    return vars(value).get("_successor")


def number_beside_file(value: Any, get: Callable[[Any], float]) -> float:
    """Return the number of a value of prometheus_client's class for files, which it keeps in memory as well.

    Args:
        value: The value.
        get: The class's ``get`` as it was before :func:`redirect`. It is called if the name is missing.
    """
    number: float | None = getattr(value, "_value", None)
    return get(value) if number is None else number


def arguments_of(value: Any) -> tuple[Any, ...]:
    """Return the arguments with which a value of prometheus_client's class for files was made.

    If the name is missing, they are the only attribute that is a tuple of seven.
    """
    arguments: tuple[Any, ...] | None = getattr(value, "_params", None)
    if arguments is None:
        arguments = next(each for each in vars(value).values() if isinstance(each, tuple) and len(each) == 7)
    return arguments
