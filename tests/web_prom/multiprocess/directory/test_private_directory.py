"""Private directories: created in a suitable place, used by one or several servers, removed at the end."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.web_prom.multiprocess.directory.directories import VALUES, fill, mode, names
from tests.web_prom.multiprocess.directory.holders import Hold
from tests.web_prom.support import python
from web_prom.errors import DirectoryError
from web_prom.multiprocess.directory import (
    network_filesystem,
    private_directory,
)
from web_prom.multiprocess.directory.private_directory import is_private
from web_prom.multiprocess.directory.shared_directory import SharedDirectory
from web_prom.multiprocess.directory.slots import LOCK_NAME


def test_private_directory_is_for_this_user_alone_and_removed_at_release(temporary: Path) -> None:
    shared = SharedDirectory.create_private()
    assert shared.private
    assert is_private(shared.path)
    assert shared.path.parent == temporary
    assert mode(shared.path) == 0o700
    fill(shared.path)
    shared.release()
    assert names(temporary) == set()


def test_each_server_creates_its_own_private_directory(temporary: Path) -> None:
    one, two = SharedDirectory.create_private(), SharedDirectory.create_private()
    assert one.path != two.path
    assert one.path.is_dir(), "it is in use, not abandoned"
    one.release()
    two.release()


def test_private_directory_stays_while_another_server_uses_it(temporary: Path) -> None:
    """As in a binary upgrade."""
    old = SharedDirectory.create_private()
    fill(old.path)
    new = SharedDirectory(old.path)
    assert new.private
    old.release()
    assert names(new.path) == set(VALUES)
    new.release()
    assert names(temporary) == set()


def test_fault_21_private_directories_of_killed_servers_are_removed(temporary: Path) -> None:
    python(
        """
        import os, sys, tempfile
        tempfile.tempdir = sys.argv[1]
        from web_prom.multiprocess.directory.shared_directory import SharedDirectory
        (SharedDirectory.create_private().path / "counter_1.db").write_bytes(b"x")
        os._exit(0)  # like a kill: no cleanup
        """,
        str(temporary),
    )
    (abandoned,) = names(temporary)
    (temporary / "other").mkdir()
    shared = SharedDirectory.create_private()
    assert names(temporary) == {shared.path.name, "other"}
    assert shared.path.name != abandoned
    shared.release()


def test_symbolic_link_with_a_private_name_is_not_followed(temporary: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    fill(victim)
    shared = SharedDirectory.create_private()
    shared.release()
    (temporary / shared.path.name).symlink_to(victim)
    SharedDirectory.create_private().release()
    assert names(victim) == set(VALUES)


@pytest.mark.parametrize("hours", [0.5, 2])
def test_fault_21_incomplete_private_directory_is_removed_after_an_hour(
    temporary: Path, hours: float
) -> None:
    """Before that, its server may be about to lock it."""
    unfinished = temporary / ".web_prom-private-x"
    unfinished.mkdir()
    then = time.time() - hours * 3600
    os.utime(unfinished, (then, then))
    SharedDirectory.create_private().release()
    assert unfinished.exists() == (hours < 1)


def test_private_directory_with_a_held_slot_stays_until_the_slot_is_free(
    temporary: Path, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that a worker started can outlive the server."""
    monkeypatch.setattr("web_prom.multiprocess.directory.shared_directory._EXIT_SECONDS", 0)
    shared = SharedDirectory.create_private()
    fill(shared.path)
    program = hold(shared.path)
    shared.release()
    SharedDirectory.create_private().release()
    assert names(shared.path) == set(VALUES)
    program.end()
    SharedDirectory.create_private().release()
    assert names(temporary) == set()


def test_release_waits_for_killed_workers(temporary: Path, hold: Hold) -> None:
    shared = SharedDirectory.create_private()
    worker = hold(shared.path)
    worker.process.kill()  # without waiting for its end
    shared.release()
    assert names(temporary) == set()


def test_pipe_in_place_of_the_lock_file_blocks_no_server(temporary: Path) -> None:
    """Any user can create a directory with such a name."""
    (temporary / "web_prom-private-x").mkdir()
    os.mkfifo(temporary / "web_prom-private-x" / LOCK_NAME)
    python(
        """
        import sys, tempfile
        tempfile.tempdir = sys.argv[1]
        from web_prom.multiprocess.directory.shared_directory import SharedDirectory
        SharedDirectory.create_private().release()
        """,
        str(temporary),
    )
    assert names(temporary) == {"web_prom-private-x"}


def test_private_directory_that_cannot_be_used_is_removed(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_filesystem, "_type_of", lambda path: 0x6969)
    with pytest.raises(DirectoryError, match=r"NFS.*set PROMETHEUS_MULTIPROC_DIR"):
        SharedDirectory.create_private()
    assert names(temporary) == set()


def test_create_private_without_a_usable_place_is_an_error_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    monkeypatch.setattr(private_directory, "_MEMORY", tmp_path / "missing, too")
    with pytest.raises(DirectoryError, match="set PROMETHEUS_MULTIPROC_DIR"):
        SharedDirectory.create_private()


def test_fault_59_private_directory_is_in_memory_if_the_temporary_one_is_on_a_network(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = tmp_path / "memory"
    memory.mkdir()
    monkeypatch.setattr(private_directory, "_MEMORY", memory)
    monkeypatch.setattr(network_filesystem, "_type_of", lambda path: 0 if memory in path.parents else 0x6969)
    made = SharedDirectory.create_private()
    assert made.path.parent == memory
    assert made.private
    assert is_private(made.path)
    assert names(temporary) == set()
    made.release()
    assert names(memory) == set()


def test_fault_59_private_directory_is_in_memory_if_no_temporary_one_is_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a read-only root Python finds no directory for temporary files."""

    def none_usable() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", none_usable)
    monkeypatch.setattr(private_directory, "_MEMORY", tmp_path)
    made = SharedDirectory.create_private()
    assert made.path.parent == tmp_path
    assert is_private(made.path)
    made.release()
    assert names(tmp_path) == set()


def test_fault_59_error_names_each_place_that_was_tried(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_directory, "_MEMORY", tmp_path / "missing")
    monkeypatch.setattr(network_filesystem, "_type_of", lambda path: 0x6969)
    with pytest.raises(DirectoryError, match=r"NFS.*missing.*set PROMETHEUS_MULTIPROC_DIR"):
        SharedDirectory.create_private()


def test_is_private_is_false_for_other_directories(tmp_path: Path, temporary: Path) -> None:
    assert not is_private(tmp_path)
    assert not is_private(temporary)
    assert not is_private(temporary / "prometheus")
    assert not is_private("")
