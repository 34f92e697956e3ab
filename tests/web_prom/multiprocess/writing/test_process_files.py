"""The files of a process: taken over with its slot, left to a fork's parent, and missed on a full disk."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.mmap_dict import MmapedDict

from tests.web_prom.support import python
from web_prom.multiprocess.directory.slots import slots_of
from web_prom.multiprocess.file_format import HEADER, FileName, pack_entry
from web_prom.multiprocess.writing import fork_guard, process_files, slot_files
from web_prom.multiprocess.writing.process_files import ProcessStorage
from web_prom.multiprocess.writing.shared_value import SharedValue
from web_prom.multiprocess.writing.storage_errors import STORAGE_ERRORS

PRELUDE = """
import ctypes, json, multiprocessing, os, signal, subprocess, sys, threading, types
from pathlib import Path
import web_prom.multiprocess.writing.fork_guard
if os.environ.get("OLD_KERNEL"):
    web_prom.multiprocess.writing.fork_guard._MADV_WIPEONFORK = -1
if os.environ.get("FORK") == "bare_fork":
    # As in the master of uWSGI there is no watch: a thread that waits for the interpreter at the moment of
    # the fork leaves the interpreter's lock in a state in which the fork hangs.
    sys.modules["uwsgi"] = types.ModuleType("uwsgi")
    sys.modules["uwsgi"].worker_id = lambda: 0
directory = os.environ["PROMETHEUS_MULTIPROC_DIR"]
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector
from web_prom.multiprocess.writing import process_files, watch_thread
from web_prom.multiprocess.directory.slots import slots_of
from web_prom.multiprocess.writing.activation import share_values
share_values()

def in_child(work, fork=os.fork, wait=True):
    pid = fork()
    if not pid:
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    if wait:
        assert os.waitpid(pid, 0)[1] == 0
    return pid

def bare_fork():
    "Fork as uWSGI does: no hook of Python's runs, and no watch runs in the process that forks."
    # Python waits for ever in a fork without hooks for another thread that just wanted to run.
    watch_thread._pause()
    pid = ctypes.PyDLL(None).fork()
    if pid:
        watch_thread._resume()
    return pid

def total(name="c_total"):
    return sum(
        sample.value
        for family in MultiProcessCollector.merge([str(path) for path in Path(directory).glob("*.db")])
        for sample in family.samples
        if sample.name == name
    )

def slots():
    return sorted({path.stem.rpartition("_")[2] for path in Path(directory).glob("*.db")})
"""


def run(code: str, path: Path, *arguments: str, **environ: str) -> list[str]:
    """Run code after the prelude, in a process that shares its values; return the words that it printed."""
    code = PRELUDE + textwrap.dedent(code)
    return python(code, *arguments, PROMETHEUS_MULTIPROC_DIR=str(path), **environ).split()


def contents(path: Path) -> dict[str, tuple[float, float]]:
    """Return value and timestamp by the sample's name."""
    read: Any = MmapedDict.read_all_values_from_file(str(path))  # type: ignore[no-untyped-call]
    return {key.split('"')[3]: (value, timestamp) for key, value, timestamp, _ in read}


def counter(name: str = "c") -> SharedValue:
    return SharedValue("counter", name, f"{name}_total", (), (), "Help.")


def successor() -> ProcessStorage:
    """End this process's hold on its files, and have it be another process with the same slot."""
    process_files.process_storage().close()
    process_files._last = ProcessStorage()
    return process_files._last


# Forks -----------------------------------------------------------------------------------------------

# How a fork is noticed: by a page that the kernel wipes, or where it cannot, by the process id.
KERNELS = pytest.mark.parametrize("kernel", ["", "old"])
FORKS = pytest.mark.parametrize("fork", ["os.fork", "bare_fork"])


@KERNELS
@FORKS
def test_a_fork_writes_to_a_slot_of_its_own(tmp_path: Path, kernel: str, fork: str) -> None:
    """And a fork of the fork, with at-fork hooks and without."""
    printed = run(
        f"""
        counter = Counter("c", "Help.")
        counter.inc(100)
        def grandchild():
            assert counter._value.get() == 0
            counter.inc(1)
            assert counter._value.get() == 1
        def child():
            counter.inc(10)
            in_child(grandchild, {fork})
            counter.inc(10)
            assert counter._value.get() == 20
        in_child(child, {fork})
        counter.inc(100)
        assert counter._value.get() == 200
        print(total(), *slots())
        """,
        tmp_path,
        OLD_KERNEL=kernel,
        FORK=fork,
    )
    assert printed == ["221.0", "s0", "s1", "s2"]


