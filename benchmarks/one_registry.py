"""One process of the registry benchmark: encodes one registry with both libraries, and prints JSON."""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tracemalloc
from collections.abc import Callable
from time import thread_time

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import choose_encoder

from web_prom.exposition.collectors import collectors_of
from web_prom.exposition.encoding.registry_encoder import RegistryEncoder
from web_prom.exposition.encoding.text_builder import TextBuilder

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
# The format that Prometheus requests.
ENCODE, CONTENT_TYPE = choose_encoder("application/openmetrics-text; version=1.0.0")


class Registry:
    """A registry, encoded by web-prom and by prometheus_client."""

    def __init__(self, series: int) -> None:
        self._registry = CollectorRegistry()
        names = ("http_requests", "http_response_bytes", "http_errors")
        counters = [Counter(name, "Help.", ["route", "method"], registry=self._registry) for name in names]
        duration = Histogram(
            "http_seconds", "Help.", ["route", "method"], buckets=BUCKETS, registry=self._registry
        )
        for number in range(series // self._series_of_a_route(counters, duration)):
            for each in counters:
                each.labels(f"/shop/{number}/items", "GET").inc(number * 1000)
            duration.labels(f"/shop/{number}/items", "GET").observe(number / 777)
        self.series = sum(len(family.samples) for family in self._registry.collect())
        self.reset()

    def _series_of_a_route(self, counters: list[Counter], duration: Histogram) -> int:
        made = [*(each.labels("/", "GET") for each in counters), duration.labels("/", "GET")]
        return sum(len(list(child._child_samples())) for child in made)

    def reset(self) -> None:
        """Start again as a process without an earlier scrape."""
        self._encoder = RegistryEncoder()

    def ours(self) -> bytes:
        """Scrape with web-prom."""
        text = TextBuilder(ENCODE, CONTENT_TYPE, None)
        for collector in collectors_of(self._registry):
            text.add_instrument(collector, self._encoder)
        return text.finish()

    def upstream(self) -> bytes:
        """Scrape with prometheus_client."""
        return ENCODE(self._registry)


def main() -> None:
    """Measure what the arguments select."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    arguments = parser.parse_args()
    registry = Registry(arguments.series)
    if registry.ours() != registry.upstream():
        raise SystemExit("the two outputs differ")
    gc.collect()
    gc.freeze()  # objects that exist before are not traversed by the garbage collector
    seconds: dict[str, list[float]] = {"upstream": [], "cold": [], "warm": []}
    for done in range(arguments.rounds):
        seconds["upstream"].append(_time(registry.upstream))
        registry.reset()
        seconds["cold"].append(_time(registry.ours))
        seconds["warm"].append(_time(registry.ours))
        print(done + 1, file=sys.stderr, flush=True)
    memory: dict[str, int] = {}
    registry.reset()
    for name, scrape in (("upstream", registry.upstream), ("ours", registry.ours)):
        gc.collect()
        tracemalloc.start()
        scrape()
        memory[name] = tracemalloc.get_traced_memory()[1]
        memory["kept"] = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    json.dump({"series": registry.series, "seconds": seconds, "memory": memory}, sys.stdout)


def _time(scrape: Callable[[], bytes]) -> float:
    gc.collect()
    started = thread_time()
    scrape()
    return thread_time() - started


if __name__ == "__main__":
    main()
