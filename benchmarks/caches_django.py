"""A hit and a set in a cache of Django: bare, by hand, with web-prom, and with django-prometheus' backend."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec, module_from_spec
from time import perf_counter
from typing import Any

from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from prometheus_client import CollectorRegistry, Histogram

from benchmarks.pairing import BARE, FLOOR, OURS, Variant
from benchmarks.queries_django import PEER, app_of, configure, install, path_of

__all__ = ["PEERS", "VARIANTS", "path_of"]

KEY = "order:7"


def _second_class() -> type:
    """Return a class like Django's. The other variants have the original, whose methods stay as they are."""
    spec = find_spec(LocMemCache.__module__)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    second: type = module.LocMemCache
    return second


OurCache = _second_class()


def cache_of(name: str) -> Any:
    """Return the cache of a variant, with a value."""
    if name == OURS:
        cache = caches["default"]
    elif name == PEER:
        from django_prometheus.cache.backends.locmem import LocMemCache as PeerCache

        cache = PeerCache(name, {})
    else:
        cache = LocMemCache(name, {})
    cache.set(KEY, "paid", None)
    return cache


def bound_histogram() -> Histogram:
    """Return a child of a histogram with the labels and buckets of web-prom's."""
    from web_prom.cache.conventions import DURATION, DURATION_BUCKETS

    labels, registry = tuple(DURATION.labels), CollectorRegistry()
    histogram = Histogram("floor_seconds", "Floor.", labels, registry=registry, buckets=DURATION_BUCKETS)
    return histogram.labels("default", "get", "hit")


def measured_by_hand() -> tuple[Callable[[], None], Callable[[], None]]:
    """Return a function that gets a value, and one that sets it. Both observe the duration."""
    cache, observe = cache_of(FLOOR), bound_histogram().observe

    def get() -> None:
        started = perf_counter()
        try:
            cache.get(KEY)
        finally:
            observe(perf_counter() - started)

    def set_() -> None:
        started = perf_counter()
        try:
            cache.set(KEY, "paid", None)
        finally:
            observe(perf_counter() - started)

    return get, set_


def _variant(name: str) -> Variant:
    configure()
    cache = cache_of(name)

    def run() -> None:
        cache.get(KEY)
        cache.set(KEY, "paid", None)

    return Variant(name, app_of(run))


def _floor(_paths: int) -> Variant:
    configure()
    get, set_ = measured_by_hand()

    def run() -> None:
        get()
        set_()

    return Variant(FLOOR, app_of(run))


def _web_prom(_paths: int) -> Variant:
    configure()
    install()
    return _variant(OURS)


VARIANTS: dict[str, Callable[[int], Variant]] = {
    BARE: lambda _: _variant(BARE),
    FLOOR: _floor,
    OURS: _web_prom,
}
PEERS: dict[str, Callable[[int], Variant]] = {PEER: lambda _: _variant(PEER)}
