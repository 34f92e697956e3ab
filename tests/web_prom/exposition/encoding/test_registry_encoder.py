"""The registry encoder: which instruments it encodes, and from which values."""

from __future__ import annotations

import gc
from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, values
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.samples import Exemplar, Sample
from prometheus_client.values import MutexValue

from tests.web_prom.exposition.encoding.support import (
    FORMATS,
    INSTRUMENTS,
    OPENMETRICS,
    TEXT,
    encode_both,
    is_encoded,
)
from tests.web_prom.support import errors, serve
from web_prom.exposition.collectors import collectors_of
from web_prom.exposition.encoding.line_templates import TemplateSection
from web_prom.exposition.encoding.registry_encoder import RegistryEncoder
from web_prom.exposition.gatherer import Gatherer
from web_prom.exposition.negotiation import encoder_for
from web_prom.wsgi.endpoint import make_wsgi_app

INFINITY = float("inf")


@pytest.mark.parametrize("accept", FORMATS)
def test_encode_creates_no_samples_for_unmodified_instruments(
    accept: str, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The part of a line before its value is created once."""
    encoder = RegistryEncoder()
    text = encode_both(registry, encoder, accept)
    encode, _ = encoder_for(accept)
    assert text == encode(registry)
    assert all(is_encoded(collector, encoder, accept) for collector in collectors_of(registry))

    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(TemplateSection, "template", fail)
    assert encode_both(registry, encoder, accept) == text


def test_scrape_over_http_is_that_of_prometheus_client(registry: CollectorRegistry) -> None:
    """The metrics about the scrape follow."""
    body = serve(make_wsgi_app(registry))
    begun, _, about = body.partition(b"# HELP web_prom_scrape_series ")
    assert begun == prometheus_client.generate_latest(registry)
    samples = [line for line in begun.splitlines() if not line.startswith(b"#")]
    assert f"\nweb_prom_scrape_series {float(len(samples))}\n".encode() in about


@pytest.mark.parametrize("kind", INSTRUMENTS)
def test_encode_does_not_collect_unmodified_instruments(kind: Any) -> None:
    """With labels and without. Info and Enum are collected."""
    assert is_encoded(kind("a", "", registry=None))
    assert is_encoded(kind("a", "", ["b"], registry=None))
    labelled = kind("a", "", ["b"], registry=None)
    labelled.labels("c")
    assert is_encoded(labelled)
    assert not is_encoded(Info("a", "", registry=None))
    assert not is_encoded(Enum("a", "", states=["b"], registry=None))


def more(self: Any) -> Any:
    """Return a sample that no instrument of prometheus_client has."""
    return (Sample("_more", {"x": "y"}, 7.0, None, None),)


@pytest.mark.parametrize("kind", INSTRUMENTS)
@pytest.mark.parametrize("labels", [[], ["label"]])
def test_encode_returns_none_for_modified_instruments(
    kind: Any, labels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Subclasses, and classes, instruments and children with replaced methods."""
    extended = type("Extended", (kind,), {"_child_samples": more})
    for make, patch in ((extended, ""), (kind, "instrument"), (kind, "child"), (kind, "class")):
        registry, encoder = CollectorRegistry(), RegistryEncoder()
        instrument = make("a", "Help.", labels, registry=registry)
        children = [instrument.labels(value) for value in "abc"] if labels else [instrument]
        if patch == "instrument":
            monkeypatch.setattr(instrument, "collect", lambda: [GaugeMetricFamily("own", "Help.", 3)])
        elif patch == "child":
            encode_both(registry, encoder)
            monkeypatch.setattr(children[-1], "_child_samples", lambda child=children[-1]: more(child))
        elif patch == "class":
            monkeypatch.setattr(kind, "_child_samples", more)
        text = encode_both(registry, encoder)
        assert (b"own 3.0" if patch == "instrument" else b"a_more{") in text
        assert not is_encoded(instrument, encoder)


def test_values_of_another_class_are_read_by_their_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their methods return the number and the exemplar."""

    class Own(MutexValue):
        def get(self) -> float:
            return super().get() + 100  # type: ignore[no-untyped-call,no-any-return]

        def get_exemplar(self) -> None:
            return None

    monkeypatch.setattr(values, "ValueClass", Own)
    registry, encoder = CollectorRegistry(), RegistryEncoder()
    for kind in INSTRUMENTS:
        instrument = kind(kind.__name__.lower(), "Help.", ["label"], registry=registry)
        instrument.labels("a")
    Counter("b", "Help.", registry=registry).inc(exemplar={"trace": "1"})
    for accept in (TEXT, OPENMETRICS):
        assert b"b_total 101.0\n" in encode_both(registry, encoder, accept)
    assert is_encoded(instrument)


def test_integer_value_is_written_as_float() -> None:
    """A counter has an integer value after ``reset()``."""
    registry = CollectorRegistry()
    Counter("a", "Help.", registry=registry)._value.set(3)
    assert b"a_total 3.0\n" in encode_both(registry, RegistryEncoder())


def test_exemplars_are_in_openmetrics_only() -> None:
    """Exemplars of a counter, and of the bucket of an observation."""
    registry, encoder = CollectorRegistry(), RegistryEncoder()
    Counter("a", "Help.", ["n"], registry=registry).labels("x").inc(exemplar={"trace": "1"})
    Histogram("b", "Help.", registry=registry).observe(0.3, exemplar={"trace": "2"})
    text = encode_both(registry, encoder, OPENMETRICS)
    assert b'a_total{n="x"} 1.0 # {trace="1"} 1.0 ' in text
    assert b'b_bucket{le="0.5"} 1.0 # {trace="2"} 0.3 ' in text
    assert all(is_encoded(collector, encoder, OPENMETRICS) for collector in collectors_of(registry))
    assert b"trace" not in encode_both(registry, encoder, TEXT)


def test_scrape_creates_few_objects_for_garbage_collection(
    registry: CollectorRegistry,
) -> None:
    """A full garbage collection stops every thread. It runs after many such objects have been created."""
    gatherer = Gatherer(registry, collector_timeout=30)
    gc.collect()
    before = len(gc.get_objects())
    gatherer.gather(*encoder_for(TEXT), None)
    cold = len(gc.get_objects())
    gatherer.gather(*encoder_for(TEXT), None)
    warm = len(gc.get_objects())
    series = 1500 + 100 * (1 + 17 + 2)
    assert cold - before < series / 4
    assert warm - cold < 20


@pytest.mark.parametrize("break_it", ["callback", "label", "exemplar"])
def test_instrument_that_cannot_be_encoded_is_the_only_one_missing(break_it: str, caplog: Any) -> None:
    """As for a failing collector, its text is missing and the failure is counted."""
    registry = CollectorRegistry()
    gatherer = Gatherer(registry, collector_timeout=30)
    broken: Any = Counter("broken", "Help.", ["label"], registry=registry)
    if break_it == "callback":
        registry.unregister(broken)
        broken = Gauge("broken", "Help.", ["label"], registry=registry)
        broken.labels("b").set_function(lambda: 1 / 0)
    elif break_it == "label":
        broken.labels("\udcff").inc()
    else:
        broken.labels("b")._value.set_exemplar(Exemplar({"a": 7}, 1.0))  # type: ignore[dict-item]
    broken.labels("a").inc()
    Counter("whole", "Help.", registry=registry).inc()
    names = {"broken", "broken_total", "whole_total"}
    text = gatherer.gather(*encoder_for(OPENMETRICS), names).decode()
    assert "whole_total 1.0" in text
    assert "broken" not in text
    registry.unregister(broken)
    assert errors(registry) == {("collector broken",): 1}
