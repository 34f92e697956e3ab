"""The files of dead processes: each is merged exactly once, even if a merge is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.multiprocess import MultiProcessCollector

from tests.web_prom.multiprocess.directory.dead_processes import DEAD, dead, owners, start, write
from tests.web_prom.multiprocess.forking import memory_directory
from tests.web_prom.support import environ_of, samples
from web_prom.config import Config
from web_prom.exporter.directory_app import DirectoryMetricsApp
from web_prom.multiprocess.directory import (
    dead_files,
    server_directory,
)
from web_prom.multiprocess.directory.dead_files import (
    MERGE_LOCK_NAME,
    merge_dead_files,
    merge_entries,
    superseded,
)
from web_prom.multiprocess.file_entries import read_entries
from web_prom.multiprocess.file_format import FileName
from web_prom.multiprocess.reading.collector import WorkersCollector


@pytest.mark.slow
def test_fault_39_files_of_dead_processes_are_merged_at_a_scrape(
    tmp_path: Path, collector: WorkersCollector
) -> None:
    for number in (3, 1, 2):
        write(tmp_path, number)
        assert samples(collector, "gauge_all", "pid") == {("dead",): number}
    assert owners(tmp_path) == {"dead3"}
    assert len(list(tmp_path.glob("*.db"))) == 8 - 3 + 3
    assert samples(collector, "jobs_total", "kind") == {("a",): 6}
    assert samples(collector, "seconds_sum") == {(): 4.5}
    assert samples(collector, "seconds_bucket", "le") == {("1.0",): 0, ("2.0",): 3, ("+Inf",): 3}
    assert samples(collector, "bytes_sum") == {(): 6}
    assert samples(collector, "bytes_count") == {(): 3}
    assert samples(collector, "gauge_sum") == {(): 6}
    assert samples(collector, "gauge_min") == {(): 1}
    assert samples(collector, "gauge_max") == {(): 3}
    assert samples(collector, "gauge_mostrecent") == {(): 2}
    for mode in ("livesum", "liveall", "livemostrecent"):
        assert samples(collector, f"gauge_{mode}") == {}


@pytest.mark.slow
def test_fault_39_prometheus_client_reads_the_same_values_from_merged_files(
    tmp_path: Path, collector: WorkersCollector
) -> None:
    for number in (3, 1):
        write(tmp_path, number)
    assert collector.collect()
    upstream: Any = MultiProcessCollector(None, str(tmp_path))  # type: ignore[no-untyped-call]
    for name in (
        "jobs_total",
        "seconds_bucket",
        "seconds_sum",
        "seconds_count",
        "gauge_sum",
        "gauge_mostrecent",
    ):
        assert samples(upstream, name, *(["le"] if "bucket" in name else [])) == samples(
            collector, name, *(["le"] if "bucket" in name else [])
        )


@pytest.fixture
def memory() -> Iterator[Path]:
    with memory_directory() as path:
        yield path


@pytest.mark.slow
def test_fault_39_number_of_files_is_bounded_after_thousands_of_processes(memory: Path) -> None:
    collector = WorkersCollector(memory)
    for scrape in range(20):
        for number in range(100):
            worker = dead(memory, scrape * 100 + number)
            worker.inc("jobs", {"kind": str(number % 3)}, 0.1)
            worker.gauge("livesum", "busy", 1.0)
            worker.close()
        found = samples(collector, "jobs_total", "kind")
        assert sum(found.values()) == pytest.approx((scrape + 1) * 10)
        assert samples(collector, "busy") == {}
        assert collector.files == 1
        assert sorted(os.listdir(memory)) == [f"counter_dead{scrape + 1}.db", MERGE_LOCK_NAME]


def test_fault_39_reader_without_permission_to_write_changes_nothing(
    tmp_path: Path, collector: WorkersCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = dead(tmp_path)
    worker.inc("jobs")
    worker.gauge("livesum", "busy", 1.0)
    worker.close()
    before = set(os.listdir(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    assert samples(collector, "busy") == {}
    assert samples(collector, "jobs_total") == {(): 1}
    assert set(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("server", [None, 1], ids=["by hand", "the server's own"])
def test_fault_39_exporter_without_a_server_changes_nothing(
    server: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither kind of exporter shows a live gauge of a dead process."""
    monkeypatch.setattr(server_directory, "_server_pid", server)
    worker = dead(tmp_path)
    worker.inc("jobs")
    worker.gauge("livesum", "busy", 1.0)
    worker.close()
    before = set(os.listdir(tmp_path))
    text = DirectoryMetricsApp(tmp_path, Config())(environ_of("/metrics")).body.decode()
    assert "\njobs_total 1.0\n" in text
    assert "\nbusy " not in text
    if server is None:
        assert set(os.listdir(tmp_path)) == before
    else:
        assert owners(tmp_path) == {"dead1"}


