"""The log of the exporter's processes: its format, which is gunicorn's, and how often one event is logged."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import sys
import time
from collections.abc import Callable
from pathlib import Path


def configure(path: Path | None = None) -> None:
    """Send what is worth telling to standard error, or to a file, opened anew when it was rotated away."""
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if path is not None:
        with contextlib.suppress(OSError):  # standard error will have to do
            handler = logging.handlers.WatchedFileHandler(path)
    handler.setFormatter(
        logging.Formatter(
            "[%(asctime)s] [%(process)d] [%(levelname)s] %(message)s", datefmt="%Y-%m-%d %H:%M:%S %z"
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)


class Seldom:
    """Limits how often events are logged: each kind once in a number of seconds.

    May be used from any thread. Two threads at the same moment may both log.

    Args:
        seconds: How long a kind is silent after it was logged.
        clock: Seconds that only go forward.
    """

    def __init__(self, seconds: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._last: dict[str, float] = {}

    def is_due(self, kind: str) -> bool:
        """Return whether an event of this kind is to be logged now. The kinds are few and fixed."""
        now = self._clock()
        last = self._last.get(kind)
        if last is not None and now - last < self._seconds:
            return False
        self._last[kind] = now
        return True
