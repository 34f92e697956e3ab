"""Fixtures for the tests of the core."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import values

from tests.web_prom.multiprocess.writing.label_sets import Scrape
from tests.web_prom.support import Clock, Waits
from web_prom.multiprocess.directory.slots import slots_of
from web_prom.multiprocess.writing import (
    current_storage,
    definitions,
    metric_removal,
    process_files,
    watch_thread,
)
from web_prom.multiprocess.writing.shared_value import SharedValue


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock that requests are timed by, which goes only when it is told to."""
    clock = Clock()
    monkeypatch.setattr("web_prom.metrics.recording.perf_counter", clock)
    monkeypatch.setattr("web_prom.metrics.body_sizes.perf_counter", clock)
    monkeypatch.setattr("web_prom.metrics.websocket.perf_counter", clock)
    return clock


@pytest.fixture
def open_path() -> Iterator[Path]:
    """Return a directory that other users can enter; each run of pytest closes those of all runs to them."""
    with tempfile.TemporaryDirectory(prefix="web-prom-tests-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def shared(open_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a shared directory of the test's own, where the instruments that it makes have their values."""
    directory = open_path / "shared"
    directory.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(directory))
    monkeypatch.setattr(values, "ValueClass", SharedValue)
    metric_removal.install()
    monkeypatch.setattr(current_storage, "_last", process_files.ProcessStorage())
    monkeypatch.setattr(definitions, "_label_names", {})  # other tests have families of the same names
    monkeypatch.setattr(definitions, "_checked", set())
    monkeypatch.setattr(definitions, "_warned", set())
    yield directory
    # A check that goes on, or is in progress, would write the values again, in the next test.
    monkeypatch.setattr(watch_thread, "_END_SECONDS", 30.0)
    for thread in list(watch_thread._running):
        thread.stop()
    current_storage.process_storage().close()
    slots_of(directory)._file.close()


@pytest.fixture
def scrape(shared: Path) -> Scrape:
    """Return what reads the shared directory."""
    return Scrape(shared)


@pytest.fixture
def flight_waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    """Return what tells how many scrapes wait for one that another thread makes."""
    return Waits(monkeypatch)
