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


def test_garbage_collections_are_counted_by_generation(collections: GarbageCollections) -> None:
    for generation, times in enumerate((3, 2, 1)):
        for _ in range(times):
            gc.collect(generation)
    taken = collections.take()
    assert [sum(each.counts) for each in taken] == [3, 2, 1]
    assert all(each.seconds > 0 for each in taken)
    assert [len(each.counts) for each in taken] == [len(BUCKETS) + 1] * GENERATIONS


def test_garbage_collections_are_taken_once(collections: GarbageCollections) -> None:
    gc.collect()
    collections.take()
    gc.collect(0)
    assert [sum(each.counts) for each in collections.take()] == [1, 0, 0]
    assert [each.seconds for each in collections.take()] == [0.0, 0.0, 0.0]


def test_garbage_collections_go_in_the_bucket_of_their_duration(
    collections: GarbageCollections, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bound, wanted in ((BUCKETS[0], 0), (0.0007, 2), (60.0, len(BUCKETS))):
        ticks = iter([10.0, 10.0 + bound])
        monkeypatch.setattr(
            "web_prom.runtime.garbage_collection.perf_counter", lambda ticks=ticks: next(ticks)
        )
        gc.collect(1)
        counts = collections.take()[1].counts
        # 10.0001 - 10.0 is a little more than 0.0001.
        assert counts.index(1) in (wanted, wanted + 1 if wanted == 0 else wanted)


def test_garbage_collections_take_no_lock(collections: GarbageCollections) -> None:
    """A collection may come while this very thread holds any lock, also in the middle of take()."""
    finalized: list[int] = []

    class Cycle:
        def __init__(self) -> None:
            self.own = self

        def __del__(self) -> None:
            finalized.append(sum(map(sum, (each.counts for each in collections.take()))))

    Cycle()
    gc.collect()
    assert finalized == [0]
    assert sum(collections.take()[2].counts) == 1


def test_garbage_collections_start_once(collections: GarbageCollections) -> None:
    collections.start()
    gc.collect()
    assert sum(collections.take()[2].counts) == 1
    collections.stop()
    collections.stop()
    gc.collect()
    assert sum(collections.take()[2].counts) == 0


def test_garbage_collections_of_several_threads_are_all_counted(collections: GarbageCollections) -> None:
    threads = [threading.Thread(target=lambda: [gc.collect(0) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A collection that is asked for during another does nothing.
    assert 50 <= sum(collections.take()[0].counts) <= 200


def test_garbage_collections_that_had_begun_before_are_left_out() -> None:
    found = GarbageCollections()
    found._on_collection("stop", {"generation": 2})
    assert sum(found.take()[2].counts) == 0
