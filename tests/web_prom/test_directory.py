"""The directory that workers share: made, proved, cleaned of the dead, kept from the living."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from web_prom.errors import DirectoryError, WebPromError
from web_prom.multiprocess.directory import SharedDirectory, is_private, make_usable

from .support import python

VALUES = ["counter_7.db", "histogram_7.db", "summary_7.db", "gauge_all_7.db", "gauge_livesum_7.db"]


def fill(path: Path, *more: str) -> None:
    for name in (*VALUES, *more):
        (path / name).write_bytes(b"x")


def names(path: Path) -> set[str]:
    return set(os.listdir(path))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory for temporary files, which is the test's own."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(path))
    return path


# Proving ---------------------------------------------------------------------------------------------


def test_a_missing_directory_is_made_for_this_user_alone(tmp_path: Path) -> None:
    path = make_usable(tmp_path / "a" / "b")
    assert path.is_dir()
    assert mode(path) == 0o700


def test_an_existing_directory_is_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    fill(tmp_path)
    make_usable(str(tmp_path))
    assert mode(tmp_path) == 0o755
    assert names(tmp_path) == set(VALUES), "and the proof of writing leaves nothing"


@pytest.mark.parametrize("kind", ["a file", "below a file", "proc"])
def test_a_directory_that_cannot_be_written_is_an_error_with_the_remedy(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    path = {
        "a file": tmp_path / "file",
        "below a file": tmp_path / "file" / "below",
        "proc": Path("/proc/web_prom"),
    }[kind]
    for use in (make_usable, SharedDirectory):
        with pytest.raises(DirectoryError) as raised:
            use(path)
        message = str(raised.value)
        assert "PROMETHEUS_MULTIPROC_DIR" in message
        assert str(path) in message
        assert "name a directory" in message
    assert (tmp_path / "file").read_text() == "x"


def test_a_directory_error_is_an_os_error_and_one_of_ours() -> None:
    assert issubclass(DirectoryError, OSError)
    assert issubclass(DirectoryError, WebPromError)


# Cleaning --------------------------------------------------------------------------------------------


def test_what_a_dead_deployment_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    fill(tmp_path, "notes.txt", "users.db", "counter.db", "important")
    (tmp_path / "below").mkdir()
    shared = SharedDirectory(tmp_path)
    assert names(tmp_path) == {"notes.txt", "users.db", "counter.db", "important", "below"}
    shared.leave()


def test_fault_27_a_second_server_joins_and_wipes_nothing(tmp_path: Path) -> None:
    first = SharedDirectory(tmp_path)
    fill(tmp_path)
    second = SharedDirectory(tmp_path)
    assert names(tmp_path) == set(VALUES)
    first.leave()
    third = SharedDirectory(tmp_path)
    assert names(tmp_path) == set(VALUES), "the second is still there"
    second.leave()
    third.leave()
    SharedDirectory(tmp_path).leave()
    assert names(tmp_path) == set(), "now nobody was"


def test_leaving_twice_is_leaving_once(tmp_path: Path) -> None:
    shared = SharedDirectory(tmp_path)
    shared.leave()
    shared.leave()
    assert tmp_path.is_dir(), "a directory that the user named stays"


def test_leaving_closes_what_was_opened(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    SharedDirectory(tmp_path).leave()
    with pytest.raises(DirectoryError):
        SharedDirectory("/proc/web_prom")
    assert len(os.listdir("/proc/self/fd")) == before


FORKS = """
    import os, sys
    from pathlib import Path
    from web_prom.multiprocess.directory import SharedDirectory

    path = Path(sys.argv[1])
    ready, tell_ready = os.pipe()
    end, tell_end = os.pipe()
    master = os.fork()
    if not master:
        SharedDirectory(path)
        (path / "counter_1.db").write_bytes(b"x")
        if not os.fork():  # the worker
            os.close(tell_end)
            os.write(tell_ready, b"x")
            os.read(end, 1)
        os._exit(0)  # the master dies and leaves nothing; so does the worker, when it is told
    os.waitpid(master, 0)
    os.close(tell_ready)
    os.read(ready, 1)
    second = SharedDirectory(path)
    print("with the worker alive:", sorted(os.listdir(path)))
    second.leave()
    os.close(tell_end)
    assert os.read(ready, 1) == b"", "the worker has ended"
    SharedDirectory(path)
    print("without:", sorted(os.listdir(path)))
