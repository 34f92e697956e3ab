"""Files of dead processes of prometheus_client: each merged exactly once, whatever is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.multiprocess import MultiProcessCollector

from tests.web_prom.multiprocess.reading.value_files import Worker
from tests.web_prom.support import ROOT, environ_of, samples
from web_prom.config import Config
from web_prom.exporter.directory_app import DirectoryMetricsApp
from web_prom.multiprocess.directory import dead_files, server_directory
from web_prom.multiprocess.directory.dead_files import LOCK_NAME, merge_dead_files, merge_entries, superseded
from web_prom.multiprocess.directory.liveness import has_writer, is_presumed_dead, is_writer_dead
from web_prom.multiprocess.file_entries import read_entries
from web_prom.multiprocess.file_format import FileName
from web_prom.multiprocess.reading.collector import WorkersCollector

# No process has it: Linux has at most four million.
DEAD = 4_194_400

WRITER = """
    import sys
    from prometheus_client import Counter, Gauge, Histogram, Summary
    number = float(sys.argv[1])
    Counter("jobs", "Help.", ["kind"]).labels("a").inc(number)
    Histogram("seconds", "Help.", buckets=(1, 2)).observe(1.5)
    Summary("bytes", "Help.").observe(number)
    for mode in ("all", "sum", "min", "max", "mostrecent", "livesum", "liveall", "livemostrecent"):
        Gauge("gauge_" + mode, "Help.", multiprocess_mode=mode).set(number)
"""


def start(directory: Path, code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a process that knows prometheus_client alone."""
    return subprocess.Popen(
        [sys.executable, "-B", "-c", textwrap.dedent(code), *map(str, arguments)],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def write(directory: Path, number: float) -> None:
    """Have a process write values, and end."""
    with start(directory, WRITER, number) as process:
        process.communicate(timeout=60)
    assert process.returncode == 0


def owners(directory: Path) -> set[str]:
    return {name.owner for path in directory.glob("*.db") if (name := FileName.parse(path.name))}


def dead(directory: Path, number: int = 0) -> Worker:
    """Return what writes the files of a process that is dead as soon as they are closed."""
    return Worker(directory, str(DEAD + number))


@pytest.fixture
def collector(tmp_path: Path) -> WorkersCollector:
    return WorkersCollector(tmp_path)


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


def test_fault_39_another_reader_sees_the_same(tmp_path: Path, collector: WorkersCollector) -> None:
    """prometheus_client's own collector over the merged files."""
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


def test_fault_39_files_stay_few_after_thousands_of_processes(
    tmp_path: Path, collector: WorkersCollector
) -> None:
    for scrape in range(20):
        for number in range(100):
            worker = dead(tmp_path, scrape * 100 + number)
            worker.inc("jobs", {"kind": str(number % 3)}, 0.1)
            worker.gauge("livesum", "busy", 1.0)
            worker.close()
        found = samples(collector, "jobs_total", "kind")
        assert sum(found.values()) == pytest.approx((scrape + 1) * 10)
        assert samples(collector, "busy") == {}
        assert collector.files == 1
        assert sorted(os.listdir(tmp_path)) == [f"counter_dead{scrape + 1}.db", LOCK_NAME]


# Who is left alone ----------------------------------------------------------------------------------


def test_fault_39_a_living_process_is_left_alone(tmp_path: Path, collector: WorkersCollector) -> None:
    code = WRITER + "    print('ready', flush=True)\n    sys.stdin.read()\n"
    with start(tmp_path, code, 5) as process:
        assert process.stdout is not None
        process.stdout.readline()
        before = set(os.listdir(tmp_path))
        assert samples(collector, "gauge_livesum") == {(): 5}
        assert samples(collector, "jobs_total", "kind") == {("a",): 5}
        assert set(os.listdir(tmp_path)) == before
        process.kill()
        process.wait(60)
        assert samples(collector, "gauge_livesum") == {}
        assert samples(collector, "jobs_total", "kind") == {("a",): 5}
        process.communicate()
    assert owners(tmp_path) == {"dead1"}


def test_fault_39_a_process_that_was_not_waited_for_is_dead(
    tmp_path: Path, collector: WorkersCollector
) -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    try:
        worker = Worker(tmp_path, str(pid))
        worker.inc("jobs")
        worker.gauge("livesum", "busy", 1.0)
        worker.close()
        deadline = time.monotonic() + 30
        while samples(collector, "busy") and time.monotonic() < deadline:
            time.sleep(0.01)
        assert samples(collector, "jobs_total") == {(): 1}
        assert owners(tmp_path) == {"dead1"}
    finally:
        os.waitpid(pid, 0)


def test_fault_39_a_file_that_any_process_has_open_is_left_alone(
    tmp_path: Path, collector: WorkersCollector
) -> None:
    """Its process id says nothing here where the process is in another container."""
    worker = dead(tmp_path)
    worker.inc("jobs")
    worker.gauge("livesum", "busy", 1.0)
    assert samples(collector, "busy") == {(): 1}
    assert owners(tmp_path) == {str(DEAD)}
    worker.inc("jobs")
    assert samples(collector, "jobs_total") == {(): 2}
    worker.close()
    assert samples(collector, "busy") == {}
    assert samples(collector, "jobs_total") == {(): 2}


def test_fault_39_another_pid_namespace_is_left_alone(tmp_path: Path, collector: WorkersCollector) -> None:
    code = WRITER + "    import os; print(os.getpid(), flush=True)\n    sys.stdin.read()\n"
    unshare = ["unshare", "--pid", "--fork", "--kill-child"]
    if os.geteuid() != 0 or subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs a pid namespace of its own")
    command = [*unshare, sys.executable, "-B", "-c", textwrap.dedent(code), "5"]
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environ, **pipes) as process:
        assert process.stdout is not None
        pid = process.stdout.readline().strip()
        assert pid == "1"
        assert samples(collector, "gauge_livesum") == {(): 5}
        assert owners(tmp_path) == {pid}
        process.communicate()
    assert samples(collector, "jobs_total", "kind") == {("a",): 5}
    # A process of that id lives here, and is older: it may be the writer, as far as can be seen.
    assert owners(tmp_path) == {pid}


