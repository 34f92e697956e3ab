"""Slots in forks, in started programs, and after the lock file was removed or replaced."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.web_prom.multiprocess.directory.holders import Hold, Holder, program
from tests.web_prom.support import ROOT
from web_prom.multiprocess.directory import (
    lockfile,
)
from web_prom.multiprocess.directory.slots import LOCK_NAME, slots_of

pytestmark = pytest.mark.slow  # the tests start processes


@pytest.mark.parametrize("fork", ["os.fork", "bare_fork"])
def test_fork_acquires_its_own_slot_and_its_end_releases_only_that(fork: str, tmp_path: Path) -> None:
    """Without at-fork hooks too: three workers of uWSGI once shared slot 0."""
    code = f"""
        print(slots.acquire(), in_child(slots.acquire, {fork}), in_child(slots.acquire, {fork}))
        print(slots.holders() == {{0: os.getpid()}}, in_child(slots.holders, {fork}))
        print(slots.acquire())
    """
    first, held, last = program(code, tmp_path)
    assert first == "0 1 1"
    assert held.startswith("True {0: ")
    assert last == "0"


@pytest.mark.parametrize("fork", ["os.fork", "bare_fork"])
def test_fork_of_a_fork_acquires_its_own_slot(fork: str, tmp_path: Path) -> None:
    code = f"""
        def child():
            return slots.acquire(), in_child(slots.acquire, {fork})
        def untouched():
            return in_child(slots.acquire, {fork})
        print(slots.acquire(), in_child(child, {fork}), in_child(untouched, {fork}))
    """
    assert program(code, tmp_path) == ["0 (1, '2') 1"]


@pytest.mark.parametrize("fork", ["os.fork", "bare_fork"])
def test_fork_can_acquire_the_slot_of_its_dead_parent(fork: str, tmp_path: Path) -> None:
    code = f"""
        reading, writing = os.pipe()
        parent = os.fork()
        if not parent:
            before = slots.acquire()
            middle, end = os.pipe()
            if not {fork}():
                os.close(end)
                os.read(middle, 1)  # returns when the parent exits
                os.write(writing, f"{{before}} {{slots.acquire()}}".encode())
            os._exit(0)
        os.waitpid(parent, 0)
        os.close(writing)
        print(open(reading).read())
    """
    assert program(code, tmp_path) == ["0 0"]


def test_fork_with_the_process_id_of_a_dead_ancestor_starts_without_a_slot(tmp_path: Path) -> None:
    """Where at-fork hooks run. The test only simulates the process id."""
    code = """
        pid = os.getpid()
        def pretending():
            os.getpid = lambda: pid
            return slots.acquire()
        print(slots.acquire(), in_child(pretending))
    """
    assert program(code, tmp_path) == ["0 1"]


@pytest.mark.parametrize("fork", ["os.fork", "bare_fork"])
def test_fork_during_acquire_in_another_thread(fork: str, tmp_path: Path) -> None:
    """In the fork, no thread would ever release the lock that the thread of the parent holds."""
    code = f"""
        from web_prom.multiprocess.directory.lockfile import LockFile
        inside, go_on, original = threading.Event(), threading.Event(), LockFile.try_lock
        def slowly(self, *arguments, **more):
            inside.set()
            go_on.wait()
            return original(self, *arguments, **more)
        LockFile.try_lock = slowly
        found = []
        thread = threading.Thread(target=lambda: found.append(slots.acquire()))
        thread.start()
        inside.wait()
        def child():
            LockFile.try_lock = original
            return slots.acquire()
        first = in_child(child, {fork})
        go_on.set()
        thread.join()
        print(first, found)
    """
    environ = {"PYTHONWARNINGS": "ignore"}
    code = "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n" + textwrap.dedent(code)
    assert program(code, tmp_path, **environ) == ["0 [0]"]


def test_fork_adds_to_the_counts_of_its_dead_parent(tmp_path: Path) -> None:
    """The fork acquires its parent's slot, and must not continue with the values that it had at the fork."""
    code = """
        from prometheus_client import CollectorRegistry, Counter
        from prometheus_client.multiprocess import MultiProcessCollector
        from web_prom import share_values
        reading, writing = os.pipe()
        parent = os.fork()
        if not parent:
            share_values()
            counter = Counter("things", "", registry=None)
            counter.inc(5)
            middle, end = os.pipe()
            if not os.fork():
                os.close(end)
                os.read(middle, 1)  # returns when the parent exits
                counter.inc()
                os._exit(0)
            counter.inc(100)
            os._exit(0)
        os.waitpid(parent, 0)
        os.close(writing)
        os.read(reading, 1)  # returns when the child exits
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        print(registry.get_sample_value("things_total"), sorted(os.listdir(path)))
    """
    printed = program(code, tmp_path, PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    assert printed == ["106.0 ['counter_s0.db', 'slots.lock']"]


def test_exec_releases_the_slot(tmp_path: Path) -> None:
    """The descriptor is closed, which releases the lock. The new program acquires a slot as any other."""
    code = """
        if len(sys.argv) == 2:
            assert slots.acquire() == 0
            asks = "import sys; from web_prom.multiprocess.directory.slots import *\\n"
            asks += "slots = slots_of(sys.argv[1])\\n"
            asks += "print(slots.holders(), slots.acquire(), len(slots.holders()))"
            os.execv(sys.executable, [sys.executable, "-c", asks, sys.argv[1]])
    """
    assert program(code, tmp_path) == ["{} 0 1"]


def test_started_program_acquires_its_own_slot_and_its_end_changes_nothing(tmp_path: Path) -> None:
    code = """
        asks = "import sys; from web_prom.multiprocess.directory.slots import slots_of\\n"
        asks += "print(slots_of(sys.argv[1]).acquire())"
        ask = [sys.executable, "-c", asks, sys.argv[1]]
        print(slots.acquire(), *[int(subprocess.run(ask, stdout=-1).stdout) for _ in range(2)], flush=True)
        os.write(1, subprocess.run(ask, stdout=-1, close_fds=False).stdout)
    """
    assert program(code, tmp_path) == ["0 1 1", "1"]


MULTIPROCESSING = """
import multiprocessing, sys
from web_prom.multiprocess.directory.slots import slots_of

def child(path, queue):
    queue.put(slots_of(path).acquire())

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[2])
    first = slots_of(sys.argv[1]).acquire()
    queue = context.Queue()
    process = context.Process(target=child, args=(sys.argv[1], queue))
    process.start()
    second = queue.get()
    process.join()
    print(first, second, list(slots_of(sys.argv[1]).holders()))
"""


@pytest.mark.parametrize("manner", ["fork", "spawn", "forkserver"])
def test_multiprocessing_child_acquires_its_own_slot(manner: str, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    script = tmp_path / "script.py"
    script.write_text(MULTIPROCESSING)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "shared"), manner],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split(maxsplit=2) == ["0", "1", "[0]\n"]


