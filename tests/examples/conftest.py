"""Fixtures that start the demo and import its modules."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.examples.demo_process import EXAMPLES, Demo


@pytest.fixture
def run_demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Return a function that starts a demo; its processes are killed at the end of the test."""
    started: list[Demo] = []

    def run(change: str = "", *arguments: str, **environ: str) -> Demo:
        started.append(Demo(tmp_path, change, *arguments, **environ))
        return started[-1]

    yield run
    for demo in started:
        for pid in demo.descendants():
            os.kill(pid, signal.SIGKILL)
        demo.process.kill()
        demo.process.wait()
        if demo.process.stdout is not None:
            demo.process.stdout.close()


@pytest.fixture(scope="module")
def import_example() -> Iterator[Callable[[str], ModuleType]]:
    """Return a function that imports a module of the examples; all of them are forgotten after the tests."""
    before = set(sys.modules)
    sys.path.insert(0, str(EXAMPLES))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(EXAMPLES))
        for name in set(sys.modules) - before:
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(EXAMPLES)):
                del sys.modules[name]
