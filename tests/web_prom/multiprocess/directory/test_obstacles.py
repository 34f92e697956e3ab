"""Files, locks and other obstacles of another local user in the shared directory."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from tests.web_prom.multiprocess.test_regular_file import KINDS
from tests.web_prom.multiprocess.writing.storage import contents, counter, run
from tests.web_prom.support import ROOT, serve
from web_prom import collector_for, make_wsgi_app
from web_prom.family_names import STORAGE_ERRORS
from web_prom.multiprocess.directory.slots import LOCK_NAME, slots_of
from web_prom.multiprocess.file_entries import CorruptFileError
from web_prom.multiprocess.file_format import HEADER, FileName
from web_prom.multiprocess.writing import current_storage, process_files
from web_prom.multiprocess.writing.value_file import ValueFile

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def errors(slot: int, directory: Path) -> float:
    """Return the number of errors in the file of a slot."""
    return contents(directory / f"counter_s{slot}.db")[STORAGE_ERRORS][0]


def gauge(name: str, mode: str = "all") -> Any:
    """Return a gauge in its own registry."""
    return Gauge(name, "Help.", multiprocess_mode=mode, registry=CollectorRegistry())  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["counter_s0.db", "gauge_liveall_s0.db", "histogram_s0.db.new"])
def test_fault_72_slot_with_an_obstacle_is_skipped_and_counted(
    shared: Path, name: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    KINDS[kind](shared / name)
    counter().inc(10)
    live = FileName.parse(name) is None or "live" in name
    if live and kind != "directory":  # it is removed when the slot is acquired
        assert contents(shared / "counter_s0.db")["c_total"] == (10, 0)
        assert not os.path.lexists(shared / name)
        return
    assert contents(shared / "counter_s1.db")["c_total"] == (10, 0)
    assert errors(1, shared) == 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert name in caplog.text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["gauge_all_s0.db", "gauge_all_s0.db.new"])
def test_fault_72_later_obstacle_moves_the_process_to_another_slot(
    shared: Path, name: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """All its values move too, and the position of each value does not change for its writers."""
    cell = counter()
    cell.inc(10)
    KINDS[kind](shared / name)
    gauge("g").set(7)
    cell.inc(1)
    assert contents(shared / "gauge_all_s1.db")["g"][0] == 7
    assert contents(shared / "counter_s1.db")["c_total"] == (11, 0)
    assert not (shared / "counter_s0.db").exists(), "nothing counts twice"
    assert errors(1, shared) == 1
    assert slots_of(shared).holders() == {1: os.getpid()}
    assert len(caplog.records) == 1
    assert slots_of(shared)._file.read_record(0) == 0
    current_storage.recover_files()
    assert errors(1, shared) == 1, "nothing is lost"


@pytest.mark.parametrize("kind", KINDS)
def test_fault_72_obstacle_in_place_of_a_removed_file(shared: Path, kind: str) -> None:
    cell = counter()
    cell.inc(10)
    gauge("g", "livesum").set(3)
    (shared / "counter_s0.db").unlink()
    KINDS[kind](shared / "counter_s0.db")
    current_storage.recover_files()
    cell.inc(1)
    slot = 1 if kind == "directory" else 0
    assert contents(shared / f"counter_s{slot}.db")["c_total"] == (11, 0)
    assert contents(shared / f"gauge_livesum_s{slot}.db")["g"][0] == 3
    assert sorted(slots_of(shared).holders()) == [slot]


def test_fault_72_obstacle_with_the_name_for_a_corrupt_file(shared: Path) -> None:
    (shared / "counter_s0.db").write_bytes(b"\xff" * 100)
    (shared / "counter_s0.db.damaged").mkdir()
    counter().inc(2)
    assert contents(shared / "counter_s1.db")["c_total"] == (2, 0)
    assert errors(1, shared) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_fault_72_obstacle_in_place_of_the_lock_file_is_renamed(shared: Path, kind: str) -> None:
    KINDS[kind](shared / LOCK_NAME)
    counter().inc(2)
    assert contents(shared / "counter_s0.db")["c_total"] == (2, 0)
    assert (shared / LOCK_NAME).is_file()
    assert os.path.lexists(shared / f"{LOCK_NAME}.damaged")
    if (shared / "target").exists():
        assert (shared / "target").read_bytes() == b"secret"


@pytest.mark.parametrize("kind", KINDS)
def test_fault_72_obstacle_in_place_of_a_removed_lock_file(shared: Path, kind: str) -> None:
    cell = counter()
    cell.inc(2)
    (shared / LOCK_NAME).unlink()
    KINDS[kind](shared / LOCK_NAME)
    assert slots_of(shared).presumed_holders() == {0: 0}
    current_storage.recover_files()
    cell.inc(1)
    assert slots_of(shared).holders() == {0: os.getpid()}
    assert contents(shared / "counter_s0.db")["c_total"] == (3, 0)


@pytest.mark.slow
@ROOT_ONLY
@pytest.mark.parametrize("kind", KINDS)
def test_fault_72_obstacle_of_another_user_in_place_of_the_lock_file_breaks_no_request(
    open_path: Path, kind: str
) -> None:
    """In a directory with the sticky bit it cannot be renamed: values wait, and requests and scrapes work."""
    shared = open_path / "shared"
    shared.mkdir()
    KINDS[kind](shared / LOCK_NAME)
    shared.chmod(0o1777)
    printed = run(
        """
        import time
        from web_prom import make_wsgi_app
        os.setuid(65534)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
        counter = Counter("c", "Help.")
        begun = time.monotonic()
        for _ in range(1000):
            counter.inc()
        app = make_wsgi_app()
        body = b"".join(app({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda status, _: print(status)))
        print(time.monotonic() - begun < 5, counter._value.get())
        """,
        open_path / "of_the_parent",
        str(shared),
    )
    assert printed == ["200", "OK", "True", "1000.0"]


def test_fault_72_sparse_file_uses_neither_memory_nor_disk(shared: Path) -> None:
    """It has the largest size of a value file, a header that says all of it is in use, and no data."""
    path = shared / "counter_s0.db"
    with path.open("wb") as file:
        file.write(struct.pack("=iI", 0x7FFFF000, 1))
        file.truncate(0x7FFFF000)
    begun = time.monotonic()
    with pytest.raises(CorruptFileError):
        ValueFile(path)
    assert time.monotonic() - begun < 5
    counter().inc(2)
    assert contents(path)["c_total"] == (2, 0)
    assert errors(0, shared) == 1


def test_fault_72_unused_end_of_a_file_is_not_reserved(shared: Path) -> None:
    """A user who may write to a file can give it any size."""
    path = shared / "counter_s0.db"
    ValueFile(path).close()
    os.truncate(path, 1 << 40)
    cell = counter()
    cell.inc(2)
    for number in range(3000):
        counter(f"c{number}").inc(1)
    assert path.stat().st_blocks * 512 < 1 << 24
    with path.open("rb") as file:
        assert HEADER.unpack(file.read(HEADER.size))[0] < 1 << 24
    assert cell.get() == 2


def test_fault_72_huge_lock_file_uses_no_memory(shared: Path) -> None:
    (shared / LOCK_NAME).touch()
    os.truncate(shared / LOCK_NAME, 1 << 40)
    counter().inc(2)
    assert slots_of(shared).find_by_pid(os.getpid()) == [0]
    assert slots_of(shared).holders() == {0: os.getpid()}


LOCKER = """
import fcntl, sys
file = open(sys.argv[1])
fcntl.lockf(file, fcntl.LOCK_SH)
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def locked(shared: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that keeps a read lock on all slots."""
    (shared / LOCK_NAME).touch()
    process = subprocess.Popen(
        [sys.executable, "-c", LOCKER, str(shared / LOCK_NAME)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    yield process
    process.communicate()


def test_fault_73_process_waits_only_once_for_a_permanent_lock(
    shared: Path, locked: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(process_files, "_RETRY_SECONDS", 0.0)  # each write tries again
    monkeypatch.setattr("web_prom.multiprocess.directory.slots._TIMEOUT_SECONDS", 0.05)
    sleep = time.sleep

    def noted(seconds: float) -> None:
        waits.append(seconds)
        sleep(seconds)

    monkeypatch.setattr("web_prom.multiprocess.directory.slot_file.time.sleep", noted)
    cell = counter()
    assert waits
    waits.clear()
    for _ in range(20):
        cell.inc(1)
    assert not waits, "later writes do not wait"
    assert collector_for(shared).collect() == [], "a scrape works"
    locked.communicate()
    cell.inc(1)
    assert contents(shared / "counter_s0.db")["c_total"] == (21, 0)
    assert errors(0, shared) == 21


def test_fault_73_read_locks_are_not_holders_and_do_not_slow_a_scrape(shared: Path) -> None:
    """A process with permission to read can have any number of read locks."""
    counter().inc(1)
    code = """
        import fcntl, sys
        file = open(sys.argv[1])
        for offset in range(8, 40_000, 16):
            fcntl.lockf(file, fcntl.LOCK_SH, 1, offset)
        print("locked", flush=True)
        sys.stdin.read()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(shared / LOCK_NAME)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        calls: list[object] = []
        original = fcntl.fcntl

        def noted(*arguments: Any) -> Any:
            calls.append(arguments)
            return original(*arguments)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(fcntl, "fcntl", noted)
            assert slots_of(shared).holders() == {0: os.getpid()}
        assert len(calls) == 1
    finally:
        process.communicate()


def test_fault_73_permissions_of_an_older_release_are_removed(shared: Path) -> None:
    (shared / LOCK_NAME).touch()
    (shared / LOCK_NAME).chmod(0o644)
    counter().inc(1)
    assert (shared / LOCK_NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
@ROOT_ONLY
def test_fault_73_reader_without_access_to_the_lock_file_shows_all_slots(shared: Path) -> None:
    """For example an exporter that runs as another user."""
    counter().inc(3)
    gauge("busy", "livesum").inc()
    shared.chmod(0o755)
    code = """
        import os, sys
        from web_prom import collector_for
        os.setuid(65534)
        collector = collector_for(sys.argv[1])
        print({sample.name: sample.value for family in collector.collect() for sample in family.samples})
        print(collector.workers)
    """
    printed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(shared)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    values, workers = map(eval, printed.splitlines())
    assert (values["c_total"], values["busy"], workers) == (3, 1, {0: 0})


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS])
def test_fault_65_scrape_works_if_the_kernel_does_not_report_holders(
    shared: Path, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Old releases of gVisor do not. Then the recorded process ids are used."""
    original = fcntl.fcntl

    def refused(descriptor: int, command: int, *arguments: Any) -> Any:
        if command == fcntl.F_GETLK:
            raise OSError(number, os.strerror(number))
        return original(descriptor, command, *arguments)

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    code = (
        "import sys; from web_prom.multiprocess.directory.slots import slots_of\n"
        "print(slots_of(sys.argv[1]).acquire(), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(shared)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "0\n"
        monkeypatch.setattr(fcntl, "fcntl", refused)
        Counter("c", "Help.", registry=CollectorRegistry()).inc(2)
        gauge("busy", "livesum").inc()
        slots_of(shared)._file.write_record(2, dead.pid)
        (shared / "gauge_livesum_s2.db").write_bytes((shared / "gauge_livesum_s1.db").read_bytes())
        app = make_wsgi_app()
        for _ in range(2):
            lines = serve(app).decode().splitlines()
            assert "c_total 2.0" in lines
            assert "busy 1.0" in lines
            assert "web_prom_workers 2.0" in lines
        assert slots_of(shared).holders() == {0: other.pid, 1: os.getpid()}
        assert caplog.text.count("does not report the holders of locks") == 1
        other.communicate()
