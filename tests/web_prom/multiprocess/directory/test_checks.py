"""Whether a directory can be used, found out without changing anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from web_prom.errors import DirectoryError
from web_prom.multiprocess.directory import network_filesystem
from web_prom.multiprocess.directory.checks import check_writable


@pytest.fixture
def nobody() -> Iterator[None]:
    """Be a user without privileges, where the test runs as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_fault_47_a_directory_to_be_made_is_fine_and_is_not_made(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    check_writable(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_fault_47_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_writable("a/b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["file", "file/below", "dangling", "dangling/below"])
def test_fault_47_what_is_no_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DirectoryError, match="exists and is not a directory"):
        check_writable(tmp_path / name)


@pytest.mark.parametrize(
    ("mode", "name"), [(0o500, "closed"), (0o500, "closed/below"), (0o000, "closed/inner/below")]
)
def test_fault_47_a_parent_that_cannot_be_written(mode: int, name: str, nobody: None) -> None:
    """By the effective user, whoever started the process. pytest's own directories are closed to others."""
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


def test_fault_47_a_network_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest parent tells it."""
    monkeypatch.setattr(network_filesystem, "_type_of", lambda path: 0x6969 if path == tmp_path else 0)
    with pytest.raises(DirectoryError, match="NFS"):
        check_writable(tmp_path / "a" / "b")
