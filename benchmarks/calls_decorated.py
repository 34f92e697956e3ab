"""One call of a function: bare, by hand, and with the decorators of web-prom."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from time import perf_counter
from typing import Any

from prometheus_client import CollectorRegistry, Histogram

import web_prom as prom
from benchmarks.pairing import BARE, FLOOR, OURS, Variant
from web_prom.config import DEFAULT_DURATION_BUCKETS
from web_prom.decorators.functions import Decorator
from web_prom.multiprocess.writing.early_activation import switch_at_first_value

_registry = CollectorRegistry()


def path_of(_number: int) -> str:
    """Return the path of a request: there is one."""
    return "/"


def place(order: str) -> str:
    """Do nothing: the measured function."""
    return order


def _variant(name: str, function: Callable[[str], str]) -> Variant:
    def app(environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
        function("book")
        start_response("200 OK", [])
        return (b"ok",)

    return Variant(name, app)


def _floor(_paths: int) -> Variant:
    histogram = Histogram(
        "floor_seconds", "Floor.", ["kind"], registry=_registry, buckets=DEFAULT_DURATION_BUCKETS
    )
    observe = histogram.labels("book").observe

    def place_by_hand(order: str) -> str:
        started = perf_counter()
        try:
            return order
        finally:
            observe(perf_counter() - started)

    return _variant(FLOOR, place_by_hand)


def _ours(name: str) -> Callable[[int], Variant]:
    return lambda _: _variant(name, _functions()[name])


@cache
def _functions() -> dict[str, Callable[[str], str]]:
    """Return all decorated functions. Their values exist before variants use values of another class."""
    switch_at_first_value()
    functions: dict[str, Callable[[str], str]] = {
        name: decorator()(place) for name, decorator in _decorators().items()
    }
    for function in functions.values():
        function("book")
    return functions


def _decorators() -> dict[str, Callable[[], Decorator]]:
    by_argument = {"kind": lambda order: order}
    by_two = {"kind": lambda order: order, "exception": prom.exception_type}
    return {
        OURS: lambda: prom.time("a_seconds", "A.", labels=by_argument, registry=_registry),
        "time, no labels": lambda: prom.time("b_seconds", "B.", registry=_registry),
        "time, label by the result": lambda: prom.time(
            "c_seconds", "C.", labels={"kind": lambda result: result}, registry=_registry
        ),
        "time, labels by argument and exception": lambda: prom.time(
            "d_seconds", "D.", labels=by_two, registry=_registry
        ),
        "count, label by an argument": lambda: prom.count(
            "e_total", "E.", labels=by_argument, registry=_registry
        ),
        "observe, number by an argument": lambda: prom.observe(
            "f", "F.", lambda order: 1, registry=_registry
        ),
        "track_in_progress": lambda: prom.track_in_progress("g", "G.", registry=_registry),
    }


VARIANTS: dict[str, Callable[[int], Variant]] = {
    BARE: lambda _: _variant(BARE, place),
    FLOOR: _floor,
    **{name: _ours(name) for name in _decorators()},
}
PEERS: dict[str, Callable[[int], Variant]] = {}
