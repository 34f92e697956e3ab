"""The shared directory: cleaned, joined, given to the workers' user, released."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from prometheus_client import multiprocess

from tests.web_prom.multiprocess.directory.directories import VALUES, fill, names
from tests.web_prom.multiprocess.directory.holders import Hold, Holder
from tests.web_prom.multiprocess.reading.value_files import Worker
from tests.web_prom.support import open_descriptors, python
from web_prom.errors import DirectoryError
from web_prom.multiprocess.directory.shared_directory import SharedDirectory
from web_prom.multiprocess.directory.slots import LOCK_NAME, slots_of


def test_first_server_removes_only_the_files_of_a_dead_server(tmp_path: Path) -> None:
    others = {"notes.txt", "users.db", "counter.db", "important", "notes.txt.damaged", "gauge_s0.db"}
    fill(tmp_path, *others)
    (tmp_path / "below").mkdir()
    shared = SharedDirectory(tmp_path)
    assert names(tmp_path) == {*others, "below"}
    shared.release()


def test_fault_27_second_server_joins_and_removes_nothing(tmp_path: Path) -> None:
    first = SharedDirectory(tmp_path)
    fill(tmp_path)
    second = SharedDirectory(tmp_path)
    assert names(tmp_path) == set(VALUES)
    first.release()
    third = SharedDirectory(tmp_path)
    assert names(tmp_path) == set(VALUES), "the second server still uses it"
    second.release()
    third.release()
    SharedDirectory(tmp_path).release()
    assert names(tmp_path) == set(), "no server used it any more"


def test_fault_27_nothing_is_removed_while_a_process_holds_a_slot(tmp_path: Path, hold: Hold) -> None:
    """For example uvicorn without hooks."""
    other = hold()
    fill(tmp_path, "counter_s5.db")
    first = SharedDirectory(tmp_path)
    assert names(tmp_path) == {*VALUES, "counter_s5.db"}
    first.release()
    other.kill()
    SharedDirectory(tmp_path).release()
    assert names(tmp_path) == set()


def test_fault_39_files_of_a_living_process_without_a_slot_stay(tmp_path: Path) -> None:
    """The process uses prometheus_client without web-prom, and may be in another container."""
    fill(tmp_path)
    worker = Worker(tmp_path, "4194400")
    worker.inc("jobs")
    SharedDirectory(tmp_path).release()
    assert names(tmp_path) == {"counter_4194400.db"}
    worker.close()
    SharedDirectory(tmp_path).release()
    assert names(tmp_path) == set()


def test_lock_file_of_the_slots_stays_when_files_are_removed(tmp_path: Path) -> None:
    """A process that has opened the file and is about to lock it must share it with later ones."""
    Holder(tmp_path).kill()
    fill(tmp_path)
    before = (tmp_path / LOCK_NAME).stat().st_ino
    SharedDirectory(tmp_path).release()
    assert (tmp_path / LOCK_NAME).stat().st_ino == before
    assert names(tmp_path) == set()


def test_process_with_a_slot_removes_the_files_of_dead_processes(tmp_path: Path, hold: Hold) -> None:
    assert slots_of(tmp_path).acquire() == 0
    fill(tmp_path)
    shared = SharedDirectory(tmp_path)
    assert names(tmp_path) == set()
    shared.release()
    assert hold().slot == 1, "this process keeps slot 0"


def test_release_can_be_called_twice(tmp_path: Path) -> None:
    shared = SharedDirectory(tmp_path)
    shared.release()
    shared.release()
    assert tmp_path.is_dir(), "a directory that the user named stays"


def test_release_closes_all_descriptors(tmp_path: Path) -> None:
    """This includes the lock file of the slots, which is opened if there are files to remove."""
    fill(tmp_path)
    before = open_descriptors()
    SharedDirectory(tmp_path).release()
    with pytest.raises(DirectoryError):
        SharedDirectory("/proc/web_prom")
    assert open_descriptors() <= before


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
        os._exit(0)  # the master dies and leaves nothing; so does the worker, at its end
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


def test_fault_27_worker_without_its_master_keeps_the_directory_in_use(tmp_path: Path) -> None:
    assert python(FORKS, str(tmp_path)).splitlines() == [
        "with the worker alive: ['counter_1.db']",
        "without: ['slots.lock']",
    ]


def test_started_program_does_not_inherit_the_lock(tmp_path: Path) -> None:
    shared = SharedDirectory(tmp_path)
    held = shared._descriptor
    assert held is not None
    assert not os.get_inheritable(held)
    shared.release()


def test_chown_gives_the_directory_to_the_workers_user(tmp_path: Path) -> None:
    """Root may do this. Any other user gets an error."""
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


def test_chown_leaves_files_that_are_not_web_prom_s(tmp_path: Path) -> None:
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


def test_chown_changes_a_directory_with_only_web_prom_s_files(tmp_path: Path) -> None:
    """The lock file of the slots exists before the first worker of another user."""
    if os.geteuid() != 0:
        return
    fill(tmp_path)
    shared = SharedDirectory(tmp_path)
    assert os.listdir(tmp_path) == [LOCK_NAME]
    shared.chown(12345, 12346)
    assert [path.stat().st_uid for path in (tmp_path, tmp_path / LOCK_NAME)] == [12345, 12345]
    shared.release()


LIVE = {"gauge_liveall_s0.db", "gauge_livesum_s0.db", "gauge_livemostrecent_s0.db"}


KEPT = {"counter_s0.db", "gauge_all_s0.db", "gauge_livesum_s00.db", "gauge_livesum_s1.db"}


@pytest.mark.parametrize("name", ["plain", "app[1]*"])
def test_remove_dead_worker_removes_only_its_live_gauges(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    shared = SharedDirectory(path)
    dead = Holder(path)
    dead.kill()
    fill(path, *LIVE, *KEPT, f"gauge_livesum_{dead.pid}.db")
    shared.remove_dead_worker(dead.pid)
    assert names(path) == {*VALUES, *KEPT}
    shared.release()


@pytest.mark.slow
@pytest.mark.parametrize("successor_recorded", [True, False])
def test_remove_dead_worker_keeps_the_live_gauges_of_the_slot_s_next_holder(
    successor_recorded: bool, tmp_path: Path
) -> None:
    """Also if the next holder has not written its record yet."""
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


@pytest.mark.slow
def test_remove_dead_worker_that_interrupts_another_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older gunicorn calls it in the handler of SIGCHLD, which can interrupt itself."""
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


def test_remove_dead_worker_keeps_the_live_gauges_of_a_living_process(tmp_path: Path, hold: Hold) -> None:
    """For example, a process in another container has the same id."""
    shared = SharedDirectory(tmp_path)
    lives = hold()
    fill(tmp_path, *LIVE)
    shared.remove_dead_worker(lives.pid)
    assert names(tmp_path) == {*VALUES, *LIVE}
    shared.release()
