"""Fixtures for the tests of the core."""

from __future__ import annotations

import pytest

from .support import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock that requests are timed by, which goes only when it is told to."""
    clock = Clock()
    monkeypatch.setattr("web_prom.recorder.perf_counter", clock)
    monkeypatch.setattr("web_prom.sizes.perf_counter", clock)
    monkeypatch.setattr("web_prom.websockets.perf_counter", clock)
    return clock
