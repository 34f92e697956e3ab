"""Slots: how a process acquires one, keeps it, skips it, and finds the holders of the others."""

from __future__ import annotations

import os
import textwrap
import threading
import time
from pathlib import Path

import pytest

from tests.web_prom.multiprocess.directory.holders import HELPERS, Hold, program
from tests.web_prom.multiprocess.forking import forking_program, memory_directory
from web_prom.multiprocess.directory import (
    lockfile,
    slots,
)
from web_prom.multiprocess.directory.slots import LOCK_NAME, slots_of


@pytest.mark.slow
def test_acquire_returns_the_lowest_free_slot_and_keeps_it(tmp_path: Path, hold: Hold) -> None:
    first, second, third = hold(), hold(), hold()
    assert [first.slot, second.slot, third.slot] == [0, 1, 2]
    second.end()
    mine = slots_of(tmp_path)
    assert [mine.acquire(), mine.acquire()] == [1, 1]
    assert hold().slot == 3


@pytest.mark.slow
def test_kernel_releases_the_slot_of_a_killed_process(tmp_path: Path, hold: Hold) -> None:
    killed, lives = hold(), hold()
    killed.kill()
    assert slots_of(tmp_path).holders() == {1: lives.pid}
    assert hold().slot == 0


def test_slots_create_no_file_before_acquire(tmp_path: Path) -> None:
    slots_of(tmp_path)
    assert os.listdir(tmp_path) == []


def test_slots_of_returns_one_object_for_all_paths_of_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two objects would not see each other's locks."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    same = {slots_of(name) for name in ("real", "link", "./real/", tmp_path / "real", str(tmp_path / "link"))}
    assert len(same) == 1
    assert same.pop().directory == tmp_path / "real"
    assert slots_of(tmp_path) is not slots_of("real")


def test_acquire_in_several_threads_returns_one_slot(tmp_path: Path) -> None:
    mine, found = slots_of(tmp_path), []
    barrier = threading.Barrier(8)

    def take() -> None:
        barrier.wait()
        found.append(mine.acquire())

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [0] * 8


@pytest.mark.slow
def test_fault_21_four_hundred_killed_processes_leave_five_records_at_most() -> None:
    """Four processes at a time acquire slots, while the previous four may still be dying."""
    code = """
        for _ in range(100):
            pids = []
            for _ in range(4):
                pid = os.fork()
                if not pid:
                    slots.acquire()
                    os.kill(os.getpid(), signal.SIGKILL)
                pids.append(pid)
            for pid in pids:
                os.waitpid(pid, 0)
        print((path / "slots.lock").stat().st_size // 8, slots.holders())
    """
    with memory_directory() as path:
        printed = forking_program(HELPERS + textwrap.dedent(code), str(path))
    records, held = printed.split(maxsplit=1)
    assert 1 <= int(records) <= 5
    assert held == "{}\n"


def test_acquire_does_not_sleep_without_a_reservation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("slept"))
    assert slots_of(tmp_path).acquire() == 0
    assert slots._TIMEOUT_SECONDS == 1


def test_acquire_returns_a_lower_slot_that_became_free_during_the_search(
    tmp_path: Path, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise workers that start and end at the same time would use ever higher numbers."""
    first = hold()
    hold()
    look = lockfile.LockFile.find_lock

    def dies_meanwhile(file: lockfile.LockFile, span: lockfile.Span) -> lockfile.Lock | None:
        if span.first == 1:
            first.kill()
        return look(file, span)

    mine = slots_of(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(lockfile.LockFile, "find_lock", dies_meanwhile)
        assert mine.acquire() == 0
    assert sorted(mine.holders()) == [0, 1], "the higher slot is released"


@pytest.mark.slow
def test_holders_returns_living_processes_and_this_one(tmp_path: Path, hold: Hold) -> None:
    holders = [hold() for _ in range(5)]
    for dead in (holders[1], holders[3]):
        dead.kill()
    expected = {0: holders[0].pid, 2: holders[2].pid, 4: holders[4].pid}
    asks = "print(list(slots.holders().items()))"
    assert program(asks, tmp_path) == [str(list(expected.items()))]
    mine = slots_of(tmp_path)
    assert mine.holders() == expected
    mine.acquire()
    assert list(mine.holders().items()) == sorted({**expected, 1: os.getpid()}.items())


def test_holders_acquires_no_slot_and_creates_no_file(tmp_path: Path) -> None:
    assert slots_of(tmp_path).holders() == {}
    assert slots_of(tmp_path / "missing").holders() == {}
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_holders_needs_only_permission_to_read(tmp_path: Path, hold: Hold) -> None:
    """An exporter can run as another user, or on a volume that is mounted read-only."""
    holder = hold()
    (tmp_path / LOCK_NAME).chmod(0o444)
    tmp_path.chmod(0o555)
    code = """
        os.chdir(path)  # the parent directories may be accessible to root only
        slots = slots_of(".")
        slots.directory, slots._file.path = Path("."), Path("slots.lock")
        os.setuid(12345)
        print(slots.holders())
        try:
            slots.acquire()
        except OSError as error:
            print(type(error).__name__, error)
        print(slots.holders())
    """
    first, error, last = program(code, tmp_path)
    assert first == last == str({0: holder.pid})
    assert error.startswith("DirectoryError PROMETHEUS_MULTIPROC_DIR is")
    assert "user 12345" in error
    assert "name a directory" in error


@pytest.mark.slow
def test_holders_returns_all_of_many_in_any_order_of_acquisition(tmp_path: Path) -> None:
    """The kernel reports one conflicting lock: the oldest, not the lowest."""
    code = """
        pids = {}
        until, end = os.pipe()
        def hold():
            reading, writing = os.pipe()
            pid = os.fork()
            if not pid:
                os.close(end)
                os.write(writing, bytes([slots.acquire()]))
                os.read(until, 1)
                os._exit(0)
            pids[os.read(reading, 1)[0]] = pid
        for _ in range(40):
            hold()
        for slot in (0, 7, 8, 9, 20, 39):
            os.kill(pids[slot], signal.SIGKILL)
            os.waitpid(pids.pop(slot), 0)
        hold()
        hold()
        print(list(slots.holders().items()) == sorted(pids.items()), len(pids), {0, 7} < set(pids))
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    """
    assert program(code, tmp_path) == ["True 36 True"]


@pytest.mark.slow
def test_find_by_pid_returns_the_slots_that_a_process_acquired_last(tmp_path: Path, hold: Hold) -> None:
    assert slots_of(tmp_path).find_by_pid(1) == []
    first, second = hold(), hold()
    mine = slots_of(tmp_path)
    assert (mine.find_by_pid(first.pid), mine.find_by_pid(second.pid)) == ([0], [1])
    first.kill()
    assert mine.find_by_pid(first.pid) == [0]
    third = hold()
    assert (mine.find_by_pid(first.pid), mine.find_by_pid(third.pid)) == ([], [0])


def test_skip_releases_a_slot_for_others(tmp_path: Path, hold: Hold) -> None:
    mine, other = slots_of(tmp_path), None
    assert mine.acquire() == 0
    other = hold()
    assert mine.skip(0) == 2
    assert mine.acquire() == 2
    assert mine.skip(0) == 2, "a second thread skips the same slot"
    assert mine.find_by_pid(os.getpid()) == [2]
    assert mine.holders() == {1: other.pid, 2: os.getpid()}
    assert hold().slot == 0
