"""Instruments with label sets that tests remove, and what a scrape shows of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary
from prometheus_client.exposition import generate_latest

from tests.web_prom.support import samples
from web_prom.multiprocess.reading.collector import WorkersCollector
from web_prom.multiprocess.writing import current_storage
from web_prom.multiprocess.writing.process_files import ProcessStorage

MODES = ("all", "min", "max", "sum", "mostrecent")
KINDS = ("counter", "summary", "histogram", *MODES, *(f"live{mode}" for mode in MODES))


def make(kind: str, documentation: str = "Help.", **options: Any) -> Any:
    """Return an instrument with two labels, in a registry of its own."""
    options = {"registry": CollectorRegistry(), "labelnames": ["x", "y"], **options}
    if kind == "counter":
        return Counter("m", documentation, **options)
    if kind == "summary":
        return Summary("m", documentation, **options)
    if kind == "histogram":
        return Histogram("m", documentation, **{"buckets": (1, 5), **options})
    return Gauge("m", documentation, **{"multiprocess_mode": kind, **options})


def use(child: Any, amount: float = 3.0) -> None:
    """Write to a child."""
    write = getattr(child, "observe", None) or getattr(child, "set", None) or child.inc
    write(amount)


# How many processes this one has been. The next holder of a slot has another process id: files that are
# missing under the same one are expected back.
_lives = [1]


def holders() -> dict[int, int]:
    """Return who holds the slots: this process the first, and another one the second."""
    return {0: _lives[0], 1: -1}


class Scrape:
    """What the slot shows now, to a collector that has read it before and to one that has not."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.warm = WorkersCollector(directory, holders)

    def __call__(self, kind: str) -> dict[tuple[str, ...], float]:
        """Return the values of ``m`` by its labels."""
        name = {"counter": "m_total", "summary": "m_sum", "histogram": "m_sum"}.get(kind, "m")
        fresh = WorkersCollector(self._directory, holders)
        found = samples(self.warm, name, "x", "y")
        assert found == samples(fresh, name, "x", "y")
        assert generate_latest(self.warm) == generate_latest(fresh)
        return found

    def all_samples(self) -> dict[str, list[tuple[tuple[str, str], ...]]]:
        """Return the labels of all samples of ``m``, by name."""
        found: dict[str, list[tuple[tuple[str, str], ...]]] = {}
        for family in self.warm.collect():
            for sample in family.samples:
                if sample.name.startswith("m"):
                    found.setdefault(sample.name, []).append(tuple(sorted(sample.labels.items())))
        return found


def next_holder() -> None:
    """Have this process be another one, which takes the same slot."""
    current_storage.process_storage().close()
    current_storage._last = ProcessStorage()
    _lives[0] += 1
