"""Blocks of children: children that come and go, limited caches, and concurrent scrapes."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
import weakref
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, metrics

from tests.web_prom.exposition.encoding.support import OPENMETRICS, TEXT, encode_both
from web_prom.exposition.encoding.registry_encoder import RegistryEncoder
from web_prom.exposition.encoding.text_builder import TextBuilder
from web_prom.exposition.gatherer import Gatherer
from web_prom.exposition.negotiation import encoder_for


def test_blocks_are_updated_when_children_are_added_and_removed() -> None:
    """Unchanged blocks are reused, and few small blocks are left."""
    registry, encoder = CollectorRegistry(), RegistryEncoder()
    counter = Counter("a", "Help.", ["n"], registry=registry)
    for number in range(500):
        counter.labels(number).inc(number)
        if number % 10 == 0:
            encode_both(registry, encoder)
    for number in range(0, 500, 3):
        counter.remove(number)
        if number % 20 == 0:
            encode_both(registry, encoder)
    encode_both(registry, encoder)
    (instrument,) = encoder._instruments.values()
    left = len(counter._metrics)
    assert sum(len(block.children) for block in instrument._blocks) == left
    assert len(instrument._blocks) <= 2 * left // 256 + 1
    counter.clear()
    encode_both(registry, encoder)
    assert instrument._blocks == []


def test_changed_creation_time_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Creation times are cached together with the labels."""
    monkeypatch.setattr(metrics, "_use_created", True)
    registry, encoder = CollectorRegistry(), RegistryEncoder()
    counter = Counter("a", "Help.", ["n"], registry=registry)
    for number in range(10):
        counter.labels(number).inc()
    before = encode_both(registry, encoder)
    counter.labels(5)._created = 7.0
    after = encode_both(registry, encoder)
    assert b'a_created{n="5"} 7.0\n' in after
    assert b'a_created{n="5"} 7.0\n' not in before


def test_removed_children_and_instruments_are_deleted(registry: CollectorRegistry) -> None:
    """The next scrape deletes the references to removed children and unregistered instruments."""
    gatherer = Gatherer(registry, collector_timeout=30)
    gatherer.gather(*encoder_for(TEXT), None)
    orders, line, *_ = registry._collector_to_names
    gone = [weakref.ref(child) for child in list(orders._metrics.values())[5:8]]  # type: ignore[attr-defined]
    for number in range(5, 8):
        orders.remove(f"customer-{number}", 'by "card"')  # type: ignore[attr-defined]
    gone.append(weakref.ref(line))
    registry.unregister(line)
    del line
    gatherer.gather(*encoder_for(TEXT), None)
    gc.collect()
    assert [reference() for reference in gone] == [None] * 4


def test_caches_are_limited_when_clients_invent_formats() -> None:
    """The same holds for names. Only the last few templates of lines are cached."""
    registry, encoder = CollectorRegistry(), RegistryEncoder()
    Histogram("a", "Help.", ["label"], registry=registry).labels("b")
    for version in range(1, 40):
        encode_both(
            registry, encoder, f"application/openmetrics-text; version={version}.0.0; escaping=values"
        )
        encode_both(registry, encoder, TEXT, {"a_sum", "a_bucket"})
        encode_both(registry, encoder, OPENMETRICS, {"a_created", "a_count"})
        encode_both(registry, encoder, TEXT)
    (instrument,) = encoder._instruments.values()
    assert len(instrument._templates) <= 16
    assert [len(block._templates) <= 3 for block in instrument._blocks] == [True]


def test_child_added_during_a_scrape_is_in_the_next_one(registry: CollectorRegistry) -> None:
    """As in prometheus_client, the children are listed first."""
    encoder = RegistryEncoder()
    gauge = Gauge("grows", "Help.", ["n"], registry=registry)

    def grow() -> float:
        gauge.labels(len(gauge._metrics)).set(1)
        return 5

    gauge.labels("0").set_function(grow)
    encode, content_type = encoder_for(TEXT)
    counts = []
    for _ in range(3):
        text = TextBuilder(encode, content_type, None)
        text.add_instrument(gauge, encoder)
        counts.append(text.series)
    assert counts == [1, 2, 3]


def test_scrapes_are_complete_while_threads_add_and_remove_children(registry: CollectorRegistry) -> None:
    """Each scrape contains all children that existed when it started."""
    orders: Any = next(iter(registry._collector_to_names))
    gatherer = Gatherer(registry, collector_timeout=30)
    going = True

    def change() -> None:
        number = 0
        while going:
            orders.labels(f"new-{number}", "x").inc()
            if number % 3 == 0:
                with contextlib.suppress(KeyError):
                    orders.remove(f"new-{number // 2}", "x")
            number += 1
            time.sleep(0.0001)

    threads = [threading.Thread(target=change) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(15):
            lines = gatherer.gather(*encoder_for(TEXT), {"orders_total"}).decode().split("\n")
            samples = [line.rpartition(" ")[0] for line in lines if line.startswith("orders_total{")]
            assert len(set(samples)) == len(samples)
            assert sum("customer-" in sample for sample in samples) == 1500
    finally:
        going = False
        for thread in threads:
            thread.join()
    encode_both(registry, RegistryEncoder())
    encode_both(registry, gatherer._encoder)
