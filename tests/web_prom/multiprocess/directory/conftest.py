"""Fixtures for the tests of the shared directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web_prom.multiprocess.directory.holders import Hold, Holder
from web_prom.multiprocess.reading.collector import WorkersCollector


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Hold]:
    """Return a function that starts processes that hold slots. They end with the test."""
    made: list[Holder] = []

    def held(path: Path = tmp_path) -> Holder:
        made.append(Holder(path))
        return made[-1]

    yield held
    for each in made:
        each.kill()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the directory for temporary files by one for this test; return it."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(path))
    return path


@pytest.fixture
def collector(tmp_path: Path) -> WorkersCollector:
    return WorkersCollector(tmp_path)