def test_fault_39_corrupt_file_stays_and_is_counted(tmp_path: Path, collector: WorkersCollector) -> None:
    worker = dead(tmp_path)
    worker.inc("jobs")
    worker.close()
    (tmp_path / f"counter_{DEAD + 1}.db").write_bytes(b"\xff\xff\xff\x7f" + bytes(100))
    for _ in range(2):
        assert samples(collector, "jobs_total") == {(): 1}
        assert collector.corrupt_files == 1
    assert owners(tmp_path) == {"dead1", str(DEAD + 1)}


def test_fault_39_file_without_entries_is_removed(tmp_path: Path, collector: WorkersCollector) -> None:
    """Its writer was killed before it wrote the header."""
    (tmp_path / f"counter_{DEAD}.db").write_bytes(bytes(65536))
    assert list(collector.collect()) == []
    assert owners(tmp_path) <= {"dead1"}


def test_fault_39_corrupt_merged_file_is_renamed(
    tmp_path: Path, collector: WorkersCollector, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "counter_dead4.db").write_bytes(b"\xff\xff\xff\x7f" + bytes(100))
    worker = dead(tmp_path)
    worker.inc("jobs")
    worker.close()
    assert samples(collector, "jobs_total") == {(): 1}
    assert (tmp_path / "counter_dead4.db.damaged").exists()
    assert owners(tmp_path) == {"dead5"}
    assert "it is renamed" in caplog.text


