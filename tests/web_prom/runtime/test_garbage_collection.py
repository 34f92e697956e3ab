"""Collections of garbage, timed without a lock."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest

from web_prom.runtime.garbage_collection import BUCKETS, GENERATIONS, GarbageCollections


@pytest.fixture
def collections() -> Iterator[GarbageCollections]:
    found = GarbageCollections()
    enabled = gc.isenabled()
    gc.disable()
    found.start()
    yield found
    found.stop()
    if enabled:
        gc.enable()


def counts(collections: GarbageCollections) -> list[int]:
    return [sum(each) for each, _ in collections.read()]


def test_garbage_collections_are_counted_by_generation(collections: GarbageCollections) -> None:
    for generation, times in enumerate((3, 2, 1)):
        for _ in range(times):
            gc.collect(generation)
    assert counts(collections) == [3, 2, 1]
    assert all(seconds > 0 for _, seconds in collections.read())
    assert [len(each) for each, _ in collections.read()] == [len(BUCKETS) + 1] * GENERATIONS


@pytest.mark.parametrize(("seconds", "bucket"), [(0.00005, 0), (0.0007, 2), (60.0, len(BUCKETS))])
def test_garbage_collections_go_in_the_bucket_of_their_duration(
    collections: GarbageCollections, seconds: float, bucket: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter([10.0, 10.0 + seconds])
    monkeypatch.setattr("web_prom.runtime.garbage_collection.perf_counter", lambda: next(ticks))
    gc.collect(1)
    assert collections.read()[1][0].index(1) == bucket


def test_garbage_collections_take_no_lock(collections: GarbageCollections) -> None:
    """A collection may come in the middle of read(), in the very thread that reads."""
    seen: list[list[int]] = []

    class Cycle:
        def __init__(self) -> None:
            self.own = self

        def __del__(self) -> None:
            seen.append(counts(collections))

    Cycle()
    gc.collect()
    assert seen == [[0, 0, 0]]
    assert counts(collections) == [0, 0, 1]


def test_garbage_collections_start_once(collections: GarbageCollections) -> None:
    collections.start()
    gc.collect()
    assert counts(collections) == [0, 0, 1]
    collections.stop()
    collections.stop()
    gc.collect()
    assert counts(collections) == [0, 0, 1]


def test_garbage_collections_of_several_threads_are_all_counted(collections: GarbageCollections) -> None:
    threads = [threading.Thread(target=lambda: [gc.collect(0) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A collection that is asked for during another does nothing.
    assert 50 <= counts(collections)[0] <= 200


def test_garbage_collections_that_had_begun_before_are_left_out() -> None:
    found = GarbageCollections()
    found._on_collection("stop", {"generation": 2})
    assert counts(found) == [0, 0, 0]
