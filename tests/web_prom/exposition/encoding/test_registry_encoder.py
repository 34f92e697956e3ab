"""The text of one process's instruments is upstream's, byte for byte: its encoder is the oracle."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable
from typing import Any

import prometheus_client
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Enum,
    Gauge,
    Histogram,
    Info,
    Summary,
    metrics,
    values,
)
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.samples import Exemplar, Sample
from prometheus_client.values import MutexValue

from tests.web_prom.support import errors, serve
from web_prom.exposition.collectors import collectors_of
from web_prom.exposition.encoding.line_templates import TemplateSection
from web_prom.exposition.encoding.registry_encoder import RegistryEncoder
from web_prom.exposition.encoding.text_builder import TextBuilder
from web_prom.exposition.gatherer import Gatherer
from web_prom.exposition.negotiation import encoder_for
from web_prom.wsgi.endpoint import make_wsgi_app

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
STOCK = (Counter, Gauge, Histogram, Summary)
INFINITY = float("inf")


def both(
    registry: CollectorRegistry,
    encoder: RegistryEncoder,
    accept: str = TEXT,
    names: Collection[str] | None = None,
) -> bytes:
    """Return the text of a scrape, which is upstream's and counts the same samples."""
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


def rendered(collector: Any, encoder: RegistryEncoder | None = None, accept: str = TEXT) -> bool:
    """Tell whether a collector's text was made without collecting it."""
    encode, content_type = encoder_for(accept)

    def encoded(families: Iterable[Metric]) -> bytes:
        registry = CollectorRegistry()
        registry.collect = lambda: families  # type: ignore[method-assign]
        return encode(registry).removesuffix(b"# EOF\n")

    return (encoder or RegistryEncoder()).encode(collector, encoded, content_type, None) is not None


def allowed(make: Callable[[str], object], *names: str) -> list[str]:
    """Return the names that this version of prometheus_client takes."""
    kept = []
    for name in names:
        try:
            make(name)
        except ValueError:
            continue
        kept.append(name)
    return kept


NAMES = allowed(
    lambda name: Gauge(name, "", registry=None),
    "a",
    "b:c",
    "d_created",
    "e.f",
    "g h%s{0}",
    "ü€",
    'i"\\',
    "__j",
)
LABELS = allowed(
    lambda name: Gauge("x", "", [name], registry=None), "k", "z", "l.m", "n%s{", "ö", "_o", "a", "l_m"
)

texts = st.text(
    st.one_of(st.sampled_from('\\"\n%s{}\0 #é€\x85\u2028'), st.characters(codec="utf-8")), max_size=6
)
floats = st.one_of(st.floats(), st.sampled_from([1e6, 999999.5, 1e17, -0.0, 12345678.9]))
positive = st.one_of(st.floats(0, allow_nan=False), st.sampled_from([1.0, 1e6, 123456789.0]))
exemplars = st.one_of(st.none(), st.dictionaries(st.sampled_from("pq"), texts, min_size=1))


