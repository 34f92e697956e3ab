"""ServerDirectories and SharedDirectory: a directory that other processes leave, lock or prepare."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

import pytest

from web_prom.errors import DirectoryError
from web_prom.multiprocess.directory import shared_directory
from web_prom.multiprocess.directory.environment import DIR_VARIABLE
from web_prom.multiprocess.directory.server_directory import ServerDirectories
from web_prom.multiprocess.directory.shared_directory import SharedDirectory

NOBODY = 65534

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make private directories below the directory of the test."""
    made = tmp_path / "tmp"
    made.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(made))
    return made


def test_directory_removed_during_the_start_is_created_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The old server of an upgrade removes it after the new one opened it and before it locked it."""
    old = SharedDirectory.create_private()
    share = shared_directory._share
    locks: list[int] = []

    def leave_and_share(lock: int) -> None:
        if not locks:
            old.release()
        locks.append(lock)
        share(lock)

    monkeypatch.setattr(shared_directory, "_share", leave_and_share)
    new = SharedDirectory(old.path)
    assert len(locks) == 2
    assert new.path.is_dir()
    new.release()
    assert not new.path.exists()


def test_lock_that_is_never_released_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server does not hang."""
    monkeypatch.setattr(shared_directory, "_LOCK_TIMEOUT_SECONDS", 0.0)
    stuck = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(stuck, fcntl.LOCK_EX)
    with pytest.raises(DirectoryError, match="cannot be locked and cleaned"):
        SharedDirectory(tmp_path)
    os.close(stuck)


def test_dead_servers_file_that_cannot_be_removed_is_an_error(tmp_path: Path) -> None:
    """Its values would be counted forever."""
    (tmp_path / "counter_1.db").mkdir()
    with pytest.raises(DirectoryError, match="cannot be locked and cleaned"):
        SharedDirectory(tmp_path)


@only_root
def test_private_directory_changes_its_owner_at_a_reload() -> None:
    """web-prom created it, so its owner may change."""
    held = SharedDirectory.create_private()
    for uid in (NOBODY, 1):
        held.chown(uid, uid)
        assert held.path.stat().st_uid == uid
    held.release()
    assert not held.path.exists()


@only_root
@pytest.mark.parametrize("arranged", ["others may write", "other files", "another owner"])
def test_directory_with_chosen_owner_or_mode_keeps_them(tmp_path: Path, arranged: str) -> None:
    """For example /run, or a directory that a group shares."""
    named = tmp_path / "named"
    named.mkdir(mode=0o755)
    if arranged == "others may write":
        named.chmod(0o1777)
    elif arranged == "other files":
        (named / "something.pid").touch()
    else:
        os.chown(named, 1, 1)
    before = named.stat()
    held = SharedDirectory(named)
    (named / "counter_1.db").touch()
    held.chown(NOBODY, NOBODY)
    after = named.stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
    assert (named / "counter_1.db").stat().st_uid == NOBODY
    held.release()


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """End server directories with the test instead of the interpreter."""
    monkeypatch.setattr("atexit.register", lambda _end: None)
    monkeypatch.setenv(DIR_VARIABLE, "")


def test_forked_worker_removes_nothing_at_its_end(begun: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its interpreter runs the exit handlers that the master registered."""
    ours = ServerDirectories()
    with monkeypatch.context() as in_the_worker:
        in_the_worker.setattr(os, "getpid", lambda: -1)
        ours.release()
    assert ours.current.path.is_dir()
    ours.release()
    assert not ours.current.path.exists()


def test_removed_private_directory_is_not_created_again_under_its_name(begun: None, temporary: Path) -> None:
    """Another user could have created a directory of this name meanwhile."""
    os.environ[DIR_VARIABLE] = str(temporary / "web_prom-private-gone")
    ours = ServerDirectories()
    assert ours.current.private
    assert ours.current.path.name != "web_prom-private-gone"
    assert os.environ[DIR_VARIABLE] == str(ours.current.path)
    ours.release()


def test_failed_change_of_the_directory_has_no_effect(begun: None, tmp_path: Path) -> None:
    """The server still holds the present directory."""
    ours = ServerDirectories()
    (tmp_path / "file").touch()
    with pytest.raises(DirectoryError):
        ours.switch_to(tmp_path / "file" / "below", in_use=False)
    assert [held.path.is_dir() for held in ours.directories] == [True]
    ours.release()


def test_change_of_the_directory_keeps_the_one_of_older_workers(begun: None, tmp_path: Path) -> None:
    """Where no worker uses it yet, it is removed at once."""
    ours = ServerDirectories()
    first = ours.current.path
    ours.switch_to(tmp_path / "second", in_use=False)
    assert not first.exists()
    ours.switch_to(tmp_path / "third", in_use=True)
    assert [held.path.name for held in ours.directories] == ["third", "second"]
    ours.release()


def test_two_spellings_of_one_path_are_one_directory(
    begun: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One path is relative, the other has a slash at its end."""
    monkeypatch.chdir(tmp_path)
    os.environ[DIR_VARIABLE] = "named"
    ours = ServerDirectories()
    ours.switch_to(f"{tmp_path}/named/", in_use=True)
    assert [held.path for held in ours.directories] == [tmp_path / "named"]
    ours.release()
