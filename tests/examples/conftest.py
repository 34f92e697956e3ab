"""Fixtures that start the demo and import its modules."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from tests.examples.demo_process import EXAMPLES, Demo


@contextmanager
def running_demos(folder: Path) -> Iterator[Callable[..., Demo]]:
    """Give a function that starts a demo in a folder; its processes are killed at the end of the block."""
    started: list[Demo] = []

    def run(change: str = "", *arguments: str, **environ: str) -> Demo:
        started.append(Demo(folder, change, *arguments, **environ))
        return started[-1]

    try:
        yield run
    finally:
        for demo in started:
            demo.kill()


@pytest.fixture
def run_demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Return a function that starts a demo; its processes are killed at the end of the test."""
    with running_demos(tmp_path) as run:
        yield run


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
