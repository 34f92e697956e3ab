"""Slots: taken, kept, given back by the kernel, in all the ways that processes come and go."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.web_prom.support import ROOT, python
from web_prom.errors import DirectoryError
from web_prom.multiprocess.directory import lockfile, slots
from web_prom.multiprocess.directory.slots import LOCK_NAME, Slots, slots_of

HELPERS = """
import ctypes, multiprocessing, os, signal, subprocess, sys, threading, time
from pathlib import Path
from web_prom.multiprocess.directory.slots import slots_of

path = Path(sys.argv[1])
slots = slots_of(path)

def in_child(function, fork=os.fork):
    \"\"\"Call a function in a fork and return what it returned, as text.\"\"\"
    reading, writing = os.pipe()
    pid = fork()
    if not pid:
        try:
            os.write(writing, str(function()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    with open(reading) as told:
        return told.read()

def bare_fork():
    \"\"\"Fork as uWSGI does, without Python's at-fork hooks.\"\"\"
    return ctypes.PyDLL(None).fork()

def second():
    \"\"\"Return the slots that another interpreter of this process would have: all modules are new.\"\"\"
    for name in [name for name in sys.modules if name.startswith("web_prom")]:
        del sys.modules[name]
    from web_prom.multiprocess.directory.slots import slots_of
    return slots_of(path)
"""


def program(code: str, path: Path, *arguments: str, **environ: str) -> list[str]:
    """Run code, which has the helpers and the directory's slots, in a process and return what it printed."""
    return python(HELPERS + textwrap.dedent(code), str(path), *arguments, **environ).splitlines()


class Holder:
    """A process that holds a slot until it is killed, or told to end."""

    def __init__(self, path: Path) -> None:
        code = "import sys; from web_prom.multiprocess.directory.slots import slots_of\n"
        code += "print(slots_of(sys.argv[1]).acquire(), flush=True); sys.stdin.read()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        self.slot = int(self.process.stdout.readline())

    @property
    def pid(self) -> int:
        return self.process.pid

    def end(self) -> None:
        self.process.communicate("")

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


Hold = Callable[..., Holder]


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Hold]:
    """Return what makes processes that hold slots; they are ended with the test."""
    made: list[Holder] = []

    def held(path: Path = tmp_path) -> Holder:
        made.append(Holder(path))
        return made[-1]

    yield held
    for each in made:
        each.kill()


# Taking ----------------------------------------------------------------------------------------------


def test_each_process_takes_the_lowest_free_slot_and_keeps_it(tmp_path: Path, hold: Hold) -> None:
    first, second, third = hold(), hold(), hold()
    assert [first.slot, second.slot, third.slot] == [0, 1, 2]
    second.end()
    mine = slots_of(tmp_path)
    assert [mine.acquire(), mine.acquire()] == [1, 1]
    assert hold().slot == 3


def test_the_kernel_frees_the_slot_of_a_killed_process(tmp_path: Path, hold: Hold) -> None:
    killed, lives = hold(), hold()
    killed.kill()
    assert slots_of(tmp_path).holders() == {1: lives.pid}
    assert hold().slot == 0


def test_a_process_that_takes_no_slot_uses_none(tmp_path: Path) -> None:
    slots_of(tmp_path)
    assert os.listdir(tmp_path) == []


def test_there_is_one_object_for_a_directory_however_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second one would not see the first one's locks."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    same = {slots_of(name) for name in ("real", "link", "./real/", tmp_path / "real", str(tmp_path / "link"))}
    assert len(same) == 1
    assert same.pop().directory == tmp_path / "real"
    assert slots_of(tmp_path) is not slots_of("real")


def test_threads_that_come_at_once_get_the_process_s_one_slot(tmp_path: Path) -> None:
    mine, found = slots_of(tmp_path), []
    barrier = threading.Barrier(8)

    def take() -> None:
        barrier.wait()
        found.append(mine.acquire())

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [0] * 8


def test_fault_21_four_hundred_killed_processes_leave_five_records_at_most(tmp_path: Path) -> None:
    """Four at a time, all taking a slot when the last ones may not be quite dead."""
    code = """
        for _ in range(100):
            pids = []
            for _ in range(4):
                pid = os.fork()
                if not pid:
                    slots.acquire()
                    os.kill(os.getpid(), signal.SIGKILL)
                pids.append(pid)
            for pid in pids:
                os.waitpid(pid, 0)
        print((path / "slots.lock").stat().st_size // 8, slots.holders())
    """
    (told,) = program(code, tmp_path)
    records, held = told.split(maxsplit=1)
    assert 1 <= int(records) <= 5
    assert held == "{}"


# Forks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fork", ["os.fork", "bare_fork"])
def test_a_fork_does_not_inherit_and_its_end_frees_only_its_own(fork: str, tmp_path: Path) -> None:
    """Without at-fork hooks too: three workers of uWSGI shared slot 0."""
    code = f"""
        print(slots.acquire(), in_child(slots.acquire, {fork}), in_child(slots.acquire, {fork}))
        print(slots.holders() == {{0: os.getpid()}}, in_child(slots.holders, {fork}))
        print(slots.acquire())
    """
    first, held, last = program(code, tmp_path)
    assert first == "0 1 1"
    assert held.startswith("True {0: ")
    assert last == "0"


@pytest.mark.parametrize("fork", ["os.fork", "bare_fork"])
def test_a_fork_of_a_fork_takes_its_own(fork: str, tmp_path: Path) -> None:
    code = f"""
        def child():
            return slots.acquire(), in_child(slots.acquire, {fork})
        def untouched():
            return in_child(slots.acquire, {fork})
        print(slots.acquire(), in_child(child, {fork}), in_child(untouched, {fork}))
    """
    assert program(code, tmp_path) == ["0 (1, '2') 1"]


@pytest.mark.parametrize("fork", ["os.fork", "bare_fork"])
def test_a_child_whose_parent_died_first_may_get_the_parent_s_slot(fork: str, tmp_path: Path) -> None:
    code = f"""
        reading, writing = os.pipe()
        parent = os.fork()
        if not parent:
            before = slots.acquire()
            middle, end = os.pipe()
            if not {fork}():
                os.close(end)
                os.read(middle, 1)  # nothing comes: the parent's end
                os.write(writing, f"{{before}} {{slots.acquire()}}".encode())
            os._exit(0)
        os.waitpid(parent, 0)
        os.close(writing)
        print(open(reading).read())
    """
    assert program(code, tmp_path) == ["0 0"]


def test_a_fork_with_the_id_of_a_dead_ancestor_begins_with_nothing(tmp_path: Path) -> None:
    """Where at-fork hooks run; the id is only pretended here."""
    code = """
        pid = os.getpid()
        def pretending():
            os.getpid = lambda: pid
            return slots.acquire()
        print(slots.acquire(), in_child(pretending))
    """
    assert program(code, tmp_path) == ["0 1"]


@pytest.mark.parametrize("fork", ["os.fork", "bare_fork"])
def test_a_fork_while_a_thread_is_in_the_middle_of_taking(fork: str, tmp_path: Path) -> None:
    """The lock that the thread holds is held for ever in the fork, by nobody."""
    code = f"""
        from web_prom.multiprocess.directory.lockfile import LockFile
        inside, go_on, original = threading.Event(), threading.Event(), LockFile.try_lock
        def slowly(self, *arguments, **more):
            inside.set()
            go_on.wait()
            return original(self, *arguments, **more)
        LockFile.try_lock = slowly
        found = []
        thread = threading.Thread(target=lambda: found.append(slots.acquire()))
        thread.start()
        inside.wait()
        def child():
            LockFile.try_lock = original
            return slots.acquire()
        first = in_child(child, {fork})
        go_on.set()
        thread.join()
        print(first, found)
    """
    environ = {"PYTHONWARNINGS": "ignore"}
    code = "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n" + textwrap.dedent(code)
    assert program(code, tmp_path, **environ) == ["0 [0]"]


# Other ways to begin and to go on ----------------------------------------------------------------------


def test_a_process_that_becomes_another_program_holds_nothing(tmp_path: Path) -> None:
    """The descriptor is closed, and with it goes the lock: the new program takes a slot as any other."""
    code = """
        if len(sys.argv) == 2:
            assert slots.acquire() == 0
            asks = "import sys; from web_prom.multiprocess.directory.slots import *\\n"
            asks += "slots = slots_of(sys.argv[1])\\n"
            asks += "print(slots.holders(), slots.acquire(), len(slots.holders()))"
            os.execv(sys.executable, [sys.executable, "-c", asks, sys.argv[1]])
    """
    assert program(code, tmp_path) == ["{} 0 1"]


def test_a_program_that_is_started_takes_its_own_and_its_end_changes_nothing(tmp_path: Path) -> None:
    code = """
        asks = "import sys; from web_prom.multiprocess.directory.slots import slots_of\\n"
        asks += "print(slots_of(sys.argv[1]).acquire())"
        ask = [sys.executable, "-c", asks, sys.argv[1]]
        print(slots.acquire(), *[int(subprocess.run(ask, stdout=-1).stdout) for _ in range(2)], flush=True)
        os.write(1, subprocess.run(ask, stdout=-1, close_fds=False).stdout)
    """
    assert program(code, tmp_path) == ["0 1 1", "1"]


MULTIPROCESSING = """
import multiprocessing, sys
from web_prom.multiprocess.directory.slots import slots_of

def child(path, queue):
    queue.put(slots_of(path).acquire())

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[2])
    first = slots_of(sys.argv[1]).acquire()
    queue = context.Queue()
    process = context.Process(target=child, args=(sys.argv[1], queue))
    process.start()
    second = queue.get()
    process.join()
    print(first, second, list(slots_of(sys.argv[1]).holders()))
"""


@pytest.mark.parametrize("manner", ["fork", "spawn", "forkserver"])
def test_multiprocessing(manner: str, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    script = tmp_path / "script.py"
    script.write_text(MULTIPROCESSING)
    told = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "shared"), manner],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert told.stdout.split(maxsplit=2) == ["0", "1", "[0]\n"]


