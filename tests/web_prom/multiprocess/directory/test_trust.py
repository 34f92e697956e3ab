"""A directory that other users of the machine can change is accepted with a warning."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import values

from web_prom.multiprocess.directory import checks
from web_prom.multiprocess.directory.checks import warn_of_other_users
from web_prom.multiprocess.directory.shared_directory import SharedDirectory
from web_prom.multiprocess.writing.activation import share_values

OTHER = os.geteuid() + 12345


@pytest.fixture(autouse=True)
def _nothing_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_warned", set())


@pytest.mark.parametrize(
    ("mode", "is_warned"), [(0o700, False), (0o775, False), (0o1777, False), (0o777, True), (0o702, True)]
)
def test_fault_78_everybody_may_write_without_the_sticky_bit(
    mode: int, is_warned: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(mode)
    for _ in range(2):
        warn_of_other_users(tmp_path)
    assert caplog.text.count("every user may write, without the sticky bit") == is_warned
    tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("owner", "users", "is_warned"),
    [
        (os.geteuid(), (), False),
        (0, (), False),
        (OTHER, (), True),
        (OTHER, (OTHER,), False),
        (OTHER, (OTHER + 1,), True),
    ],
)
def test_fault_78_a_directory_of_another_user(
    owner: int, users: tuple[int, ...], is_warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    place: Any = SimpleNamespace(stat=lambda: SimpleNamespace(st_uid=owner, st_mode=0o40700))
    warn_of_other_users(place, *users)
    assert (f"which belongs to user {OTHER}" in caplog.text) == is_warned


def test_fault_78_a_server_and_a_process_without_hooks_warn_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o777)
    directory = SharedDirectory(tmp_path)
    for _ in range(2):
        directory.chown(os.geteuid(), os.getegid())
    directory.release()
    assert caplog.text.count("without the sticky bit") == 1
    monkeypatch.setattr(checks, "_warned", set())
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)
    share_values()
    assert caplog.text.count("without the sticky bit") == 2
    tmp_path.chmod(0o700)
