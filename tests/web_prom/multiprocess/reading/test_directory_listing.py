"""The files of a directory whose values count."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

from tests.web_prom.multiprocess.reading.value_files import Worker
from tests.web_prom.support import samples
from web_prom.multiprocess.reading.collector import WorkersCollector


def test_live_gauges_count_only_while_their_slot_is_held(worker: Worker) -> None:
    """All other values of a dead worker count. The next holder of the slot writes live gauges of its own."""
    held = {0: 100, 1: 101}
    other = Worker(worker.directory, "s1")
    for each in (worker, other):
        each.gauge("livesum", "live", 2.0)
        each.gauge("liveall", "live_by_worker", 2.0)
        each.gauge("sum", "lasting", 2.0)
        each.inc("a")
    collector = WorkersCollector(worker.directory, lambda: held)
    assert samples(collector, "live") == samples(collector, "lasting") == {(): 4}
    assert (collector.files, collector.workers) == (8, {0: 100, 1: 101})
    del held[1]
    assert samples(collector, "live") == {(): 2}
    assert samples(collector, "live_by_worker", "pid") == {("s0",): 2}
    assert samples(collector, "lasting") == {(): 4}
    assert samples(collector, "a_total") == {(): 2}
    assert (collector.files, collector.workers) == (6, {0: 100})
    other.remove("gauge", "livesum")
    held[1] = 102
    assert samples(collector, "live") == {(): 2}
    other.gauge("livesum", "live", 5.0)
    assert samples(collector, "live") == {(): 7}
    held.clear()
    assert samples(collector, "live") == {}
    other.close()


def test_live_gauges_of_prometheus_client_are_dropped_when_their_process_is_marked_dead(
    tmp_path: Path,
) -> None:
    """Files of prometheus_client have no slot."""
    worker = Worker(tmp_path, "17")
    worker.gauge("livemax", "live", 2.0)
    worker.gauge("max", "lasting", 2.0)
    collector = WorkersCollector(tmp_path, dict)
    assert samples(collector, "live") == {(): 2}
    mark_process_dead(17, str(tmp_path))  # type: ignore[no-untyped-call]
    assert samples(collector, "live") == {}
    assert samples(collector, "lasting") == {(): 2}
    worker.close()


def test_other_files_and_a_missing_directory_are_ignored(tmp_path: Path) -> None:
    for name in ("slots.lock", "counter_s0.db.damaged", "notes.db", "counter_.db"):
        (tmp_path / name).write_bytes(b"whatever")
    collector = WorkersCollector(tmp_path, dict)
    assert (list(collector.collect()), collector.corrupt_files) == ([], 0)
    assert list(WorkersCollector(tmp_path / "missing", dict).collect()) == []
