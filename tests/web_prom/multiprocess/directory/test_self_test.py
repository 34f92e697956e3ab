"""The self-test of a file system, with locks and mappings that do not work."""

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

from tests.web_prom.support import open_descriptors
from web_prom.errors import DirectoryError
from web_prom.multiprocess.directory import lockfile, self_test
from web_prom.multiprocess.directory.lockfile import LockFile
from web_prom.multiprocess.directory.self_test import check_filesystem
from web_prom.multiprocess.directory.shared_directory import SharedDirectory
from web_prom.multiprocess.writing.activation import share_values

Break = Callable[[pytest.MonkeyPatch], None]


def locks_without_exclusion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LockFile, "try_lock", lambda *_, **__: True)


def system_locks_without_exclusion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "lockf", lambda *_: None)


def locks_that_are_always_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LockFile, "try_lock", lambda *_, **__: False)


def locks_that_are_not_released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LockFile, "unlock", lambda *_: None)


def flock_without_exclusion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)


def identities_that_change(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(1000))
    monkeypatch.setattr(lockfile, "_identity", lambda status: (0, next(numbers)))


def mappings_that_are_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    class Private(mmap.mmap):
        def __new__(cls, descriptor: int, size: int) -> Any:
            return super().__new__(cls, descriptor, size, flags=mmap.MAP_PRIVATE)

    monkeypatch.setattr(self_test, "mmap", SimpleNamespace(mmap=Private))


def mappings_that_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    monkeypatch.setattr(self_test, "mmap", SimpleNamespace(mmap=refuse))


def files_without_contents(monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.pread
    monkeypatch.setattr(os, "pread", lambda *arguments: bytes(len(original(*arguments))))


BROKEN: dict[str, Break] = {
    "two holders get the same lock": locks_without_exclusion,
    "two holders get the same loc[k]": system_locks_without_exclusion,
    "a free lock is refused": locks_that_are_always_refused,
    "a released lock is still held": locks_that_are_not_released,
    "two holders get the same flock": flock_without_exclusion,
    "one file has two identities": identities_that_change,
    "a reader does not see what is written to a mapping": mappings_that_are_not_shared,
    "a reader does not see what is written to a file": files_without_contents,
    "No such device": mappings_that_are_refused,
}


@pytest.mark.parametrize(
    ("fault", "break_it"), BROKEN.items(), ids=[each.__name__ for each in BROKEN.values()]
)
def test_fault_60_broken_filesystem_is_refused_with_the_remedy(
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


def test_fault_60_working_filesystem_passes_and_no_file_stays(tmp_path: Path) -> None:
    before = open_descriptors()
    check_filesystem(tmp_path)
    assert os.listdir(tmp_path) == []
    assert open_descriptors() <= before


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE])
def test_fault_60_full_disk_is_not_an_error(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", full)
    check_filesystem(tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS])
def test_fault_60_kernel_without_open_file_description_locks_is_not_an_error(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example gVisor."""

    def unknown(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "fcntl", unknown)
    check_filesystem(tmp_path)


def test_fault_60_server_tests_the_directory_and_closes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks_without_exclusion(monkeypatch)
    before = open_descriptors()
    with pytest.raises(DirectoryError, match="two holders"):
        SharedDirectory(tmp_path)
    assert open_descriptors() <= before


def test_fault_60_process_without_hooks_tests_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)
    locks_without_exclusion(monkeypatch)
    with pytest.raises(DirectoryError, match="two holders"):
        share_values()
    assert values.ValueClass is values.MutexValue