class Play:
    """A registry, and what a program may do to it between scrapes."""

    def __init__(self, data: st.DataObject) -> None:
        self.draw: Any = data.draw
        self.registry = CollectorRegistry()
        self.instruments: list[Any] = []
        for name in self.draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True)):
            self.make(name)
        if self.draw(st.booleans()):
            self.registry.set_target_info({"env": self.draw(texts)})

    def make(self, name: str) -> None:
        """Register an instrument."""
        kind = self.draw(st.sampled_from([*STOCK, Info, Enum]))
        options: dict[str, Any] = {}
        if kind in STOCK:
            options["unit"] = self.draw(st.sampled_from(["", "", "seconds", "a\nb"]))
        if kind is Histogram:
            options["buckets"] = self.draw(
                st.sampled_from([(0.5, 2), (-1, 0, 1), (1e6, 1e7), Histogram.DEFAULT_BUCKETS])
            )
        if kind is Enum:
            options["states"] = ["on", "off"]
        unique: bool = self.draw(st.booleans())
        labels = self.draw(st.lists(st.sampled_from(LABELS), max_size=3, unique=unique))
        try:
            instrument = kind(name, self.draw(texts), labels, registry=self.registry, **options)
        except ValueError:  # a name that is taken, or that goes with no unit
            return
        self.instruments.append(instrument)

    def act(self) -> None:
        """Do something to one of the instruments."""
        if not self.instruments:
            return
        instrument = self.draw(st.sampled_from(self.instruments))
        child = instrument
        if instrument._labelnames:
            labels = self.draw(
                st.lists(texts, min_size=len(instrument._labelnames), max_size=len(instrument._labelnames))
            )
            known = list(instrument._metrics)
            if known and self.draw(st.booleans()):
                labels = self.draw(st.sampled_from(known))
            deed = self.draw(st.sampled_from(["use", "use", "use", "use", "remove", "clear"]))
            if deed == "remove":
                with contextlib.suppress(KeyError):  # of older versions, where there is none
                    instrument.remove(*labels)
                return
            if deed == "clear":
                instrument.clear()
                return
            child = instrument.labels(*labels)
        getattr(self, type(instrument).__name__.lower())(child)

    def counter(self, child: Any) -> None:
        """Count, or begin again."""
        if self.draw(st.booleans()) and hasattr(child, "reset"):
            child.reset()
        child.inc(self.draw(positive), exemplar=self.draw(exemplars))

    def gauge(self, child: Any) -> None:
        """Set, for once or by a callback."""
        value = self.draw(floats)
        if self.draw(st.integers(0, 3)):
            child.set(value)
        else:
            child.set_function(lambda: value)

    def histogram(self, child: Any) -> None:
        """Observe."""
        child.observe(self.draw(floats), exemplar=self.draw(exemplars))

    def summary(self, child: Any) -> None:
        """Observe."""
        child.observe(self.draw(floats))

    def info(self, child: Any) -> None:
        """Tell."""
        child.info({"told": self.draw(texts)})

    def enum(self, child: Any) -> None:
        """Change."""
        child.state(self.draw(st.sampled_from(["on", "off"])))

    def names(self) -> set[str] | None:
        """Return the names of some samples, or None for all."""
        if self.draw(st.booleans()):
            return None
        every = sorted({sample.name for family in self.registry.collect() for sample in family.samples})
        return set(self.draw(st.lists(st.sampled_from([*every, "nothing"]), unique=True)))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_whatever_a_program_does_each_scrape_is_what_upstream_writes(data: st.DataObject) -> None:
    """Every kind, format and filter, ``_created`` or not, with children that come and go."""
    play = Play(data)
    encoder = RegistryEncoder()
    accepts = data.draw(st.lists(st.sampled_from(FORMATS), min_size=1, max_size=2))
    was = metrics._use_created
    try:
        for accept in data.draw(st.lists(st.sampled_from(accepts), min_size=1, max_size=4)):
            metrics._use_created = data.draw(st.booleans())
            for _ in range(data.draw(st.integers(0, 4))):
                play.act()
            both(play.registry, encoder, accept, play.names())
    finally:
        metrics._use_created = was


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return one with an instrument of each kind."""
    registry = CollectorRegistry()
    orders = Counter("orders", "Help.", ["customer", "payment"], registry=registry)
    line = Gauge("line", "Help.", ["site"], registry=registry)
    took = Histogram("took_seconds", "Help.", ["route"], registry=registry, unit="seconds")
    size = Summary("size", "Help.", ["route"], registry=registry)
    for number in range(1500):
        orders.labels(f"customer-{number}", 'by "card"').inc(number)
    for number in range(100):
        line.labels(f"site-{number}").set(number / 7)
        took.labels(f"/{number}").observe(number)
        size.labels(f"/{number}").observe(number)
    Counter("plain", "Help.", registry=registry).inc()
    return registry


@pytest.mark.parametrize("accept", FORMATS)
def test_ordinary_instruments_are_written_without_making_samples(
    accept: str, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what stands before the values is made once."""
    encoder = RegistryEncoder()
    text = both(registry, encoder, accept)
    encode, _ = encoder_for(accept)
    assert text == encode(registry)
    assert all(rendered(collector, encoder, accept) for collector in collectors_of(registry))

    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(TemplateSection, "template", fail)
    assert both(registry, encoder, accept) == text


