"""Checks of a shared directory: whether it can be written, and who else may change it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import values

from tests.web_prom.multiprocess.directory.directories import VALUES, fill, mode, names
from web_prom.errors import DirectoryError, WebPromError
from web_prom.multiprocess.directory import (
    checks,
    network_filesystem,
)
from web_prom.multiprocess.directory.checks import check_writable, ensure_writable, warn_of_other_users
from web_prom.multiprocess.directory.shared_directory import SharedDirectory
from web_prom.multiprocess.writing.activation import share_values


def test_ensure_writable_creates_a_directory_for_this_user_alone(tmp_path: Path) -> None:
    path = ensure_writable(tmp_path / "a" / "b")
    assert path.is_dir()
    assert mode(path) == 0o700


def test_ensure_writable_leaves_an_existing_directory_unchanged(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    fill(tmp_path)
    ensure_writable(str(tmp_path))
    assert mode(tmp_path) == 0o755
    assert names(tmp_path) == set(VALUES), "the check leaves no file"


@pytest.mark.parametrize("kind", ["a file", "below a file", "proc"])
def test_ensure_writable_raises_an_error_with_the_remedy(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    path = {
        "a file": tmp_path / "file",
        "below a file": tmp_path / "file" / "below",
        "proc": Path("/proc/web_prom"),
    }[kind]
    for use in (ensure_writable, SharedDirectory):
        with pytest.raises(DirectoryError) as raised:
            use(path)
        message = str(raised.value)
        assert "PROMETHEUS_MULTIPROC_DIR" in message
        assert str(path) in message
        assert "name a directory" in message
    assert (tmp_path / "file").read_text() == "x"


def test_directory_error_is_an_os_error_and_a_web_prom_error() -> None:
    assert issubclass(DirectoryError, OSError)
    assert issubclass(DirectoryError, WebPromError)


@pytest.fixture
def nobody() -> Iterator[None]:
    """Become a user without privileges, if the test runs as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_fault_47_check_writable_allows_a_missing_directory_and_does_not_create_it(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    check_writable(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_fault_47_check_writable_allows_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_writable("a/b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["file", "file/below", "dangling", "dangling/below"])
def test_fault_47_check_writable_refuses_what_is_not_a_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DirectoryError, match="exists and is not a directory"):
        check_writable(tmp_path / name)


@pytest.mark.parametrize(
    ("mode", "name"), [(0o500, "closed"), (0o500, "closed/below"), (0o000, "closed/inner/below")]
)
def test_fault_47_check_writable_refuses_a_parent_that_cannot_be_written(
    mode: int, name: str, nobody: None
) -> None:
    """It checks the effective user. pytest's own directories are closed to other users."""
    import tempfile

    with tempfile.TemporaryDirectory() as root:
        closed = Path(root) / "closed"
        (closed / "inner").mkdir(parents=True)
        closed.chmod(mode)
        try:
            with pytest.raises(DirectoryError, match=rf"user {os.geteuid()} cannot write"):
                check_writable(Path(root) / name)
        finally:
            closed.chmod(0o700)


def test_fault_47_check_writable_refuses_a_network_filesystem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It checks the nearest existing parent."""
    monkeypatch.setattr(network_filesystem, "_type_of", lambda path: 0x6969 if path == tmp_path else 0)
    with pytest.raises(DirectoryError, match="NFS"):
        check_writable(tmp_path / "a" / "b")


OTHER = os.geteuid() + 12345


@pytest.fixture(autouse=True)
def _nothing_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_warned", set())


@pytest.mark.parametrize(
    ("mode", "is_warned"), [(0o700, False), (0o775, False), (0o1777, False), (0o777, True), (0o702, True)]
)
def test_fault_78_warning_if_every_user_may_write_without_the_sticky_bit(
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
def test_fault_78_warning_if_another_user_owns_the_directory(
    owner: int, users: tuple[int, ...], is_warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    place: Any = SimpleNamespace(stat=lambda: SimpleNamespace(st_uid=owner, st_mode=0o40700))
    warn_of_other_users(place, *users)
    assert (f"which belongs to user {OTHER}" in caplog.text) == is_warned


def test_fault_78_server_and_process_without_hooks_warn_once(
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
