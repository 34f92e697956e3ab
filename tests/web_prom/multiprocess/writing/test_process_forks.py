"""The storage of forked processes: a slot of its own, the parent's slot after its end, locks."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.web_prom.multiprocess.forking import forking_program, memory_directory
from tests.web_prom.multiprocess.writing.storage import PRELUDE, run

pytestmark = pytest.mark.slow  # the tests start processes

# How a fork is noticed: by a page that the kernel wipes, or where it cannot, by the process id.
KERNELS = pytest.mark.parametrize("kernel", ["", "old"])
FORKS = pytest.mark.parametrize("fork", ["os.fork", "bare_fork"])


@KERNELS
@FORKS
def test_fork_writes_to_its_own_slot(tmp_path: Path, kernel: str, fork: str) -> None:
    """And a fork of the fork, with at-fork hooks and without."""
    printed = run(
        f"""
        counter = Counter("c", "Help.")
        counter.inc(100)
        def grandchild():
            assert counter._value.get() == 0
            counter.inc(1)
            assert counter._value.get() == 1
        def child():
            counter.inc(10)
            in_child(grandchild, {fork})
            counter.inc(10)
            assert counter._value.get() == 20
        in_child(child, {fork})
        counter.inc(100)
        assert counter._value.get() == 200
        print(total(), *slots())
        """,
        tmp_path,
        OLD_KERNEL=kernel,
        FORK=fork,
    )
    assert printed == ["221.0", "s0", "s1", "s2"]


@KERNELS
@FORKS
def test_fork_that_writes_nothing_acquires_no_slot(tmp_path: Path, kernel: str, fork: str) -> None:
    printed = run(
        f"""
        counter = Counter("c", "Help.")
        def child():
            print(*sorted(slots_of(directory).holders()), flush=True)
        in_child(child, {fork})
        in_child(lambda: in_child(counter.inc, {fork}), {fork})
        print(*slots())
        """,
        tmp_path,
        OLD_KERNEL=kernel,
        FORK=fork,
    )
    assert printed == ["0", "s0", "s1"]


@KERNELS
@FORKS
def test_fork_that_acquires_the_slot_of_its_dead_parent_continues_its_values(
    tmp_path: Path, kernel: str, fork: str
) -> None:
    """105 became 6: the child had the values that the parent had at the fork, and not those at its death."""
    printed = run(
        f"""
        import time
        counter = Counter("c", "Help.")
        def parent():
            counter.inc(5)
            reading, writing = os.pipe()
            def child():
                os.close(writing)
                os.read(reading, 1)  # until the parent is dead
                counter.inc(1)
                print(counter._value.get(), *slots_of(directory).holders(), flush=True)
            in_child(child, {fork}, wait=False)
            os.close(reading)
            counter.inc(100)
            os.kill(os.getpid(), signal.SIGKILL)
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            counter = Counter("d", "Help.")
            parent()
        os.close(writing)
        os.waitpid(pid, 0)
        os.read(reading, 1)  # until the child is dead too
        print(total("d_total"))
        """,
        tmp_path,
        OLD_KERNEL=kernel,
        FORK=fork,
    )
    assert printed == ["106.0", "0", "1", "106.0"]


@KERNELS
@FORKS
def test_fork_does_not_wait_for_the_lock_of_its_parent(tmp_path: Path, kernel: str, fork: str) -> None:
    """That thread is not in the child, and would never let it go."""
    printed = run(
        f"""
        counter = Counter("c", "Help.")
        counter.inc(100)
        taken, end = threading.Event(), threading.Event()
        def hold():
            with current_storage.process_storage().lock:
                taken.set()
                end.wait()
        thread = threading.Thread(target=hold)
        thread.start()
        taken.wait()
        def child():
            counter.inc(1)
            print(counter._value.get(), flush=True)
        in_child(child, {fork})
        end.set()
        thread.join()
        """,
        tmp_path,
        OLD_KERNEL=kernel,
        FORK=fork,
    )
    assert printed == ["1.0"]


def test_daemon_keeps_descriptors_that_reuse_numbers_of_value_files(tmp_path: Path) -> None:
    """It closes all after the fork; the parent's mappings still have the numbers of theirs."""
    printed = run(
        """
        import gc
        counter = Counter("c", "Help.")
        Gauge("g", "Help.").set(1)
        counter.inc(100)
        def daemon():
            os.closerange(3, 100)
            opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
            counter.inc(1)
            gc.collect()
            for number in opened:
                assert os.readlink(f"/proc/self/fd/{number}") == "/dev/null"
        in_child(daemon)
        print(total(), *slots())
        """,
        tmp_path,
    )
    assert printed == ["101.0", "s0", "s1"]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing_are_counted(tmp_path: Path, method: str) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "work_of_child.py").write_text(
        textwrap.dedent(
            """
            from prometheus_client import Counter
            from web_prom.multiprocess.writing.activation import share_values
            share_values()
            counter = Counter("c", "Help.")
            def work(_):
                counter.inc(10)
            """
        )
    )
    printed = run(
        """
        sys.path.insert(0, sys.argv[2])
        if __name__ == "__main__":
            from work_of_child import counter, work
            counter.inc(100)
            with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
                pool.map(work, range(4), chunksize=1)
                pool.close()
                pool.join()
            print(total())
        """,
        tmp_path / "shared",
        method,
        str(tmp_path),
        PYTHONPATH=f"{tmp_path}:{Path.cwd()}",
    )
    assert printed == ["140.0"]


def test_started_programs_and_replaced_programs_are_counted(tmp_path: Path) -> None:
    """After exec the slot is free, as nothing of it is inherited, and the same process takes it again."""
    code = """
        counter = Counter("c", "Help.")
        counter.inc(int(sys.argv[1]))
        print(*slots_of(directory).holders(), total(), flush=True)
        if sys.argv[1] == "100":
            subprocess.run([*arguments, "10"], check=True)
            os.execv(sys.executable, [*arguments, "1"])
    """
    code = textwrap.dedent(code).replace("arguments", "sys.orig_argv[:-1]")
    assert run(code, tmp_path, "100") == ["0", "100.0", "0", "1", "110.0", "0", "111.0"]


@pytest.mark.slow
def test_fault_21_killed_processes_leave_a_bounded_number_of_files_and_lose_no_value() -> None:
    """400 of them, four at a time, each killed after its last write; one gauge of theirs must not stay."""
    code = """
        counter, duration = Counter("c", "Help."), Histogram("h", "Help.")
        gauge = Gauge("g", "Help.", multiprocess_mode="livesum")
        def work(times):
            gauge.inc()
            for _ in range(times):
                counter.inc()
                duration.observe(0.5)
            os.kill(os.getpid(), signal.SIGKILL)
        living, expected = set(), 0
        for number in range(400):
            expected += number % 7
            pid = os.fork()
            if not pid:
                work(number % 7)
            living.add(pid)
            if len(living) == 4:
                living.remove(os.wait()[0])
        while living:
            living.remove(os.wait()[0])
        assert total() == total("h_count") == expected == total("h_sum") * 2
        print(total("g"), len(list(Path(directory).glob("*.db"))))
    """
    with memory_directory() as path:
        printed = forking_program(PRELUDE + textwrap.dedent(code), PROMETHEUS_MULTIPROC_DIR=str(path))
    gauge, files = map(float, printed.split())
    assert gauge <= 4, "files of slots that no process holds, which the reader ignores"
    assert files <= 5 * 3