def test_a_scrape_over_http_is_upstreams_too(registry: CollectorRegistry) -> None:
    """Followed by what is about the scrape."""
    body = serve(make_wsgi_app(registry))
    begun, _, about = body.partition(b"# HELP web_prom_scrape_series ")
    assert begun == prometheus_client.generate_latest(registry)
    samples = [line for line in begun.splitlines() if not line.startswith(b"#")]
    assert f"\nweb_prom_scrape_series {float(len(samples))}\n".encode() in about


@pytest.mark.parametrize("kind", STOCK)
def test_instruments_as_upstream_has_them_are_not_collected(kind: Any) -> None:
    """With labels and without; Info and Enum are."""
    assert rendered(kind("a", "", registry=None))
    assert rendered(kind("a", "", ["b"], registry=None))
    labelled = kind("a", "", ["b"], registry=None)
    labelled.labels("c")
    assert rendered(labelled)
    assert not rendered(Info("a", "", registry=None))
    assert not rendered(Enum("a", "", states=["b"], registry=None))


def more(self: Any) -> Any:
    """Give what no instrument of upstream gives."""
    return (Sample("_more", {"x": "y"}, 7.0, None, None),)


@pytest.mark.parametrize("kind", STOCK)
@pytest.mark.parametrize("labels", [[], ["label"]])
def test_what_is_not_as_upstream_has_it_is_left_to_upstream(
    kind: Any, labels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Subclasses, and methods that were replaced: of a class, of an instrument, of a child."""
    extended = type("Extended", (kind,), {"_child_samples": more})
    for make, patch in ((extended, ""), (kind, "instrument"), (kind, "child"), (kind, "class")):
        registry, encoder = CollectorRegistry(), RegistryEncoder()
        instrument = make("a", "Help.", labels, registry=registry)
        children = [instrument.labels(value) for value in "abc"] if labels else [instrument]
        if patch == "instrument":
            monkeypatch.setattr(instrument, "collect", lambda: [GaugeMetricFamily("own", "Help.", 3)])
        elif patch == "child":
            both(registry, encoder)
            monkeypatch.setattr(children[-1], "_child_samples", lambda child=children[-1]: more(child))
        elif patch == "class":
            monkeypatch.setattr(kind, "_child_samples", more)
        text = both(registry, encoder)
        assert (b"own 3.0" if patch == "instrument" else b"a_more{") in text
        assert not rendered(instrument, encoder)


def test_values_of_another_class_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """They know best what they are, and whether there is an exemplar."""

    class Own(MutexValue):
        def get(self) -> float:
            return super().get() + 100  # type: ignore[no-untyped-call,no-any-return]

        def get_exemplar(self) -> None:
            return None

    monkeypatch.setattr(values, "ValueClass", Own)
    registry, encoder = CollectorRegistry(), RegistryEncoder()
    for kind in STOCK:
        instrument = kind(kind.__name__.lower(), "Help.", ["label"], registry=registry)
        instrument.labels("a")
    Counter("b", "Help.", registry=registry).inc(exemplar={"trace": "1"})
    for accept in (TEXT, OPENMETRICS):
        assert b"b_total 101.0\n" in both(registry, encoder, accept)
    assert rendered(instrument)


def test_a_value_that_is_no_float_is_written_as_one() -> None:
    """Such is a counter's after reset()."""
    registry = CollectorRegistry()
    Counter("a", "Help.", registry=registry)._value.set(3)
    assert b"a_total 3.0\n" in both(registry, RegistryEncoder())


def test_exemplars_are_in_openmetrics_alone() -> None:
    """Of a counter, and of the bucket that an observation fell into."""
    registry, encoder = CollectorRegistry(), RegistryEncoder()
    Counter("a", "Help.", ["n"], registry=registry).labels("x").inc(exemplar={"trace": "1"})
    Histogram("b", "Help.", registry=registry).observe(0.3, exemplar={"trace": "2"})
    text = both(registry, encoder, OPENMETRICS)
    assert b'a_total{n="x"} 1.0 # {trace="1"} 1.0 ' in text
    assert b'b_bucket{le="0.5"} 1.0 # {trace="2"} 0.3 ' in text
    assert all(rendered(collector, encoder, OPENMETRICS) for collector in collectors_of(registry))
    assert b"trace" not in both(registry, encoder, TEXT)


def test_children_come_and_go_one_by_one_and_by_the_hundred() -> None:
    """What stays is not made again, and no crowd of small pieces is left."""
    registry, encoder = CollectorRegistry(), RegistryEncoder()
    counter = Counter("a", "Help.", ["n"], registry=registry)
    for number in range(500):
        counter.labels(number).inc(number)
        if number % 10 == 0:
            both(registry, encoder)
    for number in range(0, 500, 3):
        counter.remove(number)
        if number % 20 == 0:
            both(registry, encoder)
    both(registry, encoder)
    (instrument,) = encoder._instruments.values()
    left = len(counter._metrics)
    assert sum(len(block.children) for block in instrument._blocks) == left
    assert len(instrument._blocks) <= 2 * left // 256 + 1
    counter.clear()
    both(registry, encoder)
    assert instrument._blocks == []


def test_a_created_time_that_changes_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is kept with the labels."""
    monkeypatch.setattr(metrics, "_use_created", True)
    registry, encoder = CollectorRegistry(), RegistryEncoder()
    counter = Counter("a", "Help.", ["n"], registry=registry)
    for number in range(10):
        counter.labels(number).inc()
    before = both(registry, encoder)
    counter.labels(5)._created = 7.0
    after = both(registry, encoder)
    assert b'a_created{n="5"} 7.0\n' in after
    assert b'a_created{n="5"} 7.0\n' not in before


def test_nothing_refers_to_what_is_gone(registry: CollectorRegistry) -> None:
    """Children that were removed, and instruments that were unregistered, are let go by the next scrape."""
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


def test_a_scrape_makes_few_objects_that_the_collector_of_garbage_must_look_at(
    registry: CollectorRegistry,
) -> None:
    """A full collection holds up every thread, and is due when many such objects have come to stay."""
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


def test_formats_that_a_client_invents_do_not_pile_up() -> None:
    """Nor do filters; of the lines there are those of the last few only."""
    registry, encoder = CollectorRegistry(), RegistryEncoder()
    Histogram("a", "Help.", ["label"], registry=registry).labels("b")
    for version in range(1, 40):
        both(registry, encoder, f"application/openmetrics-text; version={version}.0.0; escaping=values")
        both(registry, encoder, TEXT, {"a_sum", "a_bucket"})
        both(registry, encoder, OPENMETRICS, {"a_created", "a_count"})
        both(registry, encoder, TEXT)
    (instrument,) = encoder._instruments.values()
    assert len(instrument._templates) <= 16
    assert [len(block._templates) <= 3 for block in instrument._blocks] == [True]


def test_a_child_that_comes_during_the_scrape_is_in_the_next(registry: CollectorRegistry) -> None:
    """As upstream has it: which children there are is settled first."""
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


def test_scrapes_while_other_threads_add_and_remove(registry: CollectorRegistry) -> None:
    """Each is whole, and has what was there before it began."""
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
    both(registry, RegistryEncoder())
    both(registry, gatherer._encoder)


@pytest.mark.parametrize("break_it", ["callback", "label", "exemplar"])
def test_an_instrument_that_cannot_be_written_costs_its_own_family(break_it: str, caplog: Any) -> None:
    """As a collector does that fails: nothing of it is there, and it is counted."""
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