@KERNELS
@FORKS
def test_a_fork_that_writes_nothing_takes_no_slot(tmp_path: Path, kernel: str, fork: str) -> None:
    printed = run(
        f"""
        counter = Counter("c", "Help.")
        def child():
            print(*sorted(slots_of(directory).holders()), flush=True)
        in_child(child, {fork})
        in_child(lambda: in_child(counter.inc, {fork}), {fork})
        print(*slots())
        """,
        tmp_path,
        OLD_KERNEL=kernel,
        FORK=fork,
    )
    assert printed == ["0", "s0", "s1"]


@KERNELS
@FORKS
def test_a_fork_that_gets_its_dead_parents_slot_goes_on_with_the_parents_values(
    tmp_path: Path, kernel: str, fork: str
) -> None:
    """105 became 6: the child had the values that the parent had at the fork, and not those at its death."""
    printed = run(
        f"""
        import time
        counter = Counter("c", "Help.")
        def parent():
            counter.inc(5)
            reading, writing = os.pipe()
            def child():
                os.close(writing)
                os.read(reading, 1)  # until the parent is dead
                counter.inc(1)
                print(counter._value.get(), *slots_of(directory).holders(), flush=True)
            in_child(child, {fork}, wait=False)
            os.close(reading)
            counter.inc(100)
            os.kill(os.getpid(), signal.SIGKILL)
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            counter = Counter("d", "Help.")
            parent()
        os.close(writing)
        os.waitpid(pid, 0)
        os.read(reading, 1)  # until the child is dead too
        print(total("d_total"))
        """,
        tmp_path,
        OLD_KERNEL=kernel,
        FORK=fork,
    )
    assert printed == ["106.0", "0", "1", "106.0"]


@KERNELS
@FORKS
def test_a_fork_while_a_thread_holds_the_lock_does_not_wait_for_it(
    tmp_path: Path, kernel: str, fork: str
) -> None:
    """That thread is not in the child, and would never let it go."""
    printed = run(
        f"""
        counter = Counter("c", "Help.")
        counter.inc(100)
        taken, end = threading.Event(), threading.Event()
        def hold():
            with process_files.process_storage().lock:
                taken.set()
                end.wait()
        thread = threading.Thread(target=hold)
        thread.start()
        taken.wait()
        def child():
            counter.inc(1)
            print(counter._value.get(), flush=True)
        in_child(child, {fork})
        end.set()
        thread.join()
        """,
        tmp_path,
        OLD_KERNEL=kernel,
        FORK=fork,
    )
    assert printed == ["1.0"]


def test_a_daemon_keeps_the_descriptors_that_it_opens_in_place_of_ours(tmp_path: Path) -> None:
    """It closes all after the fork; the parent's mappings still have the numbers of theirs."""
    printed = run(
        """
        import gc
        counter = Counter("c", "Help.")
        Gauge("g", "Help.").set(1)
        counter.inc(100)
        def daemon():
            os.closerange(3, 100)
            opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
            counter.inc(1)
            gc.collect()
            for number in opened:
                assert os.readlink(f"/proc/self/fd/{number}") == "/dev/null"
        in_child(daemon)
        print(total(), *slots())
        """,
        tmp_path,
    )
    assert printed == ["101.0", "s0", "s1"]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing_count(tmp_path: Path, method: str) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "work_of_child.py").write_text(
        textwrap.dedent(
            """
            from prometheus_client import Counter
            from web_prom.multiprocess.writing.activation import share_values
            share_values()
            counter = Counter("c", "Help.")
            def work(_):
                counter.inc(10)
            """
        )
    )
    printed = run(
        """
        sys.path.insert(0, sys.argv[2])
        if __name__ == "__main__":
            from work_of_child import counter, work
            counter.inc(100)
            with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
                pool.map(work, range(4), chunksize=1)
                pool.close()
                pool.join()
            print(total())
        """,
        tmp_path / "shared",
        method,
        str(tmp_path),
        PYTHONPATH=f"{tmp_path}:{Path.cwd()}",
    )
    assert printed == ["140.0"]


