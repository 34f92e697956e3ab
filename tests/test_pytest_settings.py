"""The settings of pytest, and how the tests are shared out to workers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.scheduling import Scheduling

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_pytest_does_not_load_rerunfailures() -> None:
    """The socket of this plugin would be in the scrapes of the main process. In CI the Makefile loads it."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--version", "--version"],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    plugins = set(re.findall(r"^  (.+)-[\d.]+ at ", done.stdout, re.MULTILINE))
    assert "pytest-xdist" in plugins
    assert "pytest-rerunfailures" not in plugins


@pytest.mark.slow
def test_pytest_imports_no_library_that_the_tests_do_not_use() -> None:
    """Tests could import them: no import is prevented any more."""
    code = """
import sys, pytest
class Names:
    def pytest_sessionstart(self):
        print([name for name in ("faker", "polyfactory", "pytest_randomly") if name in sys.modules])
pytest.main(["-q", "-s", "--collect-only", "--noconftest", "tests/unused_libraries.py"], [Names()])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "['pytest_randomly']"


class Worker:
    """Takes the place of a worker of pytest-xdist, and keeps the indexes of the tests that it is sent."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.shutting_down = False
        self.sent: list[int] = []

    def send_runtest_some(self, indexes: list[int]) -> None:
        self.sent += indexes

    def shutdown(self) -> None:
        self.shutting_down = True


TESTS = [f"test[{number}]" for number in range(40)] + ["test[x]@server", "test[y]@server"]


def started(*workers: Worker) -> Any:
    """Return the scheduling of the tests, when all workers have collected them."""
    options = {"tx": ["popen"] * len(workers), "loadscopereorder": True}
    config: Any = SimpleNamespace(option=SimpleNamespace(**options), getvalue=options.get)
    scheduling = Scheduling(config)
    for worker in workers:
        scheduling.add_node(worker)
        scheduling.add_node_collection(worker, TESTS)
    scheduling.schedule()
    return scheduling


def test_scheduling_forgets_completed_tests() -> None:
    worker = Worker("gw0")
    scheduling = started(worker)
    for position in range(len(TESTS)):
        scheduling.mark_test_complete(worker, worker.sent[position])
        assert len(scheduling.assigned_work[worker]) <= 4
    assert worker.sent == [40, 41, *range(40)]
    assert worker.shutting_down
    assert not scheduling.has_pending
    assert scheduling.remove_node(worker) is None


def test_scheduling_gives_the_tests_of_a_crashed_worker_to_another() -> None:
    crashed, other = Worker("gw0"), Worker("gw1")
    scheduling = started(crashed, other)
    for index in crashed.sent[:3]:
        scheduling.mark_test_complete(crashed, index)
    expected = crashed.sent[3:]
    assert scheduling.remove_node(crashed) == TESTS[expected[0]]
    for position in range(len(TESTS) - 3):
        scheduling.mark_test_complete(other, other.sent[position])
    assert sorted(crashed.sent[:3] + other.sent) == list(range(len(TESTS)))
