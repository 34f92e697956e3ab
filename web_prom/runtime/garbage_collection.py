"""How long the garbage collector stops this process, by generation.

The collector runs in the middle of any allocation, also of code that holds a lock of ours: what it calls
must take none (prometheus/client_python#363, #371). So a collection adds to plain numbers here,
and others read them later.
"""

from __future__ import annotations

import gc
from bisect import bisect_left
from time import perf_counter
from typing import Any

BUCKETS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
"""Upper bounds in seconds: a young generation takes microseconds, a large old one seconds."""

GENERATIONS = 3


class GarbageCollections:
    """Times this process's collections. A child of a fork goes on with numbers of its own.

    CPython runs one collection at a time in a process, so that no lock is needed.
    """

    def __init__(self) -> None:
        self._begun = 0.0
        self._counts = [[0] * (len(BUCKETS) + 1) for _ in range(GENERATIONS)]
        self._seconds = [0.0] * GENERATIONS

    def start(self) -> None:
        """Time every collection from now on."""
        if self._on_collection not in gc.callbacks:
            gc.callbacks.append(self._on_collection)

    def stop(self) -> None:
        """Time no more."""
        if self._on_collection in gc.callbacks:
            gc.callbacks.remove(self._on_collection)

    def read(self) -> list[tuple[list[int], float]]:
        """Return for each generation the count of each bucket, not cumulative, and the sum in seconds."""
        return [(list(counts), seconds) for counts, seconds in zip(self._counts, self._seconds, strict=True)]

    def _on_collection(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._begun = perf_counter()
        elif self._begun:
            seconds = perf_counter() - self._begun
            generation = info["generation"]
            self._counts[generation][bisect_left(BUCKETS, seconds)] += 1
            self._seconds[generation] += seconds
