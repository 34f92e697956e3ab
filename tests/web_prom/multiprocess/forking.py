"""Programs that fork for each step of a test, and directories in memory for them."""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.web_prom.support import fresh_python

_MEMORY = Path("/dev/shm")

# Only for a process without other threads. A collection in a fork would copy the memory of all objects.
_FORK = """
import ctypes, gc, os

def quick_fork():
    "Fork as uWSGI does: the at-fork hooks of Python's modules take a third of the time of a fork."
    gc.freeze()
    gc.disable()
    return ctypes.PyDLL(None).fork()
"""


@contextmanager
def memory_directory() -> Iterator[Path]:
    """Create a directory in memory where the system can, else with other temporary files; remove it."""
    parent = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="tests-of-web-prom-", dir=parent) as path:
        yield Path(path)


def forking_program(code: str, *arguments: str, **environ: str) -> str:
    """Run code in a fresh interpreter, in which it can call ``quick_fork()``; return what it printed.

    The interpreter has loaded only what the code imports, because the time of a fork grows with the memory
    of the process.
    """
    return fresh_python(_FORK + textwrap.dedent(code), *arguments, **environ)
