"""The collectors that prometheus_client registers on import: their series, and the time that they take.

::

    python -m guide.default_collectors
"""

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, REGISTRY


def series(collector: Any) -> int:
    return sum(len(family.samples) for family in collector.collect())


def microseconds(collect: Callable[[], Any]) -> float:
    """Return the median of a hundred calls, in microseconds."""
    durations = []
    for _ in range(100):
        started = perf_counter()
        list(collect())
        durations.append(perf_counter() - started)
    return median(durations) * 1e6


def main() -> None:
    print("collector            series  microseconds a scrape")
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        name = type(collector).__name__
        print(f"{name:<21}{series(collector):>6}{microseconds(collector.collect):>24.1f}")
    print("all three:", series(REGISTRY))
    REGISTRY.unregister(GC_COLLECTOR)
    print("without GC_COLLECTOR:", series(REGISTRY))


if __name__ == "__main__":
    main()
