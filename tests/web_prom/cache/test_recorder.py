"""The recorder of cache operations: labels, limits, and values that are replaced."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom.support import samples
from web_prom.cache.calls import GetOrSet, Rule
from web_prom.cache.conventions import DURATION_BUCKETS
from web_prom.cache.methods import Library, is_measured, measure, restore
from web_prom.cache.recorder import CacheRecorder, LazyRecorderSource, Target
from web_prom.cache.running import new_call
from web_prom.config import Config
from web_prom.metrics.recorder import Recorder


def recorder_with(registry: CollectorRegistry, **settings: Any) -> tuple[Recorder, CacheRecorder]:
    """Return the recorder of an application and that of its caches. The caller keeps both alive."""
    recorder = Recorder(Config.load(settings), registry)
    return recorder, CacheRecorder(recorder)


def test_families_have_the_constant_labels_and_the_namespace(registry: CollectorRegistry) -> None:
    _kept, caches = recorder_with(
        registry,
        namespace="shop",
        constant_labels={"zone": "a"},
        extra_labels={"tenant": lambda request, response: "x"},
    )
    caches.observe("default", "get", "hit", 0.002)
    caches.observe_keys("default", "get_many", 2, 1, 0.2)
    labels = ("cache", "operation", "result", "zone")
    assert samples(registry, "shop_cache_operations_total", *labels) == {
        ("default", "get", "hit", "a"): 1,
        ("default", "get_many", "hit", "a"): 2,
        ("default", "get_many", "miss", "a"): 1,
    }
    assert samples(registry, "shop_cache_operation_duration_seconds_sum", *labels) == {
        ("default", "get", "hit", "a"): 0.002,
        ("default", "get_many", "ok", "a"): 0.2,
    }
    buckets = samples(registry, "shop_cache_operation_duration_seconds_bucket", "operation", "le")
    assert {float(le) for operation, le in buckets if operation == "get"} == {*DURATION_BUCKETS, float("inf")}


def test_caches_over_the_limit_are_counted_under_overflow(registry: CollectorRegistry) -> None:
    _kept, caches = recorder_with(registry, max_label_sets=2)
    for name in "abcd":
        caches.observe(name, "get", "hit", 0.1)
    found = samples(registry, "cache_operations_total", "cache")
    assert found == {("a",): 1, ("b",): 1, ("_overflow",): 2}


def test_caches_over_the_limit_share_the_counts_of_their_keys(registry: CollectorRegistry) -> None:
    _kept, caches = recorder_with(registry, max_label_sets=1)
    for name in "abb":
        caches.observe_keys(name, "get_many", 2, 0, 0.1)
    assert samples(registry, "cache_operations_total", "cache") == {("a",): 2, ("_overflow",): 4}
    assert list(caches.found_all_writers) == [("a", "get_many")]


def test_function_for_operations_that_found_all_keys_counts_the_same(registry: CollectorRegistry) -> None:
    _kept, caches = recorder_with(registry)
    caches.observe_keys("default", "get_many", 0, 1, 0.1)
    assert caches.found_all_writers == {}
    caches.observe_keys("default", "get_many", 3, 0, 0.1)
    caches.found_all_writers["default", "get_many"](2, 0.1)
    results = samples(registry, "cache_operations_total", "result")
    assert results == {("hit",): 5, ("miss",): 1}
    durations = samples(registry, "cache_operation_duration_seconds_count", "operation", "result")
    assert durations == {("get_many", "ok"): 3}


def test_operations_after_the_values_are_replaced_are_counted(registry: CollectorRegistry) -> None:
    kept, caches = recorder_with(registry)
    caches.observe("default", "get", "hit", 0.1)
    caches.observe_keys("default", "get_many", 1, 0, 0.1)
    for collector in list(registry._collector_to_names):
        registry.unregister(collector)
    kept.families.ensure_registered()
    kept.families.rebind_values()
    assert caches.writers == {}
    assert caches.found_all_writers == {}
    caches.observe("default", "get", "hit", 0.1)
    caches.observe_keys("default", "get_many", 1, 0, 0.1)
    found = samples(registry, "cache_operations_total", "operation")
    assert found == {("get",): 1, ("get_many",): 1}


class Store:
    """A cache of a library."""

    def put(self, key: str, value: object) -> None:
        """Store a value."""

    @property
    def size(self) -> int:
        """Return a number."""
        return 0


@pytest.fixture
def library() -> Any:
    """Return the library of `Store`, and restore the class."""
    library = Library(methods={"put": ("set", Rule()), "size": ("size", Rule()), "none": ("none", Rule())})
    yield library
    restore(library)


def test_operations_are_written_once_there_is_a_recorder(
    registry: CollectorRegistry, library: Library
) -> None:
    kept, caches = recorder_with(registry)
    found: list[CacheRecorder] = []
    store, source = Store(), LazyRecorderSource(lambda: found[0] if found else None)
    measure(store, "store", source, library)
    store.put("a", 1)
    found.append(caches)
    store.put("a", 1)
    assert samples(registry, "cache_operations_total", "cache", "operation") == {("store", "set"): 1}
    source.reset()
    found.clear()
    store.put("a", 1)
    assert samples(registry, "cache_operations_total", "cache", "operation") == {("store", "set"): 1}
    assert kept.config.cache is False


def test_measured_cache_that_is_freed_is_forgotten(registry: CollectorRegistry, library: Library) -> None:
    _kept, caches = recorder_with(registry)
    for number in range(100):
        store = Store()
        assert not is_measured(store)
        measure(store, str(number), LazyRecorderSource(lambda: caches), library)
        store.put("a", 1)
        assert is_measured(store)
    assert len(samples(registry, "cache_operations_total", "cache")) == 100


def test_second_measure_replaces_the_name(registry: CollectorRegistry, library: Library) -> None:
    _kept, caches = recorder_with(registry)
    store = Store()
    for name in ("first", "second"):
        measure(store, name, LazyRecorderSource(lambda: caches), library)
    store.put("a", 1)
    assert samples(registry, "cache_operations_total", "cache") == {("second",): 1}
    assert isinstance(vars(Store)["size"], property)


async def value_later() -> int:
    """Return a value, for a backend that awaits it."""
    return 1


def marked() -> int:
    """Return a value. From Python 3.12 on, it has the mark of a coroutine function."""
    return 1


getattr(inspect, "markcoroutinefunction", vars)(marked)


@pytest.mark.parametrize(
    "function", [int, len, lambda: 1, partial(int, 1), value_later, partial(value_later), marked]
)
def test_get_or_set_gives_coroutine_functions_to_the_backend_unchanged(
    function: Callable[[], object],
) -> None:
    """A backend may look whether its default is one. Another function is wrapped: see GetOrSet."""
    call = new_call(Target("store", LazyRecorderSource(lambda: None), "Store"))
    (_, _, given), _ = GetOrSet().prepare(call, (object(), "key", function), {})
    assert (given is function) == inspect.iscoroutinefunction(function)
