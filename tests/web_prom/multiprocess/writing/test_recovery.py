"""Files, directories and locks that vanish under living processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import interpreters
from tests.web_prom.support import ROOT, python
from web_prom import collector_for
from web_prom.family_names import STORAGE_ERRORS
from web_prom.multiprocess.directory.slots import LOCK_NAME
from web_prom.multiprocess.writing import current_storage, slot_files

pytestmark = pytest.mark.slow

# Generous: a busy machine is slow. Each process looks once a second.
DEADLINE_SECONDS = 60.0

WORKER = """
import json, os, sys
import logging
logging.basicConfig(format="%(message)s")
from prometheus_client import Counter, Gauge, Histogram
from web_prom import share_values
from web_prom.multiprocess.writing import current_storage
share_values()
counter = Counter("jobs", "Help.", ["who"]).labels(sys.argv[1])
histogram = Histogram("seconds", "Help.")
live = Gauge("busy", "Help.", multiprocess_mode="livesum")
latest = Gauge("latest", "Help.", ["who"], multiprocess_mode="mostrecent").labels(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    number = int(line)
    for _ in range(number):
        counter.inc()
        histogram.observe(0.1)
        live.inc()
    latest.set(number)
    print(current_storage.process_storage()._files.slot, flush=True)
"""


class Process:
    """A process that writes values when it is told to, and answers no scrape."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.log = directory.with_name(f"{name}.log")
        self.written = 0
        with self.log.open("w") as log:
            self._process = interpreters.Popen(
                [sys.executable, "-c", WORKER, name],
                cwd=ROOT,
                env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", self.log.read_text()

    @property
    def pid(self) -> int:
        return self._process.pid

    def write(self, count: int) -> int:
        """Write so many times to each instrument; return the slot of the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        self.written += count
        return int(self._process.stdout.readline())

    def end(self) -> None:
        self._process.communicate()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


Start = Callable[[str], Process]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a shared directory."""
    made = tmp_path / "shared"
    made.mkdir()
    return made


@pytest.fixture
def start(directory: Path) -> Iterator[Start]:
    """Return what starts processes; they are ended with the test."""
    started: list[Process] = []

    def start_one(name: str) -> Process:
        started.append(Process(directory, name))
        return started[-1]

    yield start_one
    for process in started:
        process.kill()


def found(directory: Path) -> dict[str, Any]:
    """Return what a process that only reads has of the directory; each time the same one."""
    collector = collector_for(directory)
    samples = [sample for family in collector.collect() for sample in family.samples]
    by_name: dict[str, float] = {}
    for sample in samples:
        by_name[sample.name] = by_name.get(sample.name, 0.0) + sample.value
    return {
        "jobs": {sample.labels["who"]: sample.value for sample in samples if sample.name == "jobs_total"},
        "latest": {sample.labels["who"]: sample.value for sample in samples if sample.name == "latest"},
        "busy": by_name.get("busy"),
        "seconds": by_name.get("seconds_count"),
        "errors": by_name.get(STORAGE_ERRORS),
        "pids": sorted(collector.workers.values()),
        "damaged": collector.corrupt_files,
    }


def expected(*processes: Process, **others: float) -> dict[str, Any]:
    """Return what there is to be found, errors aside."""
    total = float(sum(process.written for process in processes))
    return {
        "jobs": {**{process.name: float(process.written) for process in processes}, **others},
        "busy": total,
        "seconds": total,
        "pids": sorted(process.pid for process in processes),
        "damaged": 0,
    }


def wait_for(directory: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """Wait until the directory has what is wanted; no total may be lower meanwhile, nor higher."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        seen = found(directory)
        for who, value in seen["jobs"].items():
            assert value <= wanted["jobs"][who]
        if {name: seen[name] for name in wanted} == wanted:
            return seen
        assert time.monotonic() < deadline, (seen, wanted)
        time.sleep(0.05)


def remove_all(directory: Path) -> None:
    """As logind does, which removes what a user has in /dev/shm."""
    shutil.rmtree(directory)


def make_again(directory: Path) -> None:
    """As by hand."""
    shutil.rmtree(directory)
    directory.mkdir()


def move_away(directory: Path) -> None:
    """As by hand, to look at it later."""
    directory.rename(directory.with_name("former"))


def remove_values(directory: Path) -> None:
    """As an application does as it starts."""
    for path in directory.glob("*.db"):
        path.unlink()


def remove_some(directory: Path) -> None:
    """As a clean-up by age does."""
    for path in directory.glob("counter_*.db"):
        path.unlink()


def remove_lock(directory: Path) -> None:
    """Likewise."""
    (directory / LOCK_NAME).unlink()


def replace_lock(directory: Path) -> None:
    """As a backup that is restored does."""
    (directory / LOCK_NAME).unlink()
    (directory / LOCK_NAME).write_bytes(b"\0" * 8)


def empty(directory: Path) -> None:
    """All files, as by hand."""
    for path in directory.iterdir():
        path.unlink()


REMOVALS = [
    remove_all, make_again, move_away, remove_values, remove_some, remove_lock, replace_lock, empty
]  # fmt: skip


@pytest.mark.parametrize("remove", REMOVALS)
def test_fault_42_idle_processes_recover_all_values(
    directory: Path, start: Start, remove: Callable[[Path], None]
) -> None:
    """No process writes or answers a scrape afterwards, and an exporter sees no total fall."""
    processes = [start(name) for name in "ABC"]
    for number, process in enumerate(processes):
        process.write(10 + number)
    before = wait_for(directory, {**expected(*processes), "errors": 0.0})
    remove(directory)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        seen = found(directory)
        for name in ("jobs", "busy", "seconds", "latest", "pids"):
            assert seen[name] == before[name], "also while they have not noticed yet"
        if seen["errors"] == 3 and not seen["damaged"]:
            break
        assert time.monotonic() < deadline, seen
        time.sleep(0.05)
    slots = {process.write(5) for process in processes}
    assert slots == {0, 1, 2}, "each has its own"
    wait_for(directory, {**expected(*processes), "errors": 3.0})
    for process in processes:
        assert process.log.read_text().count("removed or replaced") == 1, "it is logged once"
    assert sorted(path.name for path in directory.glob("counter_*")) == [
        "counter_s0.db", "counter_s1.db", "counter_s2.db"
    ]  # fmt: skip


@pytest.mark.parametrize("remove", [remove_all, make_again, remove_values, remove_lock, empty])
def test_fault_42_writes_before_the_recovery_are_not_lost(
    directory: Path, start: Start, remove: Callable[[Path], None]
) -> None:
    processes = [start(name) for name in "AB"]
    for number in (1, 2, 3):
        for process in processes:
            process.write(10)
        remove(directory)
        for process in processes:
            process.write(7)
        wait_for(directory, {**expected(*processes), "errors": 2.0 * number})


@pytest.mark.parametrize("remove", [remove_all, make_again, remove_values, remove_lock, empty])
def test_fault_43_process_that_starts_meanwhile_acquires_a_free_slot(
    directory: Path, start: Start, remove: Callable[[Path], None]
) -> None:
    """It may be faster than those that were there before."""
    first = start("A")
    first.write(10)
    remove(directory)
    directory.mkdir(exist_ok=True)
    second = start("B")
    second.write(20)
    first.write(7)
    wait_for(directory, expected(first, second))
    second.write(1)
    first.write(1)
    wait_for(directory, expected(first, second))
    assert first.write(0) != second.write(0)


def test_fault_43_processes_that_start_before_the_recovery_of_others_lose_no_value(
    directory: Path, start: Start
) -> None:
    """Their files are in use, by whoever holds a slot in the file that was removed."""
    first = start("A")
    first.write(10)
    os.kill(first.pid, 19)  # SIGSTOP
    try:
        remove_lock(directory)
        others = [start(name) for name in "BC"]
        for process in others:
            process.write(3)
        assert {process.write(0) for process in others} == {1, 2}
    finally:
        os.kill(first.pid, 18)  # SIGCONT
    assert first.write(5) == 0
    wait_for(directory, expected(first, *others))


def test_fault_43_files_of_dead_writers_are_continued(directory: Path, start: Start) -> None:
    first = start("A")
    first.write(10)
    first.kill()
    remove_lock(directory)
    second = start("B")
    assert second.write(2) == 0
    wait_for(directory, {**expected(second, A=10.0), "busy": 2.0, "seconds": 12.0})


def test_fault_42_next_slot_holder_continues_recovered_values(directory: Path, start: Start) -> None:
    first = start("A")
    first.write(10)
    remove_all(directory)
    wait_for(directory, {"jobs": {"A": 10.0}, "errors": 1.0, "damaged": 0})
    first.kill()
    assert start("B").write(1) == 0
    assert found(directory)["jobs"] == {"A": 10.0, "B": 1.0}
    assert (directory.stat().st_mode & 0o777, os.listdir(directory.parent).count("shared")) == (0o755, 1)


def test_fault_42_process_that_exits_at_once_leaves_its_values(directory: Path, start: Start) -> None:
    """It has no time to look; it does so as it ends."""
    first = start("A")
    first.write(10)
    remove_values(directory)
    first.end()
    assert found(directory)["jobs"] == {"A": 10.0}


def test_fault_42_directory_that_is_removed_at_exit_stays_removed(directory: Path, start: Start) -> None:
    """As with a temporary directory, in a test suite of an application."""
    first = start("A")
    first.write(10)
    remove_all(directory)
    first.end()
    assert not directory.exists()


def test_fault_42_directory_of_another_user_is_not_trusted(
    shared: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if os.geteuid():
        pytest.skip("only root can give a directory away")
    from tests.web_prom.multiprocess.writing.storage import counter

    cell = counter()
    cell.inc(3)
    make_again(shared)
    os.chown(shared, 12345, 12345)
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: 54321)
        current_storage.recover_files()
    assert os.listdir(shared) == []
    assert "user 12345 has created another one" in caplog.text
    cell.inc(2)
    current_storage.recover_files()
    assert cell.get() == 5


def test_fault_42_values_wait_on_a_full_disk_until_there_is_room(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.web_prom.multiprocess.writing.storage import contents, counter

    cell = counter()
    cell.inc(3)
    remove_values(shared)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        for _ in range(3):
            current_storage.recover_files()
            cell.inc(1)
        assert not list(shared.glob("*.db*"))
    current_storage.recover_files()
    assert contents(shared / "counter_s0.db") == {"c_total": (6, 0), STORAGE_ERRORS: (4, 0)}


def test_fault_42_threads_lose_no_value_while_their_files_are_removed(shared: Path) -> None:
    import threading

    from tests.web_prom.multiprocess.writing.storage import contents, counter

    cell, done = counter(), threading.Event()

    def write() -> None:
        for _ in range(20_000):
            cell.inc(1)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(30):
        (remove_all, remove_values, remove_lock, empty)[number % 4](shared)
        current_storage.recover_files()
    for thread in threads:
        thread.join()
    done.set()
    assert contents(shared / "counter_s0.db")["c_total"] == (80_000, 0)


def test_touch_sets_times_of_files_once_an_hour(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clean-up by age, of /tmp say, removes what is old."""
    from tests.web_prom.multiprocess.writing.storage import counter

    clock = [time.monotonic()]
    monkeypatch.setattr(slot_files, "monotonic", lambda: clock[0])
    counter().inc(1)
    names = [shared / "counter_s0.db", shared / LOCK_NAME]
    for name in names:
        os.utime(name, (1000, 1000))
    current_storage.process_storage()._check_files()
    assert [name.stat().st_mtime for name in names] == [1000, 1000]
    clock[0] += 4000
    current_storage.process_storage()._check_files()
    assert all(time.time() - name.stat().st_mtime < 60 for name in names)


STOPPED = """
    import os, shutil, tempfile, time
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder = tempfile.mkdtemp()
    from prometheus_client import Counter
    from web_prom import share_values
    from web_prom.multiprocess.writing.current_storage import process_storage
    share_values()
    Counter("mine", "").inc()
    if {stops}:
        process_storage().stop_watching()
    shutil.rmtree(folder)
    time.sleep(2.5)
    print(os.path.exists(folder), flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)
"""


@pytest.mark.parametrize("stops", [False, True])
def test_removed_directory_stays_removed_after_watching_has_stopped(stops: bool) -> None:
    """A server that preloads an application removes its directory when it exits."""
    assert python(STOPPED.format(stops=stops)).strip() == str(not stops)