@pytest.mark.parametrize(("age", "is_another"), [(0, False), (3600 * 24 * 365 * 40, True)])
def test_fault_39_a_process_id_that_was_given_away_again(
    tmp_path: Path, age: float, is_another: bool
) -> None:
    """A process that was started after the file was last changed is not the writer."""
    worker = Worker(tmp_path, str(os.getppid()))
    worker.inc("jobs")
    worker.close()
    path = tmp_path / f"counter_{os.getppid()}.db"
    now = time.time()
    os.utime(path, (now, now - age))
    assert is_writer_dead(path, os.getppid()) is is_another


def test_fault_39_where_nobody_can_say_counters_stay_and_live_gauges_go(
    tmp_path: Path, collector: WorkersCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for another user's exporter; unless there are holders of another pid namespace."""
    monkeypatch.setattr("web_prom.multiprocess.directory.liveness.has_writer", lambda path: None)
    worker = dead(tmp_path)
    worker.inc("jobs")
    worker.gauge("livesum", "busy", 1.0)
    worker.close()
    before = set(os.listdir(tmp_path))
    assert samples(collector, "busy") == {}
    assert samples(collector, "jobs_total") == {(): 1}
    assert set(os.listdir(tmp_path)) == before
    path = tmp_path / f"gauge_livesum_{DEAD}.db"
    assert is_presumed_dead(path, DEAD, same_namespace=True)
    assert not is_presumed_dead(path, DEAD, same_namespace=False)
    assert not is_presumed_dead(path, os.getppid(), same_namespace=True)


def test_fault_39_a_reader_that_may_not_write_changes_nothing(
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
def test_fault_39_an_exporter_that_was_started_by_hand_changes_nothing(
    server: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither kind shows a live gauge of a dead process."""
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


def test_the_kernel_tells_who_has_a_file_open(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        assert has_writer(path)
        file.write(b"x")
    assert has_writer(path) is False
    with pytest.raises(OSError, match="missing"):
        has_writer(tmp_path / "missing")


# What cannot be merged ------------------------------------------------------------------------------


def test_fault_39_a_damaged_file_stays_and_is_counted(tmp_path: Path, collector: WorkersCollector) -> None:
    worker = dead(tmp_path)
    worker.inc("jobs")
    worker.close()
    (tmp_path / f"counter_{DEAD + 1}.db").write_bytes(b"\xff\xff\xff\x7f" + bytes(100))
    for _ in range(2):
        assert samples(collector, "jobs_total") == {(): 1}
        assert collector.corrupt_files == 1
    assert owners(tmp_path) == {"dead1", str(DEAD + 1)}


def test_fault_39_a_file_without_contents_is_removed(tmp_path: Path, collector: WorkersCollector) -> None:
    """Its writer was killed as it began."""
    (tmp_path / f"counter_{DEAD}.db").write_bytes(bytes(65536))
    assert list(collector.collect()) == []
    assert owners(tmp_path) <= {"dead1"}


def test_fault_39_a_merged_file_that_is_damaged_is_put_aside(
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


def test_fault_39_a_full_disk_is_logged_once_and_nothing_is_lost(
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


# Names and numbers ----------------------------------------------------------------------------------


def test_the_names_tell_which_files_count() -> None:
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
    labels = {name: told.pid_label for name, told in names.items() if told is not None}
    assert labels["counter_dead9-7-1"] == labels["counter_dead9-7"] == "7"
    assert labels["gauge_all_dead3"] == "dead"
    assert labels["counter_s0"] == "s0"


def test_a_merged_total_is_never_less_than_its_parts() -> None:
    """By a rounding it would be, half of the time; Prometheus takes that for a restart."""
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


# Kills, and readers beside it -----------------------------------------------------------------------


def merge_and_be_killed(directory: Path, steps: int) -> bool:
    """Merge in a child that is killed after so many changes and openings of files; tell whether it was."""
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


def test_fault_39_killed_at_any_step_the_next_merge_counts_each_process_once(tmp_path: Path) -> None:
    killed = 0
    for step in range(200):
        directory = tmp_path / str(step)
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


def test_fault_39_no_scrape_beside_a_merge_falls_or_counts_twice(tmp_path: Path) -> None:
    """Two processes scrape and merge, while others come, count and die."""
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
        told = [json.loads(reader.communicate(timeout=60)[0]) for reader in readers]
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()
    for seen in told:
        assert seen == sorted(seen)
        assert seen[-1] <= 300
    assert samples(WorkersCollector(tmp_path), "jobs_total") == {(): 300}


def test_entries_are_read_as_they_are(tmp_path: Path) -> None:
    worker = dead(tmp_path)
    worker.gauge("mostrecent", "g", 3.0, timestamp=5.0)
    worker.close()
    assert list(read_entries(tmp_path / f"gauge_mostrecent_{DEAD}.db").values()) == [(3.0, 5.0)]
    with pytest.raises(OSError, match="regular"):
        read_entries(tmp_path)
