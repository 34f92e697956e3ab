"""Directories in memory, for tests that create and remove thousands of files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MEMORY = Path("/dev/shm")


@contextmanager
def memory_directory() -> Iterator[Path]:
    """Create a directory in memory where the system can, else with other temporary files; remove it."""
    parent = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="tests-of-web-prom-", dir=parent) as path:
        yield Path(path)
