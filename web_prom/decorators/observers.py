"""Observers of decorated functions: what is written when a call starts and ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from web_prom.decorators.call_labels import MISSING, Arguments, Keywords, compile_labels, signature_of
from web_prom.decorators.limited_family import (
    LimitedFamily,
    Write,
    closed_calls,
    family_for,
    write,
    write_closed,
)
from web_prom.decorators.wrapping import Observer
from web_prom.errors import ConfigError
from web_prom.metrics.get_or_create import get_or_create_at

Labels = Mapping[str, object] | None
"""A constant or a function of the call for each label name."""


def make_family(
    kind: type[MetricWrapperBase],
    name: str,
    documentation: str,
    *,
    labels: Labels,
    limit: int,
    registry: CollectorRegistry,
    **options: Any,
) -> LimitedFamily:
    """Return the family of a decorator. Decorators with equal definitions share it.

    Args:
        kind: The class of the metric.
        name: Its name.
        documentation: Its help text.
        labels: Its labels.
        limit: The maximum number of label sets.
        registry: Its registry.
        **options: Further arguments of the metric.

    Raises:
        ConfigError: The limit is not a whole number of at least 1, the labels are not a mapping, or the name
            of a label is not a text.
        ConflictError: The registry has this name with another definition, labels or limit.
    """
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise ConfigError(f"max_label_sets is {limit!r}; allowed: a whole number of at least 1")
    labels = {} if labels is None else labels
    if not isinstance(labels, Mapping):
        raise ConfigError(f"labels is {labels!r}; allowed: a mapping from names to constants or functions")
    # An empty name would make the whole scrape unreadable.
    for label in labels:
        if not isinstance(label, str) or not label:
            raise ConfigError(f"labels has the name {label!r}; allowed: a text that is not empty")
    metric = get_or_create_at(
        _location_of_user(), kind, name, documentation, tuple(labels), registry=registry, **options
    )
    return family_for(
        metric,
        registry,
        bounds=options.get("buckets", ()),
        label_names=tuple(labels),
        constant_names=frozenset(label for label, value in labels.items() if not callable(value)),
        limit=limit,
    )


def observe_end(
    family: LimitedFamily,
    labels: Labels,
    function: Callable[..., Any],
    amount: Callable[..., float | None] | None,
) -> Observer:
    """Return an observer that writes an amount when a call ends.

    Args:
        family: The family.
        labels: Its labels.
        function: The decorated function.
        amount: Returns the amount of a call, or None for a call that does not count. It never raises. If
            there is no such function, the amount is the duration of the call in seconds.
    """
    values_of = compile_labels(labels or {}, signature_of(function), family.record_error)
    writes = family.writes

    # The same as write(), without the call.
    def leave(token: Any, args: Arguments, kwargs: Keywords, result: Any, error: Any) -> None:
        number = perf_counter() - token if amount is None else amount(args, kwargs, result, error)
        if number is None:
            return
        values = values_of(args, kwargs, result, error)
        try:
            write_amount = writes.get(values) or family.write_of(values)
            write_amount(number, None)
        except Exception:
            family.record_error("decorator")
        if closed_calls:
            write_closed()

    def leave_later(token: Any, args: Arguments, kwargs: Keywords, result: Any, error: Any) -> None:
        number = perf_counter() - token if amount is None else amount(args, kwargs, result, error)
        if number is not None:
            closed_calls.append(partial(write, family, values_of(args, kwargs, result, error), number))

    _create_constant_child(family, labels)
    return Observer(None, leave, leave_later)


def observe_start_and_end(family: LimitedFamily, labels: Labels, function: Callable[..., Any]) -> Observer:
    """Return an observer that adds 1 when a call starts, and subtracts it when the call ends."""
    signature = signature_of(function, has_ended=False)
    values_of = compile_labels(labels or {}, signature, family.record_error)

    def enter(args: Arguments, kwargs: Keywords) -> Write | None:
        if closed_calls:
            write_closed()
        values: tuple[str, ...] = values_of(args, kwargs, MISSING, None)
        try:
            write_amount = family.writes.get(values) or family.write_of(values)
            write_amount(1.0, None)
        except Exception:
            family.record_error("decorator")
            return None
        return write_amount

    # To the same child, whatever happened to the limit meanwhile.
    def subtract(write_amount: Write | None) -> None:
        try:
            if write_amount is not None:
                write_amount(-1.0, None)
        except Exception:
            family.record_error("decorator")

    def leave(token: Any, args: Arguments, kwargs: Keywords, result: Any, error: Any) -> None:
        subtract(token)

    def leave_later(token: Any, args: Arguments, kwargs: Keywords, result: Any, error: Any) -> None:
        closed_calls.append(partial(subtract, token))

    _create_constant_child(family, labels)
    return Observer(enter, leave, leave_later)


def _create_constant_child(family: LimitedFamily, labels: Labels) -> None:
    """Create the child at 0 if all labels are constants, so that scrapes have it before the first call."""
    if labels and not any(map(callable, labels.values())):
        family.write_of(tuple(map(str, labels.values())))


def _location_of_user() -> str:
    """Return the file and the line of the code that calls a decorator."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("web_prom.decorators"):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
