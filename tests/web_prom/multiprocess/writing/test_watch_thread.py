"""The thread that looks whether the files of its process are there: where it runs, and where it must not."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest

from tests.web_prom.support import ROOT
from web_prom.multiprocess.writing import watch_thread
from web_prom.multiprocess.writing.watch_thread import WatchThread

FORKS = """
import os, sys
from prometheus_client import Counter
from web_prom import share_values

def threads():
    return len(os.listdir("/proc/self/task"))

share_values()
before = threads()
counter = Counter("jobs", "Help.")
counter.inc()
print(threads() - before)
for _ in range(10):
    pid = os.fork()
    if not pid:
        alone = threads()
        counter.inc()  # which takes a slot
        os._exit(0 if (alone, threads()) == (1, 2) else 1)
    assert os.waitpid(pid, 0)[1] == 0
print(threads() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="Linux tells the threads of a process")
def test_fault_42_watch_thread_is_stopped_before_a_fork(tmp_path: Path) -> None:
    """Python warns of it, and what the thread has locked would stay locked."""
    printed = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORKS],
        cwd=ROOT,
        env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert printed.stdout.split() == ["1", "1"]
    assert not printed.stderr


def test_watch_thread_calls_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error does not end it."""
    monkeypatch.setattr(watch_thread, "SECONDS", 0.001)
    calls: list[int] = []
    often = threading.Event()

    def look() -> None:
        calls.append(threading.get_ident())
        if len(calls) > 3:
            often.set()
        raise ZeroDivisionError

    made = WatchThread(look)
    made.stop()
    made.start()
    made.start()
    assert often.wait(60)
    made.stop()
    assert made not in watch_thread._running
    assert len(set(calls)) == 1, "one thread"
    assert calls[0] != threading.get_ident()
    count = len(calls)
    time.sleep(0.02)
    assert len(calls) == count


def test_watch_thread_continues_after_two_forks_at_once() -> None:
    """Another thread may fork while this one waits for the end of the watch."""
    made = WatchThread(lambda: None)
    made.start()
    for _ in range(2):
        watch_thread._pause()
    assert made not in watch_thread._running
    for _ in range(2):
        watch_thread._resume()
    assert made in watch_thread._running
    made.stop()


def test_watch_thread_can_start_in_a_child_after_a_restart_before_the_fork() -> None:
    """By the end of another thread's fork."""
    made = WatchThread(lambda: None)
    made.start()
    stopping = made._stopping
    watch_thread._forget()
    made.start()
    assert made in watch_thread._running
    made.stop()
    assert stopping is not None
    stopping.release()


@pytest.mark.parametrize(("worker", "expected"), [(0, False), (2, True)])
def test_watch_thread_does_not_run_in_the_master_of_uwsgi(
    worker: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    uwsgi = types.ModuleType("uwsgi")
    uwsgi.worker_id = lambda: worker  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
    made = WatchThread(lambda: None)
    made.start()
    assert (made in watch_thread._running) is expected
    made.stop()


def test_watch_thread_does_nothing_if_no_thread_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", refuse)
    made = WatchThread(lambda: None)
    made.start()
    assert made not in watch_thread._running
    made.stop()
