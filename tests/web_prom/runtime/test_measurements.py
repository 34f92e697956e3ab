"""What a process measures about itself, as families."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import anyio
import anyio.to_thread
import pytest
from asgiref.sync import SyncToAsync, sync_to_async
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.servers.process import wait_until
from tests.web_prom.support import python
from web_prom.runtime import loop_lag, thread_pools
from web_prom.runtime.measurements import LAG_BUCKETS, Durations, Measurements

PATIENCE_SECONDS = 60.0


@pytest.fixture
def measurements() -> Iterator[Measurements]:
    found = Measurements()
    yield found
    found.collections.stop()


def values(families: Iterable[Metric]) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value for each in families for sample in each.samples
    }


def shown(measurements: Measurements, *sample: str) -> float:
    """Return the value of a sample, by its name and the values of its labels; 0 if it is missing."""
    return values(measurements.families("0", shared=False)).get(sample, 0.0)


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the threads at each tick of a loop, not once a second."""
    monkeypatch.setattr(loop_lag, "_TICKS_PER_SECOND", 1)


def test_measurements_have_no_families_before_anything_is_measured(measurements: Measurements) -> None:
    assert measurements.families("0", shared=True) == []


def test_measurements_show_the_capacity_by_worker(measurements: Measurements) -> None:
    measurements.capacity = 8
    assert values(measurements.families("3", shared=False)) == {("http_server_worker_capacity", "3"): 8}


def test_measurements_show_the_lag_of_a_loop(measurements: Measurements) -> None:
    async def main() -> None:
        measurements.loop.start()
        await until(lambda: shown(measurements, "asyncio_loop_lag_seconds_count") >= 1)
        time.sleep(0.32)
        await until(lambda: shown(measurements, "asyncio_loop_lag_seconds_count") >= 3)

    asyncio.run(main())
    found = values(measurements.families("0", shared=False))
    # On a busy machine the lag is longer than the block.
    late = found["asyncio_loop_lag_seconds_count",] - found["asyncio_loop_lag_seconds_bucket", "0.25"]
    assert late >= 1


def test_measurements_count_a_lag_in_its_bucket(measurements: Measurements) -> None:
    for lag in (0.001, 0.3, 0.3):
        measurements._loop_lag.observe(lag)
    found = values(measurements.families("0", shared=False))
    assert found["asyncio_loop_lag_seconds_bucket", "0.25"] == 1
    assert found["asyncio_loop_lag_seconds_bucket", "0.5"] == 3


def test_measurements_show_anyio_threads_and_what_waits_for_them(
    measurements: Measurements, often: None
) -> None:
    go_on = threading.Event()

    async def main() -> None:
        limiter = anyio.to_thread.current_default_thread_limiter()
        limiter.total_tokens = 3
        measurements.loop.start()
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(anyio.to_thread.run_sync, go_on.wait, PATIENCE_SECONDS)
            try:
                await until(lambda: shown(measurements, "anyio_threadpool_tasks_waiting") == 2)
                assert shown(measurements, "anyio_threadpool_tokens", "used") == 3
                assert shown(measurements, "anyio_threadpool_tokens", "free") == 0
            finally:
                go_on.set()

    asyncio.run(main())


def test_measurements_show_no_threads_of_a_loop_that_is_gone(measurements: Measurements) -> None:
    async def main() -> None:
        await anyio.to_thread.run_sync(int)
        measurements.loop.start()

    asyncio.run(main())

    def has_threads() -> bool:
        gc.collect()
        return "anyio_threadpool_tokens" in {each.name for each in measurements.families("0", shared=False)}

    wait_until(lambda: not has_threads(), "the end of the loop's last thread")


@pytest.mark.parametrize(("known", "shown_capacity"), [(None, 40), (7, 7)])
def test_measurements_take_the_capacity_of_threads_that_are_used(
    measurements: Measurements, often: None, known: int | None, shown_capacity: int
) -> None:
    """A capacity that is known is kept."""
    measurements.capacity = known
    go_on = threading.Event()

    async def main() -> None:
        measurements.loop.start()
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, go_on.wait, PATIENCE_SECONDS)
            try:
                await until(lambda: shown(measurements, "anyio_threadpool_tokens", "used") == 1)
            finally:
                go_on.set()

    asyncio.run(main())
    assert measurements.capacity == shown_capacity


