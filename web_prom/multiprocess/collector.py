"""The merged view of all workers that share a directory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from web_prom.multiprocess.directory import VARIABLE
from web_prom.multiprocess.takeover import is_shared

# A file may vanish between the listing and the reading: its worker died, or a server began anew.
_ATTEMPTS = 5


class WorkersCollector:
    """Collects what all workers wrote to a directory. Holds nothing; safe to share between threads."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def collect(self) -> Iterable[Metric]:
        """Return the merged families; those of dead workers count on, except live gauges."""
        for attempt in range(_ATTEMPTS):
            try:
                # A file that a worker is just making is empty for an instant, which upstream cannot read.
                files = [str(path) for path in self._path.glob("*.db") if path.stat().st_size]
                families: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
            except FileNotFoundError:
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                return sorted(families, key=lambda family: str(family.name))
        return []


def source_of(registry: Any) -> Any:
    """Return what a scrape collects: all workers where they share a directory, else the registry."""
    path = os.environ.get(VARIABLE)
    return WorkersCollector(path) if path and is_shared() else registry