def test_programs_that_are_started_or_that_take_a_processs_place_count(tmp_path: Path) -> None:
    """After exec the slot is free, as nothing of it is inherited, and the same process takes it again."""
    code = """
        counter = Counter("c", "Help.")
        counter.inc(int(sys.argv[1]))
        print(*slots_of(directory).holders(), total(), flush=True)
        if sys.argv[1] == "100":
            subprocess.run([*arguments, "10"], check=True)
            os.execv(sys.executable, [*arguments, "1"])
    """
    code = textwrap.dedent(code).replace("arguments", "sys.orig_argv[:-1]")
    assert run(code, tmp_path, "100") == ["0", "100.0", "0", "1", "110.0", "0", "111.0"]


def test_fault_21_killed_processes_leave_a_bounded_number_of_files_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    """400 of them, four at a time, each killed after its last write; one gauge of theirs must not stay."""
    printed = run(
        """
        counter, duration = Counter("c", "Help."), Histogram("h", "Help.")
        gauge = Gauge("g", "Help.", multiprocess_mode="livesum")
        def work(times):
            gauge.inc()
            for _ in range(times):
                counter.inc()
                duration.observe(0.5)
            os.kill(os.getpid(), signal.SIGKILL)
        living, expected = set(), 0
        for number in range(400):
            expected += number % 7
            pid = os.fork()
            if not pid:
                work(number % 7)
            living.add(pid)
            if len(living) == 4:
                living.remove(os.wait()[0])
        while living:
            living.remove(os.wait()[0])
        assert total() == total("h_count") == expected == total("h_sum") * 2
        print(total("g"), len(list(Path(directory).glob("*.db"))))
        """,
        tmp_path,
    )
    gauge, files = map(float, printed)
    assert gauge <= 4, "phantoms of slots that nobody holds, which the reader passes over"
    assert files <= 5 * 3


# Take-over -------------------------------------------------------------------------------------------


def test_a_slot_is_gone_on_with(shared: Path) -> None:
    counter().inc(3)
    live = SharedValue("gauge", "g", "g", (), (), "Help.", "livesum")
    live.inc(1)
    successor()
    cell = counter()
    assert not (shared / "gauge_livesum_s0.db").exists(), "gone before anything else is written"
    assert cell.get() == 3
    cell.inc(1)
    assert contents(shared / "counter_s0.db")["c_total"] == (4, 0)


def test_what_belongs_to_other_slots_is_left_alone(shared: Path) -> None:
    names = [
        "gauge_livesum_s1.db",
        "gauge_livesum_4711.db",
        "counter_s1.db.new",
        "notes.txt",
        "gauge_livesum_s.db",
    ]
    for name in names:
        (shared / name).write_bytes(b"x")
    unfinished = shared / "summary_s0.db.new"
    unfinished.touch()
    counter()
    assert not unfinished.exists()
    for name in names:
        assert (shared / name).read_bytes() == b"x"