def test_measurements_show_how_long_calls_wait_for_asgirefs_thread(
    measurements: Measurements, often: None
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    executor = SyncToAsync.single_thread_executor

    def work() -> None:
        begun.set()
        go_on.wait(PATIENCE_SECONDS)

    async def main() -> None:
        measurements.loop.start()
        task = asyncio.ensure_future(sync_to_async(work)())
        await until(begun.is_set)
        # Whatever was asked before has been answered.
        await until(lambda: getattr(executor, thread_pools._PENDING, False))
        await asyncio.sleep(0.15)
        go_on.set()
        await task
        await until(lambda: shown(measurements, "asgiref_thread_wait_seconds_sum") >= 0.15)

    asyncio.run(main())
    assert shown(measurements, "asgiref_thread_wait_seconds_bucket", "0.1") < shown(
        measurements, "asgiref_thread_wait_seconds_count"
    )


ASGIREF = """
    import asyncio
    import asgiref.sync
    from web_prom.runtime.measurements import Measurements
    measurements = Measurements()
    async def main():
        measurements.loop.start()
    asyncio.run(main())
    print(len(asgiref.sync.SyncToAsync.single_thread_executor._threads), measurements.families("0",
    shared=False))
"""


@pytest.mark.slow
def test_measurements_start_no_thread_of_asgiref() -> None:
    assert python(ASGIREF).strip() == "0 []"


def test_measurements_show_the_interpreter_if_it_is_wanted(measurements: Measurements) -> None:
    measurements.start_interpreter()
    gc.collect(1)
    found = values(measurements.families("2", shared=False))
    assert found["python_gc_duration_seconds_count", "1"] >= 1
    assert {name for name, *_ in found} == {
        "python_gc_duration_seconds_bucket",
        "python_gc_duration_seconds_count",
        "python_gc_duration_seconds_sum",
    }


def test_measurements_show_upstreams_families_by_worker(measurements: Measurements) -> None:
    registry = CollectorRegistry()
    GCCollector(registry)
    PlatformCollector(registry)
    measurements.start_interpreter()
    gc.disable()
    try:
        ours = {each.name: each for each in measurements.families("2", shared=True)}
        theirs = {each.name: each for each in registry.collect()}
    finally:
        gc.enable()
    for name, family in theirs.items():
        assert (ours[name].type, ours[name].documentation) == (family.type, family.documentation)
        expected = [({**sample.labels, "worker": "2"}, sample.value) for sample in family.samples]
        assert [(sample.labels, sample.value) for sample in ours[name].samples] == expected


def test_measurements_of_a_child_leave_out_its_parents_collections(measurements: Measurements) -> None:
    measurements.start_interpreter()
    gc.collect()
    gc.disable()
    try:
        measurements.begin_in_child()
        gc.collect(2)
        found = values(measurements.families("0", shared=True))
    finally:
        gc.enable()
    assert found["python_gc_collections_total", "2", "0"] == 1


def test_measurements_are_text_that_prometheus_reads(measurements: Measurements) -> None:
    measurements.capacity = 1
    measurements.start_interpreter()

    class Source:
        def collect(self) -> list[Metric]:
            return measurements.families("0", shared=True)

    text = generate_latest(Source()).decode()
    assert {"http_server_worker_capacity", "python_info"} <= {
        family.name for family in text_string_to_metric_families(text)
    }


def test_durations_count_by_bucket() -> None:
    durations = Durations((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 7.0):
        durations.observe(seconds)
    counts, seconds = durations.read()
    assert counts == [2, 1, 1]
    assert seconds == pytest.approx(7.65)


def test_lag_buckets_are_in_order_and_separate_a_block_of_300_ms() -> None:
    assert list(LAG_BUCKETS) == sorted(set(LAG_BUCKETS))
    assert 0.25 in LAG_BUCKETS
    assert not any(0.25 < bound < 0.35 for bound in LAG_BUCKETS)