"""


def test_fault_27_a_worker_that_outlives_its_master_keeps_the_directory(tmp_path: Path) -> None:
    assert python(FORKS, str(tmp_path)).splitlines() == [
        "with the worker alive: ['counter_1.db']",
        "without: []",
    ]


def test_a_program_that_a_worker_starts_does_not_hold_the_directory(tmp_path: Path) -> None:
    shared = SharedDirectory(tmp_path)
    held = shared._lock
    assert held is not None
    assert not os.get_inheritable(held)
    shared.leave()


# Private directories ---------------------------------------------------------------------------------


def test_a_private_directory_is_this_users_alone_and_removed_in_the_end(temporary: Path) -> None:
    shared = SharedDirectory.make_private()
    assert shared.private
    assert is_private(shared.path)
    assert shared.path.parent == temporary
    assert mode(shared.path) == 0o700
    fill(shared.path)
    shared.leave()
    assert names(temporary) == set()


def test_each_server_has_a_private_directory_of_its_own(temporary: Path) -> None:
    one, two = SharedDirectory.make_private(), SharedDirectory.make_private()
    assert one.path != two.path
    assert one.path.is_dir(), "it is in use, not abandoned"
    one.leave()
    two.leave()


def test_a_private_directory_stays_while_another_server_uses_it(temporary: Path) -> None:
    """As in a binary upgrade."""
    old = SharedDirectory.make_private()
    fill(old.path)
    new = SharedDirectory(old.path)
    assert new.private
    old.leave()
    assert names(new.path) == set(VALUES)
    new.leave()
    assert names(temporary) == set()


def test_fault_21_private_directories_of_servers_that_were_killed_are_removed(temporary: Path) -> None:
    python(
        """
        import os, sys, tempfile
        tempfile.tempdir = sys.argv[1]
        from web_prom.multiprocess.directory import SharedDirectory
        (SharedDirectory.make_private().path / "counter_1.db").write_bytes(b"x")
        os._exit(0)  # as by a kill: nothing is cleaned up
        """,
        str(temporary),
    )
    (abandoned,) = names(temporary)
    (temporary / "somebody-elses").mkdir()
    shared = SharedDirectory.make_private()
    assert names(temporary) == {shared.path.name, "somebody-elses"}
    assert shared.path.name != abandoned
    shared.leave()


def test_a_link_with_a_private_name_leads_nowhere(temporary: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    fill(victim)
    shared = SharedDirectory.make_private()
    shared.leave()
    (temporary / shared.path.name).symlink_to(victim)
    SharedDirectory.make_private().leave()
    assert names(victim) == set(VALUES)


def test_without_a_place_for_a_private_directory_there_is_an_error_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(DirectoryError, match="set PROMETHEUS_MULTIPROC_DIR"):
        SharedDirectory.make_private()


def test_what_a_user_names_is_not_private(tmp_path: Path, temporary: Path) -> None:
    assert not is_private(tmp_path)
    assert not is_private(temporary)
    assert not is_private(temporary / "prometheus")
    assert not is_private("")


# Handing over ----------------------------------------------------------------------------------------


def test_a_directory_is_handed_to_the_user_of_the_workers(tmp_path: Path) -> None:
    """Root may; another user is told so."""
    path = tmp_path / "shared"
    shared = SharedDirectory(path)
    fill(path)
    if os.geteuid() == 0:
        shared.hand_to(12345, 12346)
        for entry in (path, *path.iterdir()):
            assert (entry.stat().st_uid, entry.stat().st_gid) == (12345, 12346)
    else:
        with pytest.raises(DirectoryError, match="PROMETHEUS_MULTIPROC_DIR"):
            shared.hand_to(os.geteuid() + 1, os.getegid())
    shared.hand_to(os.geteuid(), os.getegid())
    shared.leave()
    shared.hand_to(12345, 12346)


def test_what_is_no_value_is_not_given_away(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        return
    path = tmp_path / "shared"
    outside = tmp_path / "secret"
    outside.write_text("x")
    shared = SharedDirectory(path)
    (path / "notes.txt").write_text("x")
    (path / "counter_1.db").symlink_to(outside)
    os.link(outside, path / "counter_2.db")
    shared.hand_to(12345, 12346)
    assert (path / "notes.txt").stat().st_uid == 0
    assert outside.stat().st_uid == 0
    shared.leave()
