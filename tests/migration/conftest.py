"""The comparisons use the default settings."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def default_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the setting of the other tests."""
    monkeypatch.delenv("PROM_ZERO_ERRORS", raising=False)
