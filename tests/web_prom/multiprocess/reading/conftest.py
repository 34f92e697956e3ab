"""Fixtures of the tests that read value files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web_prom.multiprocess.reading.value_files import Worker
from web_prom.multiprocess.reading.collector import WorkersCollector


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    """Return a worker of web-prom."""
    worker = Worker(tmp_path, "s0")
    yield worker
    worker.close()


@pytest.fixture
def collector(tmp_path: Path) -> WorkersCollector:
    """Return a collector of the directory, in which slot 0 is held."""
    return WorkersCollector(tmp_path, lambda: {0: 100})


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[tuple[Worker, Worker]]:
    """Return two workers of web-prom."""
    both = Worker(tmp_path, "s0"), Worker(tmp_path, "s1")
    yield both
    for worker in both:
        worker.close()


@pytest.fixture
def removed_files_are_dropped_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for workers to create removed files again."""
    monkeypatch.setattr("web_prom.multiprocess.reading.directory_view._MISSING_SECONDS", 0.0)