def test_daemon_that_closed_all_descriptors_acquires_another_slot(tmp_path: Path) -> None:
    """The number of the closed descriptor belongs to another file then, which stays open."""
    code = """
        assert slots.acquire() == 0
        def daemon():
            keep = os.dup(writing)
            os.closerange(3, keep)
            others = [os.open("/dev/null", os.O_RDWR) for _ in range(keep - 3)]
            found = slots.acquire(), sorted(slots.holders())
            for other in others:
                os.fstat(other)
            os.write(keep, str(found).encode())
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            daemon()
            os._exit(0)
        os.waitpid(pid, 0)
        os.close(writing)
        print(open(reading).read(), slots.holders() == {0: os.getpid()})
    """
    assert program(code, tmp_path) == ["(1, [0, 1]) True"]


def test_directory_that_was_removed_and_created_again(tmp_path: Path, hold: Hold) -> None:
    """The locks belong to the file at the path, not to the former file."""
    path = tmp_path / "shared"
    path.mkdir()
    assert slots_of(path).acquire() == 0
    shutil.rmtree(path)
    path.mkdir()
    holder = hold(path)
    assert holder.slot == 0
    assert slots_of(path).holders() == {0: holder.pid}
    assert slots_of(path).acquire() == 1


def test_lock_file_that_is_replaced_during_acquire(
    tmp_path: Path, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = lockfile.LockFile.try_lock
    holders: list[Holder] = []

    def replaced(self: lockfile.LockFile, *arguments: lockfile.Span, shared: bool = False) -> bool:
        if not holders:
            (tmp_path / LOCK_NAME).unlink()
            holders.append(hold())
        return original(self, *arguments, shared=shared)

    monkeypatch.setattr(lockfile.LockFile, "try_lock", replaced)
    assert slots_of(tmp_path).acquire() == 1
    assert holders[0].slot == 0
