"""SQLAlchemy: queries, pools and transactions, by its events. It is imported when it is asked for."""

from __future__ import annotations

from typing import Any

from web_prom.metrics.recorder import Recorder


def instrument_all(recorder: Recorder) -> None:
    """Measure every engine of the process, if SQLAlchemy is installed."""


def instrument(engine: Any, *, registry: Any = None) -> None:
    """Measure the queries, the pool and the transactions of one engine."""


def uninstrument(engine: Any) -> None:
    """Measure an engine no longer."""