def test_fault_39_full_disk_is_logged_once_and_loses_nothing(
    tmp_path: Path, collector: WorkersCollector, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    worker = dead(tmp_path)
    worker.inc("jobs")
    worker.close()
    monkeypatch.setattr(dead_files, "_logged", set())
    with monkeypatch.context() as patched:
        patched.setattr(dead_files, "_write", full)
        for _ in range(3):
            assert samples(collector, "jobs_total") == {(): 1}
    assert caplog.text.count("No space left on device") == 1
    assert samples(collector, "jobs_total") == {(): 1}
    assert len(owners(tmp_path)) == 1


def test_superseded_returns_the_names_that_do_not_count() -> None:
    names = {
        name: FileName.parse(f"{name}.db")
        for name in (
            *("counter_s0", "counter_7", "counter_dead7", "counter_dead8", "counter_dead8-7"),
            *(
                "counter_dead7-9",
                "counter_dead9-7",
                "counter_dead9-7-1",
                "summary_dead3-7",
                "gauge_all_dead3",
            ),
        )
    }
    past = superseded(name for name in names.values() if name is not None)
    assert {str(name)[:-3] for name in past} == {"counter_dead7", "counter_dead8-7", "counter_dead7-9"}
    labels = {name: parsed.pid_label for name, parsed in names.items() if parsed is not None}
    assert labels["counter_dead9-7-1"] == labels["counter_dead9-7"] == "7"
    assert labels["gauge_all_dead3"] == "dead"
    assert labels["counter_s0"] == "s0"


def test_merge_entries_never_returns_less_than_the_sum_of_the_parts() -> None:
    """Without rounding up it would, half of the time. Prometheus takes a lower total for a restart."""
    chance = random.Random(1)
    for _ in range(500):
        parts = [chance.random() * 10 ** chance.randint(-3, 9) for _ in range(5)]
        (merged,) = merge_entries("counter", "", [{b"k": (part, 0.0)} for part in parts]).values()
        exact = sum(map(fraction, parts))
        assert exact <= fraction(merged[0])
        assert float(fraction(merged[0]) - exact) <= abs(merged[0]) * 2.3e-16
    assert merge_entries("counter", "", [{b"k": (0.0, 0)}, {b"k": (3.0, 0)}]) == {b"k": (3.0, 0.0)}
    extreme = merge_entries("histogram", "", [{b"k": (float("inf"), 0)}, {b"k": (-float("inf"), 0)}])
    assert extreme[b"k"][0] != extreme[b"k"][0]


def fraction(value: float) -> Any:
    from fractions import Fraction

    return Fraction(value)


def merge_and_be_killed(directory: Path, steps: int) -> bool:
    """Merge in a child that is killed after some file operations; return whether it was killed."""
    pid = os.fork()
    if not pid:
        left = steps

        def count(event: str, arguments: object) -> None:
            nonlocal left
            if event in {"os.rename", "os.remove", "open"}:
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            merge_dead_files(directory)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


@pytest.mark.slow
def test_fault_39_merge_after_a_kill_at_any_step_counts_each_process_once(memory: Path) -> None:
    killed = 0
    for step in range(200):
        directory = memory / str(step)
        directory.mkdir()
        collector = WorkersCollector(directory)
        expected = 0.0
        for batch in range(2):
            for number in range(2):
                worker = dead(directory, batch * 2 + number)
                worker.inc("jobs", amount=10.0**expected)
                worker.observe("h", 1.0)
                worker.gauge("livesum", "busy", 1.0)
                worker.close()
                expected += 1
            if batch == 0:
                assert merge_dead_files(directory)
        was_killed = merge_and_be_killed(directory, step)
        reader = WorkersCollector(directory, merging=False)  # after the kill, before anybody goes on
        assert samples(reader, "jobs_total") == {(): 1111}
        assert samples(reader, "h_count") == {(): 4}
        assert samples(collector, "jobs_total") == {(): 1111}
        assert samples(collector, "h_count") == {(): 4}
        assert samples(collector, "busy") == {}
        assert len(list(directory.glob("*.db*"))) == 2
        if not was_killed:
            break
        killed += 1
    assert killed > 10


READER = """
    import json, sys
    from web_prom.multiprocess.reading.collector import WorkersCollector
    collector = WorkersCollector(sys.argv[1])
    seen = []
    print("ready", flush=True)
    import threading
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    while not ended.is_set():
        total = {s.name: s.value for m in collector.collect() for s in m.samples if s.name == "jobs_total"}
        seen.append(total.get("jobs_total", 0.0))
    print(json.dumps(seen))
"""


@pytest.mark.slow
def test_fault_39_scrapes_during_merges_never_decrease_or_count_twice(tmp_path: Path) -> None:
    """Two processes scrape and merge, while other processes start, count and die."""
    readers = [start(tmp_path, READER, tmp_path) for _ in range(2)]
    try:
        for reader in readers:
            assert reader.stdout is not None
            reader.stdout.readline()
        # The files are complete before they have their names here, so that each adds exactly one.
        made = tmp_path / "made"
        made.mkdir()
        for number in range(300):
            worker = dead(made, number)
            worker.inc("jobs")
            worker.close()
            (made / f"counter_{DEAD + number}.db").rename(tmp_path / f"counter_{DEAD + number}.db")
        results = [json.loads(reader.communicate(timeout=60)[0]) for reader in readers]
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()
    for seen in results:
        assert seen == sorted(seen)
        assert seen[-1] <= 300
    assert samples(WorkersCollector(tmp_path), "jobs_total") == {(): 300}


def test_read_entries_returns_values_and_timestamps(tmp_path: Path) -> None:
    worker = dead(tmp_path)
    worker.gauge("mostrecent", "g", 3.0, timestamp=5.0)
    worker.close()
    assert list(read_entries(tmp_path / f"gauge_mostrecent_{DEAD}.db").values()) == [(3.0, 5.0)]
    with pytest.raises(OSError, match="regular"):
        read_entries(tmp_path)
