"""Scrapes with files that cannot be read this time, and with files that are not regular files."""

from __future__ import annotations

import errno
import os
import socket
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector

from tests.web_prom.multiprocess.reading.value_files import Worker, key_of
from tests.web_prom.support import environ_of, samples
from web_prom.errors import UnreadableError
from web_prom.exposition.http import Exposition
from web_prom.multiprocess.directory import slots
from web_prom.multiprocess.file_format import HEADER, pack_entry
from web_prom.multiprocess.reading.collector import WorkersCollector
from web_prom.multiprocess.reading.process_metrics import collect_process, process_families

TEMPORARY = [errno.EMFILE, errno.ENFILE, errno.EIO, errno.EACCES, errno.EPERM, errno.ENOMEM, errno.EINTR]


COUNTER = key_of("a", "a_total", {}).encode()


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[list[Worker]]:
    """Return two workers of web-prom, each with a counter and a histogram."""
    made = [Worker(tmp_path, f"s{number}") for number in range(2)]
    for each in made:
        each.inc("a")
        each.observe("h", 0.5)
    yield made
    for each in made:
        each.close()


@pytest.fixture
def collector(tmp_path: Path) -> WorkersCollector:
    """Return a collector of the directory, in which both slots are held."""
    return WorkersCollector(tmp_path, lambda: {0: 100, 1: 101})


class Fault:
    """Makes one system call fail while it is on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, call: str, number: int, ending: str) -> None:
        self.on = False
        self.hits = 0
        original = getattr(os, call)

        def failing(what: Any, *arguments: Any, **options: Any) -> Any:
            path = os.readlink(f"/dev/fd/{what}") if isinstance(what, int) else str(what)
            if self.on and path.endswith(ending):
                self.hits += 1
                raise OSError(number, os.strerror(number), path)
            return original(what, *arguments, **options)

        monkeypatch.setattr(os, call, failing)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("number", TEMPORARY)
@pytest.mark.parametrize(
    ("call", "ending"),
    [("open", "counter_s1.db"), ("pread", "histogram_s1.db"), ("fstat", "counter_s0.db"), ("listdir", "")],
)
def test_fault_67_scrape_fails_if_a_file_cannot_be_read_this_time(
    workers: list[Worker],
    collector: WorkersCollector,
    monkeypatch: pytest.MonkeyPatch,
    *,
    call: str,
    ending: str,
    number: int,
    known: bool,
) -> None:
    """Prometheus would take a smaller sum for a restart. After the error, all values count once."""
    fault = Fault(monkeypatch, call, number, ending)
    if known:
        assert samples(collector, "a_total") == {(): 2}
    for each in workers:
        each.inc("a")
        each.inc("b", {"new": "yes"})
        each.observe("h", 0.5)
    fault.on = True
    for _ in range(2):
        with pytest.raises(OSError, match=os.strerror(number)):
            collector.collect()
    assert fault.hits
    fault.on = False
    assert samples(collector, "a_total") == {(): 4}
    assert samples(collector, "b_total", "new") == {("yes",): 2}
    assert samples(collector, "h_count") == {(): 4}
    assert samples(collector, "h_bucket", "le") == {("0.1",): 0, ("1.0",): 4, ("+Inf",): 4}
    assert (collector.files, collector.corrupt_files) == (4, 0)


def test_fault_67_scrape_is_answered_with_500(
    workers: list[Worker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unreadable file is a value file, the directory, or a process in /proc."""
    slots.slots_of(tmp_path).acquire()
    exposition = Exposition(directory=str(tmp_path))
    assert exposition.respond(environ_of("/metrics")).status == "200 OK"
    for call, ending in (
        ("open", "counter_s0.db"),
        ("pread", "counter_s0.db"),
        ("listdir", str(tmp_path)),
        ("listdir", f"/proc/{os.getpid()}/fd"),
    ):
        with monkeypatch.context() as patch:
            fault = Fault(patch, call, errno.EMFILE, ending)
            fault.on = True
            assert exposition.respond(environ_of("/metrics")).status == "500 Internal Server Error"
            assert fault.hits
        response = exposition.respond(environ_of("/metrics"))
        assert (response.status, b"\na_total 2.0\n" in response.body) == ("200 OK", True)


