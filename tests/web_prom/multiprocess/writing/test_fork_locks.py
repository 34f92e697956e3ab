"""A child that is forked while another thread of its parent holds a lock of prometheus_client."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.web_prom.support import python

pytestmark = pytest.mark.slow  # the tests start processes

PRELUDE = """
    import os, signal, sys, threading, time, warnings
    warnings.simplefilter("ignore")  # Python 3.12 warns of such forks
    from prometheus_client import CollectorRegistry, Counter, Enum, Histogram, REGISTRY, generate_latest
    from web_prom import share_values
    registry = CollectorRegistry()
    jobs = Counter("jobs", "Help.", ["kind"])
    jobs.labels("known").inc()
    seconds = Histogram("seconds", "Help.", registry=registry)
    state = Enum("state", "Help.", ["x"], states=["a", "b"], registry=registry)
    state.labels("1").state("a")
    share_values(registry)

    def hold(lock):
        held, end = threading.Event(), threading.Event()
        def run():
            with lock:
                held.set()
                end.wait()
        thread = threading.Thread(target=run)
        thread.start()
        held.wait()
        return end, thread

    def in_a_child(use):
        pid = os.fork()
        if not pid:
            signal.alarm(10)
            use()
            os._exit(0)
        return os.waitpid(pid, 0)[1]
"""

USES = {
    "labels": ("jobs._lock", "lambda: jobs.labels('new').inc()"),
    "registering": ("REGISTRY._lock", "lambda: Counter('more', 'Help.')"),
    "scraping": ("registry._lock", "lambda: generate_latest(registry)"),
    "observing": ("seconds._sum._lock", "lambda: seconds.observe(1)"),
    "counting": ("jobs.labels('known')._value._lock", "lambda: jobs.labels('known').inc()"),
    "a state": ("state.labels('1')._lock", "lambda: state.labels('1').state('b')"),
}


@pytest.mark.parametrize(("lock", "use"), USES.values(), ids=list(USES))
@pytest.mark.parametrize("is_shared", [False, True])
def test_fault_78_child_does_not_wait_for_a_lock_of_its_parent(
    lock: str, use: str, is_shared: bool, tmp_path: Path
) -> None:
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)} if is_shared else {}
    if is_shared and lock.endswith(("_value._lock", "_sum._lock")):
        lock = "jobs._lock"  # shared values have no lock of their own
    code = f"""
    end, thread = hold({lock})
    print(in_a_child({use}))
    end.set()
    thread.join()
    """
    assert python(PRELUDE + code, **environ) == "0\n"


def test_fault_78_forks_while_a_thread_calls_labels_do_not_wait(tmp_path: Path) -> None:
    code = """
    ended = threading.Event()
    def label():
        number = 0
        while not ended.is_set():
            number += 1
            jobs.labels(str(number % 50))
            if number % 50 == 0:
                jobs.clear()
    thread = threading.Thread(target=label)
    thread.start()
    print([in_a_child(lambda: jobs.labels("x").inc()) for _ in range(30)] == [0] * 30)
    ended.set()
    thread.join()
    """
    assert python(PRELUDE + code, PROMETHEUS_MULTIPROC_DIR=str(tmp_path)) == "True\n"