def test_fault_25_a_damaged_file_is_put_aside_and_begun_anew(
    shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = HEADER.pack(1 << 20, 1) + pack_entry(b"x")
    for name in ("counter_s0.db", "summary_s0.db"):
        (shared / name).write_bytes(damaged)
    counter().inc(1)
    SharedValue("summary", "s", "s_count", (), (), "Help.").inc(1)
    for name in ("counter_s0.db", "summary_s0.db"):
        assert (shared / f"{name}.damaged").read_bytes() == damaged
    assert contents(shared / "counter_s0.db") == {f"{STORAGE_ERRORS}_total": (2, 0), "c_total": (1, 0)}
    assert contents(shared / "summary_s0.db") == {"s_count": (1, 0)}
    assert "counter_s0.db is corrupt" in caplog.text
    assert FileName.parse("counter_s0.db.damaged") is None


def test_a_slot_with_files_that_this_user_cannot_write_is_passed_over(open_path: Path) -> None:
    """Left by a server that ran as another user."""
    open_path.chmod(0o777)
    slots_of(open_path).acquire()
    slots_of(open_path)._file.close()
    (open_path / "slots.lock").chmod(0o666)
    for name in ("counter_s0.db", "gauge_all_s1.db"):
        (open_path / name).touch(mode=0)
    printed = run(
        """
        counter = Counter("x", "Help.")
        def other_user():
            if not os.getuid():
                os.setuid(65534)
            Counter("c", "Help.").inc(3)
            print(*slots_of(sys.argv[1]).holders(), flush=True)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
        in_child(other_user)
        """,
        open_path / "of_the_parent",
        str(open_path),
    )
    assert printed == ["2"]
    assert contents(open_path / "counter_s2.db")["c_total"] == (3, 0)
    assert sorted(path.name for path in open_path.glob("*.db")) == [
        "counter_s0.db",
        "counter_s2.db",
        "gauge_all_s1.db",
    ]


def test_the_directory_is_read_as_the_slot_is_taken_and_again_after_a_fork(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    printed = run(
        """
        first = Counter("c", "Help.")
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
        first.inc()
        Counter("d", "Help.").inc()
        in_child(first.inc)
        """,
        tmp_path / "a",
        str(tmp_path / "b"),
    )
    assert not printed
    assert sorted(contents(tmp_path / "a" / "counter_s0.db")) == [
        "c_total",
        "d_total",
        f"{STORAGE_ERRORS}_total",
    ]
    assert sorted(contents(tmp_path / "b" / "counter_s0.db")) == ["c_total", f"{STORAGE_ERRORS}_total"]


def test_a_directory_that_is_gone_is_an_error_that_is_counted_and_no_request_fails(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(process_files, "monotonic", lambda: clock[0])
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR")
    cell = counter()
    cell.inc(1)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "gone"))
    clock[0] += 1
    cell.inc(1)
    assert cell.get() == 2
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"] or len(
        caplog.records
    ) == 1
    assert "PROMETHEUS_MULTIPROC_DIR" in caplog.text
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(shared))
    clock[0] += 1
    cell.inc(1)
    assert contents(shared / "counter_s0.db") == {f"{STORAGE_ERRORS}_total": (2, 0), "c_total": (3, 0)}