def test_a_daemon_that_closed_all_descriptors(tmp_path: Path) -> None:
    """The number of the descriptor that was closed is another file's by then, which is left alone."""
    code = """
        assert slots.acquire() == 0
        def daemon():
            keep = os.dup(writing)
            os.closerange(3, keep)
            others = [os.open("/dev/null", os.O_RDWR) for _ in range(keep - 3)]
            found = slots.acquire(), sorted(slots.holders())
            for other in others:
                os.fstat(other)
            os.write(keep, str(found).encode())
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            daemon()
            os._exit(0)
        os.waitpid(pid, 0)
        os.close(writing)
        print(open(reading).read(), slots.holders() == {0: os.getpid()})
    """
    assert program(code, tmp_path) == ["(1, [0, 1]) True"]


def test_a_directory_that_was_removed_and_made_again(tmp_path: Path, hold: Hold) -> None:
    """The locks are on the file that the path leads to, not on one that it led to once."""
    import shutil

    path = tmp_path / "shared"
    path.mkdir()
    assert slots_of(path).acquire() == 0
    shutil.rmtree(path)
    path.mkdir()
    holder = hold(path)
    assert holder.slot == 0
    assert slots_of(path).holders() == {0: holder.pid}
    assert slots_of(path).acquire() == 1


