"""Helpers for the tests of the registry encoder, with prometheus_client as the oracle."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary
from prometheus_client.metrics_core import Metric

from web_prom.exposition.collectors import collectors_of
from web_prom.exposition.encoding.registry_encoder import RegistryEncoder
from web_prom.exposition.encoding.text_builder import TextBuilder
from web_prom.exposition.negotiation import encoder_for

TEXT = "text/plain"


OPENMETRICS = "application/openmetrics-text; version=1.0.0"


FORMATS = [
    TEXT,
    *(
        f"{kind}; escaping={escaping}"
        for kind in ("text/plain; version=1.0.0", OPENMETRICS, "application/openmetrics-text; version=2.0.0")
        for escaping in ("underscores", "allow-utf-8", "dots", "values")
    ),
]


INSTRUMENTS = (Counter, Gauge, Histogram, Summary)


def encode_both(
    registry: CollectorRegistry,
    encoder: RegistryEncoder,
    accept: str = TEXT,
    names: Collection[str] | None = None,
) -> bytes:
    """Return the text of a scrape, after comparing it with that of prometheus_client."""
    encode, content_type = encoder_for(accept)
    expected, ours = (TextBuilder(encode, content_type, names) for _ in range(2))
    expected.add(registry.collect())
    for collector in collectors_of(registry):
        ours.add_instrument(collector, encoder)
    encoder.retain(collectors_of(registry))
    text = ours.finish()
    assert text == expected.finish()
    assert ours.series == expected.series
    return text


def is_encoded(collector: Any, encoder: RegistryEncoder | None = None, accept: str = TEXT) -> bool:
    """Return whether a collector is encoded without ``collect()``."""
    encode, content_type = encoder_for(accept)

    def encoded(families: Iterable[Metric]) -> bytes:
        registry = CollectorRegistry()
        registry.collect = lambda: families  # type: ignore[method-assign]
        return encode(registry).removesuffix(b"# EOF\n")

    return (encoder or RegistryEncoder()).encode(collector, encoded, content_type, None) is not None