# Full disks ------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Return a file system with room for eight files."""
    path = tmp_path / "small"
    path.mkdir()
    if os.geteuid():
        pytest.skip("mounting a file system takes root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


FULL = """
clock = [1000.0]
process_files.monotonic = lambda: clock[0]
def fill():
    with open(Path(directory) / "ballast", "wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:
            pass
def empty():
    (Path(directory) / "ballast").unlink()
    clock[0] += 1
"""


def test_fault_28_a_full_disk_is_counted_and_costs_nothing_else(small: Path) -> None:
    """The process lives, no call raises, and every number is in the files once there is room."""
    printed = run(
        FULL
        + textwrap.dedent(
            """
            counter = Counter("c", "Help.", ["x"])
            old, duration = counter.labels("old"), Histogram("h", "Help.", buckets=(1, 2))
            def work():
                old.inc()
                duration.observe(1.5)
                for number in range(200):
                    counter.labels(f"{number:0400}").inc()
                gauge.set(7)
                gauge.inc(2)
                new.labels("x").observe(0.5)
            fill()
            gauge, new = Gauge("g", "Help."), Histogram("n", "Help.", ["x"], buckets=(1, 2))
            work()
            assert total() < 100, "what was in the files already goes on, and what had room"
            assert total("h_sum") == 1.5 and total("g") == total("n_sum") == 0
            assert gauge._value.get() == 9 and old._value.get() == 1
            failures = total("web_prom_storage_errors_total")
            assert failures == 1, failures
            clock[0] += 1
            work()
            assert gauge._value.get() == 9
            assert total("web_prom_storage_errors_total") == 2
            empty()
            old.inc(0)
            assert total() == 402 and total("h_sum") == 3 and total("g") == 9 and total("n_sum") == 1
            assert total("n_count") == 2 and total("web_prom_storage_errors_total") == 2
            histogram = new.labels("x")
            mark = histogram._sum.file.view[histogram._sum.position + 1]
            assert mark > 0, "or a reader would pass over what was written"
            work()
            assert total() == 603
            print("alive")
            """
        ),
        small,
    )
    assert printed == ["alive"]


def test_fault_28_prometheus_client_alone_is_killed_there(small: Path) -> None:
    """Without which the test before this one would prove nothing."""
    with pytest.raises(AssertionError):
        run(
            FULL
            + textwrap.dedent(
                """
                                values.ValueClass = values.MultiProcessValue()
                counter = Counter("c", "Help.", ["x"])
                fill()
                for number in range(200):
                    counter.labels(f"{number:0400}").inc()
                print("alive")
                """
            ),
            small,
        )


@pytest.mark.parametrize("room", ["at the end", "later"])
def test_fault_28_a_process_that_begins_on_a_full_disk_writes_once_there_is_room(
    small: Path, room: str
) -> None:
    """Even where not one file could be made; at the latest at its end."""
    run(
        FULL
        + textwrap.dedent(
            """
            fill()
            counter = Counter("c", "Help.")
            duration = Histogram("h", "Help.", buckets=(1, 2))
            counter.inc(3)
            duration.observe(1.5)
            assert counter._value.get() == 3
            assert not list(Path(directory).glob("*.db"))
            empty()
            if sys.argv[1] == "later":
                duration.observe(1.5)
                os._exit(0)
            """
        ),
        small,
        room,
    )
    found = contents(small / "counter_s0.db")
    assert found == {f"{STORAGE_ERRORS}_total": (1, 0), "c_total": (3, 0)}
    later = room == "later"
    assert contents(small / "histogram_s0.db")["h_sum"] == ((3, 2) if later else (1.5, 1))


def test_fault_28_a_fork_does_not_write_what_its_parent_holds(small: Path) -> None:
    printed = run(
        FULL
        + textwrap.dedent(
            """
            fill()
            counter = Counter("c", "Help.")
            counter.inc(3)
            def child():
                counter.inc(10)
                empty()
                counter.inc(100)
            in_child(child)
            assert total() == 110
            clock[0] += 1
            counter.inc(1000)
            print(total())
            """
        ),
        small,
    )
    assert printed == ["1113.0"]


@pytest.mark.parametrize("mode", ["all", "sum", "mostrecent"])
def test_a_gauge_that_was_set_in_memory_replaces_what_the_file_has(
    shared: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """And one that was added to is added to it."""
    clock = [1000.0]
    monkeypatch.setattr(process_files, "monotonic", lambda: clock[0])

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def gauge(name: str) -> SharedValue:
        return SharedValue("gauge", name, name, (), (), "Help.", mode)

    for name in ("set", "added"):
        gauge(name).set(7, timestamp=1.0)
    successor()
    with monkeypatch.context() as patched:
        patched.setattr(slot_files, "ValueFile", full)
        cells = gauge("set"), gauge("added")
        cells[0].set(3, timestamp=2.0)
        cells[1].inc(3)
    clock[0] += 1
    assert [cell.get() for cell in cells] == [3, 10]
    assert contents(shared / f"gauge_{mode}_s0.db") == {"set": (3, 2), "added": (10, 1)}


def test_it_is_tried_again_once_a_second_and_logged_once(
    shared: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, tried = [1000.0], []

    def full(*arguments: object) -> None:
        tried.append(arguments)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(process_files, "monotonic", lambda: clock[0])
    monkeypatch.setattr(slot_files, "ValueFile", full)
    cells = [counter(f"c{number}") for number in range(10)]
    for _ in range(30):
        for cell in cells:
            cell.inc(1)
        clock[0] += 0.125
    assert len(tried) == 4, "in 3.75 seconds"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "No space left on device" in caplog.text
    monkeypatch.undo()


def test_what_no_process_asks_for_any_more_is_written_by_whatever_is_written_next(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(process_files, "monotonic", lambda: clock[0])
    known = counter("known")
    with monkeypatch.context() as patched:
        patched.setattr(
            os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "Full"))
        )
        SharedValue("summary", "s", "s_count", (), (), "Help.").inc(5)
    known.inc(1)
    assert not (shared / "summary_s0.db").exists()
    clock[0] += 1
    known.inc(1)
    assert contents(shared / "summary_s0.db") == {"s_count": (5, 0)}
    assert known.file.guard is process_files.process_storage().guard, "and then nobody asks any more"


def test_where_the_kernel_wipes_no_pages_the_process_id_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_guard, "_MADV_WIPEONFORK", -1)
    here = fork_guard.make_fork_guard()
    assert here[0]
    monkeypatch.setattr(fork_guard, "getpid", lambda: os.getpid() + 1)
    assert not here[0]
    assert not fork_guard.NO_PROCESS[0]
