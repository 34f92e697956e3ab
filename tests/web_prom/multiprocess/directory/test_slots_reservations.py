"""Reservations of free slots, during which no process acquires one."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.web_prom.multiprocess.directory.holders import HELPERS, Hold, Holder, program
from tests.web_prom.support import ROOT
from web_prom.multiprocess.directory.slots import slots_of

pytestmark = pytest.mark.slow  # the tests start processes


def test_reserve_free_reserves_only_a_slot_without_a_holder(tmp_path: Path, hold: Hold) -> None:
    holder, dead = hold(), hold()
    dead.kill()
    mine = slots_of(tmp_path)
    with mine.reserve_free(holder.slot) as free:
        assert not free
    with mine.reserve_free(dead.slot) as free:
        assert free
    assert mine.acquire() == 1
    with mine.reserve_free(1) as free:
        assert not free, "it is this process's slot"
    assert hold().slot == 2, "slot 1 is still held"


def test_reserve_free_without_a_lock_file(tmp_path: Path) -> None:
    with slots_of(tmp_path).reserve_free(0) as free:
        assert not free
    assert os.listdir(tmp_path) == []


IMPATIENT = """
    import web_prom.multiprocess.directory.slots
    web_prom.multiprocess.directory.slots._TIMEOUT_SECONDS = 0
    print(slots.holders())
    try:
        slots.acquire()
    except OSError as error:
        print(error)
"""


WAITING = """
    print("begun", flush=True)
    print(slots.acquire())
"""


def waiting(path: Path) -> subprocess.Popen[str]:
    """Start a process that acquires a slot."""
    code = HELPERS + textwrap.dedent(WAITING)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("manner", ["reserve_free", "exclusive"])
def test_acquire_waits_while_the_slot_is_reserved(manner: str, tmp_path: Path) -> None:
    """The reserved slot has no holder, and afterwards the waiting process acquires the lowest slot."""
    Holder(tmp_path).end()
    mine = slots_of(tmp_path)
    with mine.reserve_free(0) if manner == "reserve_free" else mine.exclusive() as free:
        assert free
        held, error = program(IMPATIENT, tmp_path)
        assert held == "{}"
        assert f"process {os.getpid()} still reserves free slots" in error
        comes = waiting(tmp_path)
        assert comes.stdout
        assert comes.stdout.readline() == "begun\n"
    assert comes.communicate()[0] == "0\n"


def test_exclusive_is_false_with_another_holder(tmp_path: Path, hold: Hold) -> None:
    mine, other = slots_of(tmp_path), hold()
    with mine.exclusive() as free:
        assert not free
    assert hold().slot == 1, "no lock is left"
    assert mine.acquire() == 2
    with mine.exclusive() as free:
        assert not free
    assert (other.pid, os.getpid()) == (mine.holders()[0], mine.holders()[2])


@pytest.mark.parametrize("own", [0, 1, 2])
def test_exclusive_keeps_the_slot_of_this_process(own: int, tmp_path: Path, hold: Hold) -> None:
    holders = [hold() for _ in range(own)]
    mine = slots_of(tmp_path)
    assert mine.acquire() == own
    for holder in holders:
        holder.end()
    with mine.exclusive() as free:
        assert free
    assert [hold().slot for _ in range(3)] == sorted({0, 1, 2, 3} - {own})


@pytest.mark.parametrize("manner", ["reserve_free", "exclusive"])
def test_reservation_ends_when_an_exception_is_raised(manner: str, tmp_path: Path) -> None:
    mine = slots_of(tmp_path)
    Holder(tmp_path).end()
    with (
        pytest.raises(ZeroDivisionError),
        mine.reserve_free(0) if manner == "reserve_free" else mine.exclusive(),
    ):
        raise ZeroDivisionError
    assert mine.acquire() == 0


def test_signal_handler_during_acquire_neither_waits_nor_releases_the_slot(tmp_path: Path) -> None:
    """The signal arrives when the slot is locked and its record is not written yet."""
    code = """
        from web_prom.multiprocess.directory.lockfile import LockFile
        def handler(*_):
            with slots.reserve_free(0) as free:
                print(slots.find_by_pid(os.getpid()), free)
        signal.signal(signal.SIGUSR1, handler)
        original = LockFile.write_record
        def interrupted(self, *arguments):
            signal.raise_signal(signal.SIGUSR1)
            original(self, *arguments)
        LockFile.write_record = interrupted
        print(slots.acquire(), in_child(slots.acquire))
    """
    assert program(code, tmp_path)[-1] == "0 1"
    assert program(code, tmp_path)[0] == "[] False"
