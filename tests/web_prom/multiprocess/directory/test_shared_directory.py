"""The directory that workers share: made, proved, cleaned of the dead, kept from the living."""

from __future__ import annotations

import ctypes
import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import multiprocess

from tests.web_prom.multiprocess.directory.test_slots import Hold, Holder, hold
from tests.web_prom.multiprocess.reading.value_files import Worker
from tests.web_prom.support import python
from web_prom.errors import DirectoryError, WebPromError
from web_prom.multiprocess.directory import network_filesystem, private_directory
from web_prom.multiprocess.directory.checks import ensure_writable
from web_prom.multiprocess.directory.private_directory import is_private
from web_prom.multiprocess.directory.shared_directory import SharedDirectory
from web_prom.multiprocess.directory.slots import LOCK_NAME, slots_of

__all__ = ["hold"]

VALUES = [
    *("counter_7.db", "histogram_7.db", "summary_7.db", "gauge_all_7.db", "gauge_livesum_7.db"),
    *("counter_s0.db", "histogram_s12.db", "summary_s0.db", "gauge_mostrecent_s0.db", "gauge_liveall_s1.db"),
    *("counter_s0.db.damaged", "gauge_livesum_7.db.damaged"),
]


def fill(path: Path, *more: str) -> None:
    for name in (*VALUES, *more):
        (path / name).write_bytes(b"x")


def names(path: Path) -> set[str]:
    """Return what is in a directory, without the file with the slots, which stays."""
    return set(os.listdir(path)) - {LOCK_NAME}


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
    path = ensure_writable(tmp_path / "a" / "b")
    assert path.is_dir()
    assert mode(path) == 0o700


def test_an_existing_directory_is_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    fill(tmp_path)
    ensure_writable(str(tmp_path))
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
    for use in (ensure_writable, SharedDirectory):
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
    others = {"notes.txt", "users.db", "counter.db", "important", "notes.txt.damaged", "gauge_s0.db"}
    fill(tmp_path, *others)
    (tmp_path / "below").mkdir()
    shared = SharedDirectory(tmp_path)
    assert names(tmp_path) == {*others, "below"}
    shared.release()


def test_fault_27_a_second_server_joins_and_wipes_nothing(tmp_path: Path) -> None:
    first = SharedDirectory(tmp_path)
    fill(tmp_path)
    second = SharedDirectory(tmp_path)
    assert names(tmp_path) == set(VALUES)
    first.release()
    third = SharedDirectory(tmp_path)
    assert names(tmp_path) == set(VALUES), "the second is still there"
    second.release()
    third.release()
    SharedDirectory(tmp_path).release()
    assert names(tmp_path) == set(), "now nobody was"


def test_fault_27_nothing_is_removed_while_anybody_holds_a_slot(tmp_path: Path, hold: Hold) -> None:
    """A uvicorn, say, that no hook of ours has started."""
    other = hold()
    fill(tmp_path, "counter_s5.db")
    first = SharedDirectory(tmp_path)
    assert names(tmp_path) == {*VALUES, "counter_s5.db"}
    first.release()
    other.kill()
    SharedDirectory(tmp_path).release()
    assert names(tmp_path) == set()


def test_fault_39_files_of_a_living_process_without_a_slot_stay(tmp_path: Path) -> None:
    """It knows prometheus_client alone; who starts the server cannot see it in another container."""
    fill(tmp_path)
    worker = Worker(tmp_path, "4194400")
    worker.inc("jobs")
    SharedDirectory(tmp_path).release()
    assert names(tmp_path) == {"counter_4194400.db"}
    worker.close()
    SharedDirectory(tmp_path).release()
    assert names(tmp_path) == set()


def test_the_file_with_the_slots_stays_when_the_rest_is_removed(tmp_path: Path) -> None:
    """Whoever opened it and is about to lock must find the same file as whoever comes later."""
    Holder(tmp_path).kill()
    fill(tmp_path)
    before = (tmp_path / LOCK_NAME).stat().st_ino
    SharedDirectory(tmp_path).release()
    assert (tmp_path / LOCK_NAME).stat().st_ino == before
    assert names(tmp_path) == set()