def test_fault_67_scrape_fails_if_the_lock_file_cannot_be_opened(
    workers: list[Worker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the live gauges of all workers would be missing."""
    (tmp_path / "slots.lock").write_bytes(b"")
    fault = Fault(monkeypatch, "open", errno.EMFILE, "slots.lock")
    fault.on = True
    exposition = Exposition(directory=str(tmp_path))
    assert exposition.respond(environ_of("/metrics")).status == "500 Internal Server Error"
    assert fault.hits


@pytest.mark.parametrize("missing", ["/stat", "/limits", "/fd"])
def test_fault_67_scrape_fails_if_a_process_cannot_be_read_this_time(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """prometheus_client leaves out the families of the process, with one process and with several."""
    own: Any = ProcessCollector(registry=None)
    everything = {family.name for family in collect_process(own)}
    refuse = {"on": False}
    listdir, opened = os.listdir, open

    def refusing(call: Any) -> Any:
        def wrapped(path: Any, *arguments: Any, **options: Any) -> Any:
            if refuse["on"] and str(path).endswith(missing) and "/proc/" in str(path):
                raise OSError(errno.EMFILE, "too many")
            return call(path, *arguments, **options)

        return wrapped

    monkeypatch.setattr(os, "listdir", refusing(listdir))
    monkeypatch.setattr("prometheus_client.process_collector.open", refusing(opened), raising=False)
    refuse["on"] = True
    with pytest.raises(UnreadableError):
        collect_process(own)
    with pytest.raises(UnreadableError):
        process_families({0: os.getpid()})
    registry = CollectorRegistry()
    registry.register(own)
    assert Exposition(registry).respond(environ_of("/metrics")).status == "500 Internal Server Error"
    refuse["on"] = False
    assert {family.name for family in collect_process(own)} == everything
    assert Exposition(registry).respond(environ_of("/metrics")).status == "200 OK"


def test_fault_67_read_that_returns_fewer_bytes_is_continued(
    workers: list[Worker], collector: WorkersCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel returns the bytes before an error. The file does not end there."""
    for number in range(500):
        workers[0].inc("many", {"number": str(number)})
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, length, at: pread(file, min(length, 1000), at))
    assert len(samples(collector, "many_total", "number")) == 500
    assert samples(collector, "a_total") == {(): 2}
    workers[0].inc("a")
    assert samples(collector, "a_total") == {(): 3}
    assert collector.corrupt_files == 0


def test_fault_67_values_that_move_to_another_file_during_a_scrape_count(
    workers: list[Worker], collector: WorkersCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that starts adds the values of one file to another, which may have been read already."""
    assert samples(collector, "a_total") == {(): 2}
    absorbed = Worker(workers[0].directory, "4711")
    absorbed.inc("a", amount=10)
    moved: list[str] = []
    opened = os.open

    def moving(path: Any, *arguments: Any, **options: Any) -> int:
        if str(path).endswith("counter_4711.db") and not moved:
            moved.append(path)
            absorbed.remove("counter")
            workers[0].inc("a", amount=10)
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", moving)
    assert samples(collector, "a_total") == {(): 12}
    assert moved
    absorbed.close()


def test_fault_67_scrape_that_is_interrupted_does_not_corrupt_the_view(
    workers: list[Worker], collector: WorkersCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may stop a slow worker by SystemExit at any point."""
    assert samples(collector, "a_total") == {(): 2}
    for each in workers:
        each.inc("a")

    def stopped(changed: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr("web_prom.multiprocess.reading.directory_view.update_texts", stopped)
        with pytest.raises(SystemExit):
            collector.collect()
    assert samples(collector, "a_total") == {(): 4}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
def test_fault_72_unreadable_file_of_another_user_is_left_out(
    workers: list[Worker], collector: WorkersCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unreadable file of the application's own user makes the scrape fail, because its values count."""
    path = workers[0].directory / "counter_s7.db"
    path.write_bytes(HEADER.pack(HEADER.size, 1))
    fault = Fault(monkeypatch, "open", errno.EACCES, "counter_s7.db")
    fault.on = True
    with pytest.raises(PermissionError):
        collector.collect()
    os.chown(path, 54321, -1)
    assert samples(collector, "a_total") == {(): 2}
    assert (collector.files, collector.corrupt_files) == (4, 1)


def _link(path: Path) -> None:
    (path.parent / "elsewhere").write_bytes(
        HEADER.pack(8 + len(pack_entry(COUNTER)), 1) + pack_entry(COUNTER, 5.0)
    )
    path.symlink_to(path.parent / "elsewhere")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def _sparse(path: Path) -> None:
    path.write_bytes(HEADER.pack(0x7FFFF000, 1) + pack_entry(COUNTER, 5.0))
    os.truncate(path, 0x7FFFF000)


def _claims(path: Path) -> None:
    path.write_bytes((HEADER.pack(0x7FFFF000, 1) + pack_entry(COUNTER, 5.0)).ljust(108, b"\0"))


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, _link, _socket, _sparse, _claims])
def test_fault_72_other_file_types_take_neither_time_nor_memory(
    workers: list[Worker],
    collector: WorkersCollector,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    *,
    make: Any,
    known: bool,
) -> None:
    """The file is left out, counted, and logged once, even if a value file had the name before."""
    third = Worker(workers[0].directory, "s7")
    path = workers[0].directory / "counter_s7.db"
    if known:
        third.inc("a")
        assert samples(collector, "a_total") == {(): 3}
        third.remove("counter")
    make(path)
    asked: list[int] = []
    pread = os.pread

    def noting(file: int, length: int, at: int) -> bytes:
        asked.append(length)
        return pread(file, length, at)

    monkeypatch.setattr(os, "pread", noting)
    for _ in range(2):
        assert samples(collector, "a_total") == {(): 2}
        assert (collector.files, collector.corrupt_files) == (4, 1)
    assert max(asked) <= 1 << 16
    assert [record.getMessage().split()[0] for record in caplog.records] == ["counter_s7.db"]
    third.close()


def test_fault_72_corrupt_file_is_read_again_only_after_a_change(
    workers: list[Worker], collector: WorkersCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its header, time, size and inode are compared."""
    path = workers[0].directory / "counter_s7.db"
    data = pack_entry(COUNTER, 1.0) * 1500
    path.write_bytes(HEADER.pack(8 + len(data) + len(pack_entry(b"x")), 1) + data + pack_entry(b"x"))
    os.utime(path, ns=(0, 0))
    monkeypatch.setattr("web_prom.multiprocess.reading.file_reader._CLOCK_STEP_SECONDS", 0.0)
    read: list[int] = []
    pread = os.pread

    def noting(file: int, length: int, at: int) -> bytes:
        got = pread(file, length, at)
        if os.readlink(f"/dev/fd/{file}") == str(path):
            read.append(len(got))
        return got

    monkeypatch.setattr(os, "pread", noting)
    assert samples(collector, "a_total") == {(): 2}
    assert sum(read) > len(data)
    read.clear()
    for _ in range(5):
        assert samples(collector, "a_total") == {(): 2}
        assert collector.corrupt_files == 1
    assert sum(read) <= 5 * HEADER.size
    with path.open("r+b") as file:  # as a writer that maps it: neither size nor time change
        file.write(HEADER.pack(8 + len(pack_entry(COUNTER)), 1))
    os.utime(path, ns=(0, 0))
    assert samples(collector, "a_total") == {(): 3}
    assert (collector.files, collector.corrupt_files) == (5, 0)


def _entries_of_one_sample() -> tuple[str, bytes]:
    others = b"".join(pack_entry(key_of("a", "a_total", {"x": str(x)}).encode()) for x in range(1500))
    return "counter_s7.db", others + pack_entry(COUNTER, 1.0) * 1500


def _two_histograms_bucket_by_bucket() -> tuple[str, bytes]:
    labels = [{"le": f"{bound}.0", "x": x} for bound in range(1200) for x in "ab"]
    return "histogram_s7.db", b"".join(
        pack_entry(key_of("h", "h_bucket", each).encode(), 1.0) for each in labels
    )


@pytest.mark.parametrize("make", [_entries_of_one_sample, _two_histograms_bucket_by_bucket])
def test_fault_72_memory_does_not_grow_with_the_square_of_the_file_size(
    workers: list[Worker], collector: WorkersCollector, make: Any
) -> None:
    """A file of half a megabyte once took 200 MB."""
    name, data = make()
    (workers[0].directory / name).write_bytes(HEADER.pack(HEADER.size + len(data), 1) + data)
    tracemalloc.start()
    try:
        assert samples(collector, "a_total") == {(): 2}
        assert samples(collector, "h_count") == {(): 2}
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 60 * len(data)
    assert collector.corrupt_files == 1


@pytest.mark.parametrize("size", [0, 3, 8, 40, -1])
def test_fault_78_truncated_file_is_counted_and_logged(
    workers: list[Worker], collector: WorkersCollector, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    """Somebody truncates the file to save space."""
    assert samples(collector, "a_total") == {(): 2}
    path = workers[1].directory / "counter_s1.db"
    if size < 0:
        path.write_bytes(bytes(4096))
    else:
        os.truncate(path, size)
    for _ in range(3):
        assert samples(collector, "a_total") == {(): 1}
        assert collector.corrupt_files == 1
    assert [record.getMessage().split()[0] for record in caplog.records] == ["counter_s1.db"]


def test_fault_78_empty_file_is_corrupt_after_a_second(
    workers: list[Worker], collector: WorkersCollector
) -> None:
    """A file that has just become empty may be in creation."""
    path = workers[1].directory / "counter_s1.db"
    os.truncate(path, 0)
    assert samples(collector, "a_total") == {(): 1}
    assert collector.corrupt_files == 0
    os.utime(path, (1, 1))
    assert samples(collector, "a_total") == {(): 1}
    assert collector.corrupt_files == 1


def test_fault_72_named_pipe_does_not_block_scrapes(
    workers: list[Worker], collector: WorkersCollector
) -> None:
    """A scrape that waits for a writer would hold the lock of the view."""
    os.mkfifo(workers[0].directory / "counter_x.db")
    done = []
    threads = [
        threading.Thread(target=lambda: done.append(list(collector.collect())), daemon=True) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 3
