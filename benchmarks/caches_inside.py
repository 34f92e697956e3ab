"""Operations of caches of Django that run others inside: bare, by hand around these, and with web-prom."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.locmem import LocMemCache

from benchmarks.caches_django import KEY, bound_histogram
from benchmarks.pairing import BARE, FLOOR, OURS, Variant
from benchmarks.queries_django import app_of, configure, install, path_of

__all__ = ["PEERS", "VARIANTS", "path_of"]

OTHER_KEY = "order:8"

OPERATIONS_INSIDE = 6
"""A hit of get_or_set has one, a miss three, and get_many of two keys two."""


class PlainCache(LocMemCache):  # type: ignore[misc]
    """Django's cache with the methods of its base as they are before web-prom replaces them."""

    get_many = vars(BaseCache)["get_many"]
    get_or_set = vars(BaseCache)["get_or_set"]


def _variant(name: str, cache: Any, measure_by_hand: Callable[[], None] | None = None) -> Variant:
    for key in (KEY, OTHER_KEY):
        cache.set(key, "paid", None)

    def run() -> None:
        cache.get_or_set(KEY, "paid")
        cache.get_or_set("gone", "paid", 0)  # it expires at once
        cache.get_many((KEY, OTHER_KEY))
        if measure_by_hand is not None:
            measure_by_hand()

    return Variant(name, app_of(run))


def _floor(_paths: int) -> Variant:
    configure()
    observe = bound_histogram().observe

    def measure_by_hand() -> None:
        for _ in range(OPERATIONS_INSIDE):
            started = perf_counter()
            observe(perf_counter() - started)

    return _variant(FLOOR, PlainCache(FLOOR, {}), measure_by_hand)


def _bare(_paths: int) -> Variant:
    configure()
    return _variant(BARE, PlainCache(BARE, {}))


def _web_prom(_paths: int) -> Variant:
    configure()
    install()
    return _variant(OURS, caches["default"])


VARIANTS: dict[str, Callable[[int], Variant]] = {BARE: _bare, FLOOR: _floor, OURS: _web_prom}
PEERS: dict[str, Callable[[int], Variant]] = {}
