"""The decorators ``count``, ``time``, ``observe`` and ``track_in_progress``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import isnan
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Summary

from web_prom.config.parsers import parse_bounds
from web_prom.config.settings import DEFAULT_DURATION_BUCKETS
from web_prom.decorators.call_labels import MISSING, Arguments, Keywords, compile_function, signature_of
from web_prom.decorators.limited_family import LimitedFamily
from web_prom.decorators.observers import make_family, observe_end, observe_start_and_end
from web_prom.decorators.wrapping import Observer, wrap
from web_prom.errors import ConfigError

F = TypeVar("F", bound="Callable[..., Any] | classmethod[Any, Any, Any] | staticmethod[Any, Any] | property")

Exceptions = type[BaseException] | tuple[type[BaseException], ...]

DEFAULT_MAX_LABEL_SETS = 1000


class Decorator(Protocol):
    """A decorator that returns a function of the same type."""

    def __call__(self, function: F, /) -> F:
        """Return the function with its calls measured."""


def count(
    name: str,
    documentation: str,
    *,
    labels: Mapping[str, object] | None = None,
    exceptions: Exceptions | None = None,
    registry: CollectorRegistry = REGISTRY,
    max_label_sets: int = DEFAULT_MAX_LABEL_SETS,
) -> Decorator:
    """Count the calls of a function, when they end.

    ::

        import web_prom as prom

        @prom.count("orders_total", "Orders placed.", labels={"kind": lambda order: order.kind})
        def place(order: Order) -> Receipt: ...

        @app.get("/item/<item>")
        @prom.count("items_total", "Items shown.",
                    labels={"item": lambda item: item, "status": lambda response: response.status_code})
        def show(item: str) -> str: ...

    The function can be of any kind: a function, a method, a coroutine function, a generator, an asynchronous
    generator. Its results, its exceptions, its signature and its type do not change. The traceback of an
    exception has one frame more for each decorator. If arguments do not fit a coroutine function or a
    generator, the TypeError is raised when it starts to run, not when it is called. A call of a generator
    lasts from the first ``next()`` to its end or ``close()``; one that never starts is not counted.

    Safe in threads and in event loops. Values are shared by many workers as other metrics are.

    Args:
        name: The name of the counter.
        documentation: The help text.
        labels: For each label name a constant, or a function. The parameters of the function say what it
            gets: arguments of the call, by the names that the decorated function gives them, and ``result``,
            ``error`` (the exception), ``request`` and ``response``. An argument of the decorated function
            with one of these names comes first. If a part does not exist (the result of a call that raised,
            the error of one that did not, a request outside of a request), the function is not called and
            the label is empty, unless the parameter has a default. Functions are called when the call ends.
            If one raises, the label is empty, and ``web_prom_instrumentation_errors_total`` counts it.
        exceptions: Count only the calls that raise one of these exceptions.
        registry: The registry of the counter.
        max_label_sets: The maximum number of label sets in a process, or with shared values in a slot.
            Further calls are counted with ``_overflow`` in the place of values that are not constants.

    Raises:
        ConfigError: A label's function has a parameter that is not known, or an argument is not allowed.
        ConflictError: The registry has this name with another definition, labels or limit.
        TypeError: The decorated object is not a function, or ``registry`` is not a registry.
    """
    try:
        isinstance(None, exceptions or ())
    except TypeError:
        raise ConfigError(
            f"exceptions is {exceptions!r}; allowed: a class of exceptions, or a tuple of them"
        ) from None
    family = make_family(Counter, name, documentation, labels=labels, limit=max_label_sets, registry=registry)

    def make_observer(function: Callable[..., Any]) -> Observer:
        def amount(args: Arguments, kwargs: Keywords, result: Any, error: Any) -> float | None:
            return 1.0 if exceptions is None or isinstance(error, exceptions) else None

        return observe_end(family, labels, function, amount)

    return _decorator(make_observer)


def time(
    name: str,
    documentation: str,
    *,
    labels: Mapping[str, object] | None = None,
    buckets: Iterable[float] = DEFAULT_DURATION_BUCKETS,
    summary: bool = False,
    registry: CollectorRegistry = REGISTRY,
    max_label_sets: int = DEFAULT_MAX_LABEL_SETS,
) -> Decorator:
    """Measure the duration of the calls of a function, in seconds.

    ::

        @prom.time("order_seconds", "Time to place an order.", labels={"error": prom.exception_type})
        async def place(order: Order) -> Receipt: ...

    Args:
        name: The name of the histogram.
        documentation: The help text.
        labels: As for :func:`count`.
        buckets: Upper bounds, in seconds.
        summary: Create a summary, without buckets.
        registry: The registry of the metric.
        max_label_sets: As for :func:`count`.

    A view that returns a streaming response ends before the body is sent. To time the body too, decorate the
    generator that makes it. Exceptions and everything else are as for :func:`count`.
    """
    family = _distribution(
        name,
        documentation,
        buckets,
        summary=summary,
        labels=labels,
        limit=max_label_sets,
        registry=registry,
    )
    return _decorator(lambda function: observe_end(family, labels, function, None))


def observe(
    name: str,
    documentation: str,
    value: Callable[..., Any],
    *,
    labels: Mapping[str, object] | None = None,
    buckets: Iterable[float] = Histogram.DEFAULT_BUCKETS,
    summary: bool = False,
    registry: CollectorRegistry = REGISTRY,
    max_label_sets: int = DEFAULT_MAX_LABEL_SETS,
) -> Decorator:
    """Observe a number of each call of a function.

    ::

        @prom.observe("order_items", "Items of an order.", lambda order: len(order.items),
                      buckets=(1, 2, 5, 10))
        def place(order: Order) -> Receipt: ...

    Args:
        name: The name of the histogram.
        documentation: The help text.
        value: A function as in ``labels`` of :func:`count` that returns the number. Nothing is observed if it
            returns None, or if a part of the call does not exist, for example the result of a call that
            raised. If it raises or returns NaN, nothing is observed, and the error is counted.
        labels: As for :func:`count`.
        buckets: Upper bounds.
        summary: Create a summary, without buckets.
        registry: The registry of the metric.
        max_label_sets: As for :func:`count`.

    Exceptions and everything else are as for :func:`count`.
    """
    family = _distribution(
        name,
        documentation,
        buckets,
        summary=summary,
        labels=labels,
        limit=max_label_sets,
        registry=registry,
    )

    def make_observer(function: Callable[..., Any]) -> Observer:
        compute = compile_function("value", value, signature_of(function))

        def amount(args: Arguments, kwargs: Keywords, result: Any, error: Any) -> float | None:
            try:
                found = compute(args, kwargs, result, error)
                number = None if found is None or found is MISSING else float(found)
                if number is not None and isnan(number):
                    raise ValueError("a sum with NaN is NaN for ever")
                return number
            except Exception:
                family.record_error("value")
                return None

        return observe_end(family, labels, function, amount)

    return _decorator(make_observer)


def track_in_progress(
    name: str,
    documentation: str,
    *,
    labels: Mapping[str, object] | None = None,
    registry: CollectorRegistry = REGISTRY,
    max_label_sets: int = DEFAULT_MAX_LABEL_SETS,
) -> Decorator:
    """Show how many calls of a function are in progress, in all live workers together.

    ::

        @prom.track_in_progress("exports_in_progress", "Exports that run now.")
        def export(report: Report) -> Iterator[bytes]: ...

    Args:
        name: The name of the gauge.
        documentation: The help text.
        labels: As for :func:`count`. They are computed when the call starts. So their functions may use the
            arguments and ``request`` only.
        registry: The registry of the gauge.
        max_label_sets: As for :func:`count`.

    Exceptions and everything else are as for :func:`count`.
    """
    family = make_family(
        Gauge,
        name,
        documentation,
        labels=labels,
        limit=max_label_sets,
        registry=registry,
        multiprocess_mode="livesum",
    )
    return _decorator(lambda function: observe_start_and_end(family, labels, function))


def exception_type(error: BaseException) -> str:
    """Return the name of the class of an exception: a function for ``labels``.

    The label is empty if the call raised nothing.
    """
    return type(error).__name__


def _decorator(make_observer: Callable[[Callable[..., Any]], Observer]) -> Decorator:
    observers: WeakKeyDictionary[Any, Observer] = WeakKeyDictionary()

    def make_observer_once(function: Callable[..., Any]) -> Observer:
        # Django's method_decorator decorates a partial function of the method in each request.
        method = getattr(function, "__wrapped__", None) if isinstance(function, partial) else None
        if method is None:
            return make_observer(function)
        observer = observers.get(method)
        if observer is None:
            observer = observers[method] = make_observer(function)
        return observer

    def decorate(function: F, /) -> F:
        wrapped: F = wrap(function, make_observer_once)
        return wrapped

    return decorate


def _distribution(
    name: str, documentation: str, buckets: Iterable[float], *, summary: bool, **options: Any
) -> LimitedFamily:
    if summary:
        return make_family(Summary, name, documentation, **options)
    try:
        bounds = parse_bounds(buckets)
    except ValueError as error:
        raise ConfigError(f"buckets is {buckets!r}; allowed: {error}") from None
    return make_family(Histogram, name, documentation, buckets=bounds, **options)
