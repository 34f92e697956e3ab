"""Errors of slots: missing directories, second interpreters, permissions, full disks."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.web_prom.multiprocess.directory.holders import Hold, program
from web_prom.errors import DirectoryError
from web_prom.multiprocess.directory import (
    lockfile,
)
from web_prom.multiprocess.directory.slots import LOCK_NAME, Slots, slots_of


def test_acquire_in_a_missing_directory_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DirectoryError, match=r"missing.*name a directory on a local disk"):
        slots_of(tmp_path / "missing").acquire()


def test_second_interpreter_of_a_process_is_refused_and_releases_no_lock(tmp_path: Path, hold: Hold) -> None:
    """POSIX locks of one process do not exclude each other, and closing any descriptor releases them."""
    printed = program(
        """
        slots.acquire()
        for ask in (second_interpreter().acquire, second_interpreter().holders):
            try:
                print("got", ask())
            except OSError as error:
                print(type(error).__name__, error)
        print(in_child(second_interpreter().acquire))
        from web_prom.multiprocess.directory.lockfile import LockFile, Span
        print(in_child(lambda: LockFile.find_lock(slots._file, Span(0, 1)).pid == os.getppid()))
        """,
        tmp_path,
    )
    for line in printed[:2]:
        assert line.startswith(f"DirectoryError PROMETHEUS_MULTIPROC_DIR is {str(tmp_path)!r}, which another")
        assert "application-group=%{GLOBAL}" in line
    assert printed[2:] == ["1", "True"], "a fork of the second interpreter may; the first still has its slot"


def test_second_interpreter_that_acquires_a_slot_in_a_fork_is_refused(tmp_path: Path) -> None:
    """The parent created both interpreters. The one that acquires a slot second is refused."""
    code = """
        slots.acquire()
        other = second_interpreter()

        def both():
            taken = other.acquire()
            try:
                return taken, slots.acquire()
            except OSError as error:
                return taken, type(error).__name__

        print(in_child(both))
        """
    assert program(code, tmp_path) == ["(1, 'DirectoryError')"]


def test_second_interpreter_with_another_directory_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    code = "slots.acquire(); path = path / 'other'; print(second_interpreter().acquire())"
    assert program(code, tmp_path) == ["0"]


def test_symbolic_link_in_place_of_the_lock_file_is_not_followed(tmp_path: Path) -> None:
    """A user who may write to the directory could otherwise have another user's file changed."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / LOCK_NAME).symlink_to("../victim")
    (tmp_path / "victim").touch()
    with pytest.raises(DirectoryError):
        slots_of(tmp_path / "shared").acquire()
    assert (tmp_path / "victim").read_bytes() == b""


def test_unsupported_system_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "plan9")
    with pytest.raises(DirectoryError, match="on plan9"):
        Slots(tmp_path).acquire()


def test_acquire_works_on_a_full_disk(tmp_path: Path, hold: Hold, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lockfile.LockFile, "write_record", full)
    assert slots_of(tmp_path).acquire() == 0
    assert hold().slot == 1


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(0o700, 0o600), (0o770, 0o660), (0o777, 0o666), (0o755, 0o600), (0o775, 0o660), (0o750, 0o600)],
)
def test_fault_73_lock_file_has_the_write_permissions_of_the_directory(
    mode: int, expected: int, tmp_path: Path
) -> None:
    """A read lock needs only permission to read, and excludes writers."""
    tmp_path.chmod(mode)
    before = os.umask(0o077)
    try:
        slots_of(tmp_path).acquire()
    finally:
        os.umask(before)
    assert (tmp_path / LOCK_NAME).stat().st_mode & 0o777 == expected
