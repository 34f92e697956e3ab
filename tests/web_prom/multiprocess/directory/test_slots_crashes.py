"""A kill at each line of code that acquires a slot or cleans the directory."""

from __future__ import annotations

import textwrap

import pytest

from tests.web_prom.multiprocess.directory.holders import HELPERS
from tests.web_prom.multiprocess.forking import forking_program, memory_directory

pytestmark = [pytest.mark.slow, pytest.mark.once]

KILLED = """
    import shutil
    from web_prom.multiprocess.directory import lockfile, network_filesystem, private_directory
    from web_prom.multiprocess.directory import self_test as selftest
    from web_prom.multiprocess.directory import shared_directory, slot_file
    from web_prom.multiprocess.directory import slots as slots_module
    from web_prom.multiprocess.directory.shared_directory import SharedDirectory
    from web_prom.multiprocess.directory.slots import Slots

    MODULES = (
        shared_directory, network_filesystem, lockfile, private_directory, slot_file, slots_module
    )
    FILES = {module.__file__ for module in MODULES}

    def killed_at(step, function):
        \"\"\"Call a function in a fork that kills itself before a line; return whether it did.\"\"\"
        pid = quick_fork()
        if not pid:
            left = [step]
            def trace(frame, event, argument):
                if frame.f_code.co_filename not in FILES:
                    return None
                if event == "line":
                    left[0] -= 1
                    if left[0] < 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                return trace
            sys.settrace(trace)
            try:
                function()
            finally:
                os._exit(0)
        return os.waitpid(pid, 0)[1] == signal.SIGKILL

    def each_step(function, prepare, check):
        \"\"\"Check what is left after a kill at each of a function's lines.\"\"\"
        for step in range(10_000):
            prepare()
            killed = killed_at(step, function)
            check()
            if not killed:
                return step

    # No process has this id: Linux has at most four million.
    DEAD = 4_194_400

    def release(slots, slot):
        \"\"\"Release the slot as the end of a process does: the record stays.\"\"\"
        slots._file.write_record(slot, DEAD)
        slots._file.close()

    def acquired():
        \"\"\"Return the slot that the next process acquires. This process acts as that process.\"\"\"
        slots.close()
        new = Slots(path)
        slot = new.acquire()
        release(new, slot)
        return slot

    def empty(*leave):
        for name in set(os.listdir(path)) - set(leave):
            (path / name).unlink()

    def hold():
        \"\"\"Start a process that holds a slot until it is killed or this process ends.\"\"\"
        reading, writing = os.pipe()
        until, end = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(end)
            os.write(writing, bytes([slots.acquire()]))
            os.read(until, 1)
            os._exit(0)
        assert os.read(reading, 1)
        os.close(reading)
        os.close(writing)
        return pid

    def end(pid):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
"""


def run(*parts: str) -> int:
    """Run code that prints the number of kills, and return the number."""
    with memory_directory() as path:
        return int(forking_program(HELPERS + "".join(map(textwrap.dedent, (KILLED, *parts))), str(path)))


@pytest.mark.parametrize("before", ["nothing", "a dead one's record", "a living holder"])
def test_kill_at_each_line_of_acquire(before: str) -> None:
    """The next process acquires the same slot, and living holders keep theirs."""
    code = f"""
        before = {before!r}
        living = [hold()] if before == "a living holder" else []
        if before == "a dead one's record":
            end(hold())

        def prepare():
            if before == "nothing":
                empty()

        def check():
            assert slots.holders() == dict(enumerate(living)), slots.holders()
            assert acquired() == len(living)
            with slots.reserve_free(len(living)) as free:
                assert free

        print(each_step(slots.acquire, prepare, check))
        for pid in living:
            end(pid)
    """
    assert run(code) > 30


def test_kill_at_each_line_of_skip() -> None:
    code = """
        def check():
            assert slots.holders() == {}
            assert acquired() == 0

        print(each_step(lambda: slots.skip(slots.acquire()), lambda: None, check))
    """
    assert run(code) > 60


FILLED = """
    OURS = {"counter_s0.db", "gauge_livesum_s1.db", f"histogram_{os.getpid()}.db", "counter_s0.db.damaged"}
    def fill():
        for name in (*OURS, "notes.txt"):
            (path / name).touch()
    def clean():
        SharedDirectory(path)
    def found():
        return set(os.listdir(path)) - {"slots.lock"}
    def values():
        # Without the files of a self-test that was killed: the next cleaning removes them.
        return {name for name in found() if not name.startswith(selftest.SELFTEST_PREFIX)}
"""


@pytest.mark.parametrize("first", [True, False], ids=["without slots", "with slots"])
def test_kill_at_each_line_of_cleaning(first: bool) -> None:
    """The next server completes the cleaning, and files that are not web-prom's stay."""
    code = f"""
        def prepare():
            empty(*[] if {first} else ["slots.lock"])
            fill()

        def check():
            assert {{"notes.txt"}} <= values() <= {{*OURS, "notes.txt"}}, found()
            SharedDirectory(path).release()
            assert found() == {{"notes.txt"}}, found()
            assert acquired() == 0

        in_child(slots.acquire)
        print(each_step(clean, prepare, check))
    """
    assert run(FILLED, code) > 80


@pytest.mark.parametrize("who", ["a holder", "a server"])
def test_kill_at_each_line_of_joining_removes_nothing_of_the_living(who: str) -> None:
    code = f"""
        if {who!r} == "a holder":
            living = hold()
        else:
            shared = SharedDirectory(path)
        def check():
            assert values() == {{*OURS, "notes.txt"}}, found()
            if {who!r} == "a holder":
                assert slots.holders() == {{0: living}}
        fill()
        print(each_step(clean, lambda: None, check))
        if {who!r} == "a holder":
            end(living)
    """
    assert run(FILLED, code) > 30


def test_kill_at_each_line_of_the_life_of_a_private_directory() -> None:
    """What is left is incomplete, or the next server removes it."""
    code = """
        import tempfile
        tempfile.tempdir = str(path)

        def life():
            shared = SharedDirectory.create_private()
            slots = slots_of(shared.path)
            slot = slots.acquire()
            (shared.path / "counter_s0.db").touch()
            shared.release()
            return slots, slot

        def check():
            release(*life())
            slots_module._slots.clear()
            for name in os.listdir(path):
                assert name.startswith(".web_prom-private-"), name
                left = os.listdir(path / name)
                assert all(each.startswith(selftest.SELFTEST_PREFIX) for each in left), left
                shutil.rmtree(path / name)

        print(each_step(life, lambda: None, check))
        assert os.listdir(path) == []
    """
    assert run(code) > 150
