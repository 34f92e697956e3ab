"""What a process measures about itself, as families."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterable, Iterator

import anyio
import anyio.to_thread
import pytest
from asgiref.sync import sync_to_async
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.web_prom.support import python
from web_prom.runtime.measurements import LAG_BUCKETS, Durations, Measurements

pytestmark = pytest.mark.slow


@pytest.fixture
def measurements() -> Iterator[Measurements]:
    found = Measurements()
    yield found
    found.collections.stop()


def values(families: Iterable[Metric]) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value for each in families for sample in each.samples
    }


def test_measurements_have_no_families_before_anything_is_measured(measurements: Measurements) -> None:
    assert measurements.families("0", shared=True) == []


def test_measurements_show_the_capacity_by_worker(measurements: Measurements) -> None:
    measurements.capacity = 8
    assert values(measurements.families("3", shared=False)) == {("http_server_worker_capacity", "3"): 8}


def test_measurements_show_the_lag_of_a_loop(measurements: Measurements) -> None:
    async def main() -> None:
        measurements.loop.start()
        await asyncio.sleep(0.12)
        time.sleep(0.32)
        await asyncio.sleep(0.06)

    asyncio.run(main())
    found = values(measurements.families("0", shared=False))
    assert (
        found["asyncio_loop_lag_seconds_bucket", "0.5"] - found["asyncio_loop_lag_seconds_bucket", "0.25"]
        == 1
    )
    assert found["asyncio_loop_lag_seconds_count",] >= 3


def test_measurements_show_anyio_threads_and_what_waits_for_them(measurements: Measurements) -> None:
    found: dict[tuple[str, ...], float] = {}

    async def main() -> None:
        limiter = anyio.to_thread.current_default_thread_limiter()
        limiter.total_tokens = 3
        measurements.loop.start()
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(anyio.to_thread.run_sync, time.sleep, 1.6)
            await asyncio.sleep(1.4)
            found.update(values(measurements.families("0", shared=False)))

    asyncio.run(main())
    assert found["anyio_threadpool_tokens", "used"] == 3
    assert found["anyio_threadpool_tokens", "free"] == 0
    assert found["anyio_threadpool_tasks_waiting",] == 2


def test_measurements_show_no_threads_of_a_loop_that_is_gone(measurements: Measurements) -> None:
    async def main() -> None:
        await anyio.to_thread.run_sync(int)
        measurements.loop.start()

    asyncio.run(main())
    gc.collect()
    assert "anyio_threadpool_tokens" not in {each.name for each in measurements.families("0", shared=False)}


def test_measurements_take_the_capacity_of_threads_that_are_used(measurements: Measurements) -> None:
    async def main() -> None:
        measurements.loop.start()
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, time.sleep, 1.3)

    asyncio.run(main())
    assert measurements.capacity == 40


def test_measurements_leave_a_capacity_that_is_known(measurements: Measurements) -> None:
    measurements.capacity = 7

    async def main() -> None:
        measurements.loop.start()
        await anyio.to_thread.run_sync(time.sleep, 1.2)

    asyncio.run(main())
    assert measurements.capacity == 7


def test_measurements_show_how_long_calls_wait_for_asgirefs_thread(measurements: Measurements) -> None:
    async def main() -> None:
        await sync_to_async(int)()
        measurements.loop.start()
        await asyncio.gather(sync_to_async(time.sleep)(0.7), sync_to_async(time.sleep)(0.7))

    asyncio.run(main())
    # A thread without a loop of its own answers the last question a moment later.
    until = time.monotonic() + 10
    name = "asgiref_thread_wait_seconds_count"
    while values(measurements.families("0", shared=False)).get((name,), 0) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    found = values(measurements.families("0", shared=False))
    assert found[name,] == 2
    # Asked 1.0 s after the first call had begun, behind the second one, which ends after 1.4 s.
    assert found["asgiref_thread_wait_seconds_sum",] >= 0.1


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