def test_a_process_that_holds_a_slot_itself_may_clean_what_others_left(tmp_path: Path, hold: Hold) -> None:
    assert slots_of(tmp_path).acquire() == 0
    fill(tmp_path)
    shared = SharedDirectory(tmp_path)
    assert names(tmp_path) == set()
    shared.release()
    assert hold().slot == 1, "and keeps it"


def test_leaving_twice_is_leaving_once(tmp_path: Path) -> None:
    shared = SharedDirectory(tmp_path)
    shared.release()
    shared.release()
    assert tmp_path.is_dir(), "a directory that the user named stays"


def test_leaving_closes_what_was_opened(tmp_path: Path) -> None:
    """Also the file with the slots, which is opened where there is something to clean."""
    fill(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    SharedDirectory(tmp_path).release()
    with pytest.raises(DirectoryError):
        SharedDirectory("/proc/web_prom")
    assert len(os.listdir("/proc/self/fd")) == before


FORKS = """
    import os, sys
    from pathlib import Path
    from web_prom.multiprocess.directory.shared_directory import SharedDirectory

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
    second.release()
    os.close(tell_end)
    assert os.read(ready, 1) == b"", "the worker has ended"
    SharedDirectory(path)
    print("without:", sorted(os.listdir(path)))
"""


def test_fault_27_a_worker_that_outlives_its_master_keeps_the_directory(tmp_path: Path) -> None:
    assert python(FORKS, str(tmp_path)).splitlines() == [
        "with the worker alive: ['counter_1.db']",
        "without: ['slots.lock']",
    ]


def test_a_program_that_a_worker_starts_does_not_hold_the_directory(tmp_path: Path) -> None:
    shared = SharedDirectory(tmp_path)
    held = shared._descriptor
    assert held is not None
    assert not os.get_inheritable(held)
    shared.release()


# Private directories ---------------------------------------------------------------------------------


def test_a_private_directory_is_this_users_alone_and_removed_in_the_end(temporary: Path) -> None:
    shared = SharedDirectory.create_private()
    assert shared.private
    assert is_private(shared.path)
    assert shared.path.parent == temporary
    assert mode(shared.path) == 0o700
    fill(shared.path)
    shared.release()
    assert names(temporary) == set()


def test_each_server_has_a_private_directory_of_its_own(temporary: Path) -> None:
    one, two = SharedDirectory.create_private(), SharedDirectory.create_private()
    assert one.path != two.path
    assert one.path.is_dir(), "it is in use, not abandoned"
    one.release()
    two.release()


def test_a_private_directory_stays_while_another_server_uses_it(temporary: Path) -> None:
    """As in a binary upgrade."""
    old = SharedDirectory.create_private()
    fill(old.path)
    new = SharedDirectory(old.path)
    assert new.private
    old.release()
    assert names(new.path) == set(VALUES)
    new.release()
    assert names(temporary) == set()


def test_fault_21_private_directories_of_servers_that_were_killed_are_removed(temporary: Path) -> None:
    python(
        """
        import os, sys, tempfile
        tempfile.tempdir = sys.argv[1]
        from web_prom.multiprocess.directory.shared_directory import SharedDirectory
        (SharedDirectory.create_private().path / "counter_1.db").write_bytes(b"x")
        os._exit(0)  # as by a kill: nothing is cleaned up
        """,
        str(temporary),
    )
    (abandoned,) = names(temporary)
    (temporary / "somebody-elses").mkdir()
    shared = SharedDirectory.create_private()
    assert names(temporary) == {shared.path.name, "somebody-elses"}
    assert shared.path.name != abandoned
    shared.release()


def test_a_link_with_a_private_name_leads_nowhere(temporary: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    fill(victim)
    shared = SharedDirectory.create_private()
    shared.release()
    (temporary / shared.path.name).symlink_to(victim)
    SharedDirectory.create_private().release()
    assert names(victim) == set(VALUES)


@pytest.mark.parametrize("hours", [0.5, 2])
def test_fault_21_one_that_was_never_finished_is_removed_an_hour_later(temporary: Path, hours: float) -> None:
    """Its maker may be about to lock it."""
    unfinished = temporary / ".web_prom-private-x"
    unfinished.mkdir()
    then = time.time() - hours * 3600
    os.utime(unfinished, (then, then))
    SharedDirectory.create_private().release()
    assert unfinished.exists() == (hours < 1)


def test_a_private_directory_with_a_held_slot_stays_until_that_is_free(
    temporary: Path, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that a worker began outlives the server."""
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


def test_the_last_to_leave_waits_for_workers_that_are_dying(temporary: Path, hold: Hold) -> None:
    shared = SharedDirectory.create_private()
    worker = hold(shared.path)
    worker.process.kill()  # and nobody waits for its end
    shared.release()
    assert names(temporary) == set()


def test_a_pipe_in_place_of_the_slots_holds_nobody_up(temporary: Path) -> None:
    """Anybody may make a directory with such a name."""
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


def test_a_private_directory_that_cannot_be_finished_is_not_left_behind(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_filesystem, "_type_of", lambda path: 0x6969)
    with pytest.raises(DirectoryError, match=r"NFS.*set PROMETHEUS_MULTIPROC_DIR"):
        SharedDirectory.create_private()
    assert names(temporary) == set()


def test_without_a_place_for_a_private_directory_there_is_an_error_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    monkeypatch.setattr(private_directory, "_MEMORY", tmp_path / "missing, too")
    with pytest.raises(DirectoryError, match="set PROMETHEUS_MULTIPROC_DIR"):
        SharedDirectory.create_private()


def test_fault_59_a_private_directory_is_in_memory_if_the_temporary_one_is_on_a_network(
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


def test_fault_59_a_private_directory_is_in_memory_if_no_temporary_one_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a read-only root: then Python finds no directory for temporary files at all."""

    def none_usable() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", none_usable)
    monkeypatch.setattr(private_directory, "_MEMORY", tmp_path)
    made = SharedDirectory.create_private()
    assert made.path.parent == tmp_path
    assert is_private(made.path)
    made.release()
    assert names(tmp_path) == set()


def test_fault_59_the_error_names_each_place_that_was_tried(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_directory, "_MEMORY", tmp_path / "missing")
    monkeypatch.setattr(network_filesystem, "_type_of", lambda path: 0x6969)
    with pytest.raises(DirectoryError, match=r"NFS.*missing.*set PROMETHEUS_MULTIPROC_DIR"):
        SharedDirectory.create_private()


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
    slots_of(path).acquire()
    if os.geteuid() == 0:
        shared.chown(12345, 12346)
        for entry in (path, *path.iterdir()):
            assert (entry.stat().st_uid, entry.stat().st_gid) == (12345, 12346)
    else:
        with pytest.raises(DirectoryError, match="PROMETHEUS_MULTIPROC_DIR"):
            shared.chown(os.geteuid() + 1, os.getegid())
    shared.chown(os.geteuid(), os.getegid())
    shared.release()
    shared.chown(12345, 12346)


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
    shared.chown(12345, 12346)
    assert (path / "notes.txt").stat().st_uid == 0
    assert outside.stat().st_uid == 0
    shared.release()


def test_a_directory_that_holds_our_files_alone_is_handed_on_with_them(tmp_path: Path) -> None:
    """The file with the slots is there before the first worker of another user."""
    if os.geteuid() != 0:
        return
    fill(tmp_path)
    shared = SharedDirectory(tmp_path)
    assert os.listdir(tmp_path) == [LOCK_NAME]
    shared.chown(12345, 12346)
    assert [path.stat().st_uid for path in (tmp_path, tmp_path / LOCK_NAME)] == [12345, 12345]
    shared.release()


# Burying the dead ------------------------------------------------------------------------------------


LIVE = {"gauge_liveall_s0.db", "gauge_livesum_s0.db", "gauge_livemostrecent_s0.db"}
KEPT = {"counter_s0.db", "gauge_all_s0.db", "gauge_livesum_s00.db", "gauge_livesum_s1.db"}


@pytest.mark.parametrize("name", ["plain", "app[1]*"])
def test_the_live_gauges_of_a_dead_process_go_and_nothing_else(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    shared = SharedDirectory(path)
    dead = Holder(path)
    dead.kill()
    fill(path, *LIVE, *KEPT, f"gauge_livesum_{dead.pid}.db")
    shared.remove_dead_worker(dead.pid)
    assert names(path) == {*VALUES, *KEPT}
    shared.release()


@pytest.mark.parametrize("successor_recorded", [True, False])
def test_who_has_taken_the_slot_over_keeps_its_live_gauges(successor_recorded: bool, tmp_path: Path) -> None:
    """Also where it holds the slot and has not yet written that down."""
    shared = SharedDirectory(tmp_path)
    dead = Holder(tmp_path)
    dead.kill()
    lives = Holder(tmp_path)
    assert lives.slot == dead.slot
    if not successor_recorded:
        python(
            "import sys; open(sys.argv[1], 'r+b').write(int(sys.argv[2]).to_bytes(8, sys.byteorder))",
            str(tmp_path / LOCK_NAME),
            str(dead.pid),
        )
        assert slots_of(tmp_path).find_by_pid(dead.pid) == [0]
    fill(tmp_path, *LIVE)
    shared.remove_dead_worker(dead.pid)
    assert names(tmp_path) == {*VALUES, *LIVE}
    lives.kill()
    shared.release()


def test_a_death_that_interrupts_the_burial_of_another_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older gunicorn buries inside the handler of SIGCHLD, which interrupts itself when two die at once."""
    shared = SharedDirectory(tmp_path)
    first, second = Holder(tmp_path), Holder(tmp_path)
    first.kill()
    fill(tmp_path, *LIVE, *(name.replace("_s0", "_s1") for name in LIVE))
    remove = multiprocess.mark_process_dead
    arrived: list[object] = []

    def interrupted(pid: object, path: str) -> None:
        if pid == "s0" and not arrived:
            arrived.append(pid)
            second.kill()
            shared.remove_dead_worker(second.pid)
        remove(pid, path)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(multiprocess, "mark_process_dead", interrupted)
    shared.remove_dead_worker(first.pid)
    assert arrived
    assert names(tmp_path) == {*VALUES} - {"gauge_liveall_s1.db"}
    shared.release()


def test_a_process_that_only_seems_dead_keeps_its_live_gauges(tmp_path: Path, hold: Hold) -> None:
    """Or another container's process has the same id."""
    shared = SharedDirectory(tmp_path)
    lives = hold()
    fill(tmp_path, *LIVE)
    shared.remove_dead_worker(lives.pid)
    assert names(tmp_path) == {*VALUES, *LIVE}
    shared.release()


# File systems ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "name"), network_filesystem._NETWORK.items())
@pytest.mark.parametrize("use", [ensure_writable, SharedDirectory])
def test_a_network_file_system_is_refused_with_the_remedy(
    use: Callable[[Path], object], number: int, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_filesystem, "_type_of", lambda path: number)
    with pytest.raises(DirectoryError) as raised:
        use(tmp_path)
    message = str(raised.value)
    assert message.startswith(
        f"PROMETHEUS_MULTIPROC_DIR is {str(tmp_path)!r}, which is on a network file system"
    )
    assert f"({name})" in message
    assert "local disk or in memory, for example in /dev/shm" in message
    assert os.listdir(tmp_path) == []


class LibC:
    """What ctypes gives for the C library, as far as it is asked."""

    def __init__(self, answer: int, number: int = 0) -> None:
        self.answer = answer
        self.number = number

    def statfs(self, path: bytes, found: Any) -> int:
        ctypes.c_ulong.from_buffer(found).value = self.number
        return self.answer


@pytest.mark.parametrize("number", [0x6969, 0xFE534D42, 0xFE534D42 - (1 << 32)])
def test_the_type_is_what_statfs_tells(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a long has 32 bits it may be negative."""
    monkeypatch.setattr(ctypes, "CDLL", lambda name: LibC(0, number))
    with pytest.raises(DirectoryError, match="network"):
        ensure_writable(tmp_path)


def test_statfs_is_asked_about_the_directory() -> None:
    assert network_filesystem._type_of(Path("/proc")) == 0x9FA0


@pytest.mark.parametrize("way", ["error", "no function", "no library", "another system"])
def test_where_statfs_cannot_be_asked_nothing_is_refused(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "another system":
        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setattr(network_filesystem, "_type_of", lambda path: pytest.fail("it was asked"))
    else:
        libraries: dict[str, Callable[[None], Any]] = {
            "error": lambda name: LibC(-1, 0x6969),
            "no function": lambda name: object(),
            "no library": lambda name: ctypes.CDLL("libno-such.so"),
        }
        original = ctypes.CDLL
        monkeypatch.setattr(ctypes, "CDLL", lambda name: original(name) if name else libraries[way](name))
    ensure_writable(tmp_path)
