"""The self-test of a file system, against locks and mappings that do not do what they say."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import values

from web_prom.errors import DirectoryError
from web_prom.multiprocess.directory import lockfile, self_test
from web_prom.multiprocess.directory.lockfile import LockFile
from web_prom.multiprocess.directory.self_test import check_filesystem
from web_prom.multiprocess.directory.shared_directory import SharedDirectory
from web_prom.multiprocess.writing.activation import share_values

Break = Callable[[pytest.MonkeyPatch], None]


def locks_that_everybody_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LockFile, "try_lock", lambda *_, **__: True)


def locks_of_the_system_that_everybody_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "lockf", lambda *_: None)


def locks_that_nobody_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LockFile, "try_lock", lambda *_, **__: False)


def locks_that_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LockFile, "unlock", lambda *_: None)


def flocks_that_everybody_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)


def identities_that_change(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(1000))
    monkeypatch.setattr(lockfile, "_identity", lambda status: (0, next(numbers)))


def mappings_that_nobody_else_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    class Private(mmap.mmap):
        def __new__(cls, descriptor: int, size: int) -> Any:
            return super().__new__(cls, descriptor, size, flags=mmap.MAP_PRIVATE)

    monkeypatch.setattr(self_test, "mmap", SimpleNamespace(mmap=Private))


def mappings_that_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    monkeypatch.setattr(self_test, "mmap", SimpleNamespace(mmap=refuse))


def files_that_forget(monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.pread
    monkeypatch.setattr(os, "pread", lambda *arguments: bytes(len(original(*arguments))))


LIES: dict[str, Break] = {
    "two holders get the same lock": locks_that_everybody_gets,
    "two holders get the same loc[k]": locks_of_the_system_that_everybody_gets,
    "a free lock is refused": locks_that_nobody_gets,
    "a released lock is still held": locks_that_stay,
    "two holders get the same flock": flocks_that_everybody_gets,
    "one file has two identities": identities_that_change,
    "a reader does not see what is written to a mapping": mappings_that_nobody_else_sees,
    "a reader does not see what is written to a file": files_that_forget,
    "No such device": mappings_that_are_refused,
}


@pytest.mark.parametrize(("fault", "break_it"), LIES.items(), ids=[lie.__name__ for lie in LIES.values()])
def test_fault_60_a_file_system_that_lies_is_refused_with_the_remedy(
    fault: str, break_it: Break, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        break_it(patched)
        with pytest.raises(DirectoryError, match=fault) as raised:
            check_filesystem(tmp_path)
    assert str(raised.value).startswith(
        f"PROMETHEUS_MULTIPROC_DIR is {str(tmp_path)!r}, which is on a file sys"
    )
    assert "local disk or in memory, for example in /dev/shm" in str(raised.value)
    assert os.listdir(tmp_path) == []


def test_fault_60_a_sound_directory_passes_and_nothing_stays_there(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    check_filesystem(tmp_path)
    assert os.listdir(tmp_path) == []
    assert before in (0, len(os.listdir("/proc/self/fd")))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE])
def test_fault_60_a_full_disk_says_nothing_about_the_file_system(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", full)
    check_filesystem(tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS])
def test_fault_60_a_kernel_without_locks_of_descriptions_is_not_refused(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in gVisor: what cannot be asked is not held against anybody."""

    def unknown(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "fcntl", unknown)
    check_filesystem(tmp_path)


def test_fault_60_a_server_tests_the_directory_and_closes_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks_that_everybody_gets(monkeypatch)
    before = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
    with pytest.raises(DirectoryError, match="two holders"):
        SharedDirectory(tmp_path)
    assert len(before) in (0, len(os.listdir("/proc/self/fd")))


def test_fault_60_a_process_without_hooks_tests_the_directory_at_the_switch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)
    locks_that_everybody_gets(monkeypatch)
    with pytest.raises(DirectoryError, match="two holders"):
        share_values()
    assert values.ValueClass is values.MutexValue