def test_a_directory_that_is_replaced_while_a_slot_is_taken(
    tmp_path: Path, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = lockfile.LockFile.try_lock
    holders: list[Holder] = []

    def replaced(self: lockfile.LockFile, *arguments: lockfile.Span, shared: bool = False) -> bool:
        if not holders:
            (tmp_path / LOCK_NAME).unlink()
            holders.append(hold())
        return original(self, *arguments, shared=shared)

    monkeypatch.setattr(lockfile.LockFile, "try_lock", replaced)
    assert slots_of(tmp_path).acquire() == 1
    assert holders[0].slot == 0


# Values ----------------------------------------------------------------------------------------------


def test_fork_adds_to_the_counts_of_its_dead_parent(tmp_path: Path) -> None:
    """The fork acquires its parent's slot, and must not continue with the values that it had at the fork."""
    code = """
        from prometheus_client import CollectorRegistry, Counter
        from prometheus_client.multiprocess import MultiProcessCollector
        from web_prom import share_values
        reading, writing = os.pipe()
        parent = os.fork()
        if not parent:
            share_values()
            counter = Counter("things", "", registry=None)
            counter.inc(5)
            middle, end = os.pipe()
            if not os.fork():
                os.close(end)
                os.read(middle, 1)  # nothing comes: the parent's end
                counter.inc()
                os._exit(0)
            counter.inc(100)
            os._exit(0)
        os.waitpid(parent, 0)
        os.close(writing)
        os.read(reading, 1)  # nothing comes: the child's end
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        print(registry.get_sample_value("things_total"), sorted(os.listdir(path)))
    """
    printed = program(code, tmp_path, PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    assert printed == ["106.0 ['counter_s0.db', 'slots.lock']"]


# Asking who holds what -------------------------------------------------------------------------------


def test_held_tells_the_living_with_their_ids_and_one_s_own(tmp_path: Path, hold: Hold) -> None:
    holders = [hold() for _ in range(5)]
    for dead in (holders[1], holders[3]):
        dead.kill()
    expected = {0: holders[0].pid, 2: holders[2].pid, 4: holders[4].pid}
    asks = "print(list(slots.holders().items()))"
    assert program(asks, tmp_path) == [str(list(expected.items()))]
    mine = slots_of(tmp_path)
    assert mine.holders() == expected
    mine.acquire()
    assert list(mine.holders().items()) == sorted({**expected, 1: os.getpid()}.items())


def test_held_takes_and_makes_nothing(tmp_path: Path) -> None:
    assert slots_of(tmp_path).holders() == {}
    assert slots_of(tmp_path / "missing").holders() == {}
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_held_needs_no_more_than_to_read(tmp_path: Path, hold: Hold) -> None:
    """As an exporter that runs as another user, or on a volume that is mounted read-only."""
    holder = hold()
    (tmp_path / LOCK_NAME).chmod(0o444)
    tmp_path.chmod(0o555)
    code = """
        os.chdir(path)  # the way there may be root's alone
        slots = slots_of(".")
        slots.directory, slots._file.path = Path("."), Path("slots.lock")
        os.setuid(12345)
        print(slots.holders())
        try:
            slots.acquire()
        except OSError as error:
            print(type(error).__name__, error)
        print(slots.holders())
    """
    first, error, last = program(code, tmp_path)
    assert first == last == str({0: holder.pid})
    assert error.startswith("DirectoryError PROMETHEUS_MULTIPROC_DIR is")
    assert "user 12345" in error
    assert "name a directory" in error


def test_held_tells_all_of_many_in_whatever_order_they_were_taken(tmp_path: Path) -> None:
    """The kernel tells one lock of those in the way: the oldest, not the lowest."""
    code = """
        pids = {}
        until, end = os.pipe()
        def hold():
            reading, writing = os.pipe()
            pid = os.fork()
            if not pid:
                os.close(end)
                os.write(writing, bytes([slots.acquire()]))
                os.read(until, 1)
                os._exit(0)
            pids[os.read(reading, 1)[0]] = pid
        for _ in range(40):
            hold()
        for slot in (0, 7, 8, 9, 20, 39):
            os.kill(pids[slot], signal.SIGKILL)
            os.waitpid(pids.pop(slot), 0)
        hold()
        hold()
        print(list(slots.holders().items()) == sorted(pids.items()), len(pids), {0, 7} < set(pids))
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    """
    assert program(code, tmp_path) == ["True 36 True"]


def test_find_tells_the_slots_that_a_process_took_last(tmp_path: Path, hold: Hold) -> None:
    assert slots_of(tmp_path).find_by_pid(1) == []
    first, second = hold(), hold()
    mine = slots_of(tmp_path)
    assert (mine.find_by_pid(first.pid), mine.find_by_pid(second.pid)) == ([0], [1])
    first.kill()
    assert mine.find_by_pid(first.pid) == [0]
    third = hold()
    assert (mine.find_by_pid(first.pid), mine.find_by_pid(third.pid)) == ([], [0])


# Passing over ----------------------------------------------------------------------------------------


def test_a_slot_that_is_passed_over_is_free_for_others(tmp_path: Path, hold: Hold) -> None:
    mine, other = slots_of(tmp_path), None
    assert mine.acquire() == 0
    other = hold()
    assert mine.skip(0) == 2
    assert mine.acquire() == 2
    assert mine.skip(0) == 2, "a second thread had the same trouble"
    assert mine.find_by_pid(os.getpid()) == [2]
    assert mine.holders() == {1: other.pid, 2: os.getpid()}
    assert hold().slot == 0


# Keeping slots free ------------------------------------------------------------------------------------


def test_only_a_slot_that_nobody_holds_is_claimed(tmp_path: Path, hold: Hold) -> None:
    holder, dead = hold(), hold()
    dead.kill()
    mine = slots_of(tmp_path)
    with mine.reserve_free(holder.slot) as free:
        assert not free
    with mine.reserve_free(dead.slot) as free:
        assert free
    assert mine.acquire() == 1
    with mine.reserve_free(1) as free:
        assert not free, "it is one's own"
    assert hold().slot == 2, "and not lost for having been asked for"


def test_what_was_never_there_cannot_be_claimed(tmp_path: Path) -> None:
    with slots_of(tmp_path).reserve_free(0) as free:
        assert not free
    assert os.listdir(tmp_path) == []


IMPATIENT = """
    import web_prom.multiprocess.directory.slots
    web_prom.multiprocess.directory.slots._TIMEOUT_SECONDS = 0
    print(slots.holders())
    try:
        slots.acquire()
    except OSError as error:
        print(error)
"""
WAITING = """
    print("begun", flush=True)
    print(slots.acquire())
"""


def waiting(path: Path) -> subprocess.Popen[str]:
    """Start a process that takes a slot."""
    code = HELPERS + textwrap.dedent(WAITING)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("manner", ["reserve_free", "exclusive"])
def test_whoever_comes_while_a_slot_is_kept_free_waits(manner: str, tmp_path: Path) -> None:
    """It is not held meanwhile, and in the end the lowest is the lowest."""
    Holder(tmp_path).end()
    mine = slots_of(tmp_path)
    with mine.reserve_free(0) if manner == "reserve_free" else mine.exclusive() as free:
        assert free
        held, error = program(IMPATIENT, tmp_path)
        assert held == "{}"
        assert f"process {os.getpid()} still reserves free slots" in error
        comes = waiting(tmp_path)
        assert comes.stdout
        assert comes.stdout.readline() == "begun\n"
    assert comes.communicate()[0] == "0\n"


def test_alone_is_who_finds_no_other_holder(tmp_path: Path, hold: Hold) -> None:
    mine, other = slots_of(tmp_path), hold()
    with mine.exclusive() as free:
        assert not free
    assert hold().slot == 1, "nothing is left locked"
    assert mine.acquire() == 2
    with mine.exclusive() as free:
        assert not free
    assert (other.pid, os.getpid()) == (mine.holders()[0], mine.holders()[2])


@pytest.mark.parametrize("own", [0, 1, 2])
def test_alone_keeps_one_s_own_slot(own: int, tmp_path: Path, hold: Hold) -> None:
    holders = [hold() for _ in range(own)]
    mine = slots_of(tmp_path)
    assert mine.acquire() == own
    for holder in holders:
        holder.end()
    with mine.exclusive() as free:
        assert free
    assert [hold().slot for _ in range(3)] == sorted({0, 1, 2, 3} - {own})


@pytest.mark.parametrize("manner", ["reserve_free", "exclusive"])
def test_what_is_kept_free_is_given_back_when_cleaning_fails(manner: str, tmp_path: Path) -> None:
    mine = slots_of(tmp_path)
    Holder(tmp_path).end()
    with (
        pytest.raises(ZeroDivisionError),
        mine.reserve_free(0) if manner == "reserve_free" else mine.exclusive(),
    ):
        raise ZeroDivisionError
    assert mine.acquire() == 0


def test_a_signal_s_handler_neither_waits_nor_takes_away_what_is_being_taken(tmp_path: Path) -> None:
    """It comes at the worst moment: when the slot is locked and not yet written down."""
    code = """
        from web_prom.multiprocess.directory.lockfile import LockFile
        def handler(*_):
            with slots.reserve_free(0) as free:
                print(slots.find_by_pid(os.getpid()), free)
        signal.signal(signal.SIGUSR1, handler)
        original = LockFile.write_record
        def interrupted(self, *arguments):
            signal.raise_signal(signal.SIGUSR1)
            original(self, *arguments)
        LockFile.write_record = interrupted
        print(slots.acquire(), in_child(slots.acquire))
    """
    assert program(code, tmp_path)[-1] == "0 1"
    assert program(code, tmp_path)[0] == "[] False"


# Errors ----------------------------------------------------------------------------------------------


def test_a_missing_directory_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DirectoryError, match=r"missing.*name a directory on a local disk"):
        slots_of(tmp_path / "missing").acquire()


def test_a_second_interpreter_of_a_process_is_refused_and_takes_no_lock_away(
    tmp_path: Path, hold: Hold
) -> None:
    """POSIX locks of one process do not exclude each other, and go with any descriptor of the file."""
    told = program(
        """
        slots.acquire()
        for ask in (second().acquire, second().holders):
            try:
                print("got", ask())
            except OSError as error:
                print(type(error).__name__, error)
        print(in_child(second().acquire))
        from web_prom.multiprocess.directory.lockfile import LockFile, Span
        print(in_child(lambda: LockFile.find_lock(slots._file, Span(0, 1)).pid == os.getppid()))
        """,
        tmp_path,
    )
    for line in told[:2]:
        assert line.startswith(f"DirectoryError PROMETHEUS_MULTIPROC_DIR is {str(tmp_path)!r}, which another")
        assert "application-group=%{GLOBAL}" in line
    assert told[2:] == ["1", "True"], "a fork of the second may, and the first has its slot still"


def test_the_first_interpreter_of_a_fork_may_be_its_parent_s_second(tmp_path: Path) -> None:
    """Both come from the parent; whichever is second to take a slot is refused."""
    code = """
        slots.acquire()
        other = second()

        def both():
            taken = other.acquire()
            try:
                return taken, slots.acquire()
            except OSError as error:
                return taken, type(error).__name__

        print(in_child(both))
        """
    assert program(code, tmp_path) == ["(1, 'DirectoryError')"]


def test_a_second_interpreter_has_a_directory_of_its_own(tmp_path: Path) -> None:
    """One at a time in each directory is all that is asked."""
    (tmp_path / "other").mkdir()
    code = "slots.acquire(); path = path / 'other'; print(second().acquire())"
    assert program(code, tmp_path) == ["0"]


def test_a_link_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    """Whoever may write to the directory could have another user's file written to."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / LOCK_NAME).symlink_to("../victim")
    (tmp_path / "victim").touch()
    with pytest.raises(DirectoryError):
        slots_of(tmp_path / "shared").acquire()
    assert (tmp_path / "victim").read_bytes() == b""


def test_a_system_with_locks_that_are_not_known_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "plan9")
    with pytest.raises(DirectoryError, match="on plan9"):
        Slots(tmp_path).acquire()


def test_a_full_disk_does_not_keep_a_process_from_its_slot(
    tmp_path: Path, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lockfile.LockFile, "write_record", full)
    assert slots_of(tmp_path).acquire() == 0
    assert hold().slot == 1


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(0o700, 0o600), (0o770, 0o660), (0o777, 0o666), (0o755, 0o600), (0o775, 0o660), (0o750, 0o600)],
)
def test_fault_73_whoever_may_write_to_the_directory_may_take_a_slot_and_nobody_else_can_lock(
    mode: int, expected: int, tmp_path: Path
) -> None:
    """A read lock needs no more than to read, and keeps writers away."""
    tmp_path.chmod(mode)
    before = os.umask(0o077)
    try:
        slots_of(tmp_path).acquire()
    finally:
        os.umask(before)
    assert (tmp_path / LOCK_NAME).stat().st_mode & 0o777 == expected


def test_taking_waits_no_longer_than_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing sleeps where nobody cleans up."""
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("slept"))
    assert slots_of(tmp_path).acquire() == 0
    assert slots._TIMEOUT_SECONDS == 1


def test_a_slot_that_becomes_free_behind_the_search_is_taken(
    tmp_path: Path, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers that come and go at once would otherwise push each other to ever higher numbers."""
    first = hold()
    hold()
    look = lockfile.LockFile.find_lock

    def dies_meanwhile(file: lockfile.LockFile, span: lockfile.Span) -> lockfile.Lock | None:
        if span.first == 1:
            first.kill()
        return look(file, span)

    mine = slots_of(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(lockfile.LockFile, "find_lock", dies_meanwhile)
        assert mine.acquire() == 0
    assert sorted(mine.holders()) == [0, 1], "and the other is given back"
