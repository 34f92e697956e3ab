"""The registry encoder after random changes of a program, with prometheus_client as the oracle."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Enum, Gauge, Histogram, Info, metrics

from tests.web_prom.exposition.encoding.support import FORMATS, INSTRUMENTS, encode_both
from web_prom.exposition.encoding.registry_encoder import RegistryEncoder


def allowed(make: Callable[[str], object], *names: str) -> list[str]:
    """Return the names that this version of prometheus_client accepts."""
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


class RandomProgram:
    """A registry, and random changes that a program makes between scrapes."""

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
        kind = self.draw(st.sampled_from([*INSTRUMENTS, Info, Enum]))
        options: dict[str, Any] = {}
        if kind in INSTRUMENTS:
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
        except ValueError:  # a used name, or a name that does not allow a unit
            return
        self.instruments.append(instrument)

    def act(self) -> None:
        """Change a random instrument."""
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
                with contextlib.suppress(KeyError):  # raised by older versions for unknown labels
                    instrument.remove(*labels)
                return
            if deed == "clear":
                instrument.clear()
                return
            child = instrument.labels(*labels)
        getattr(self, type(instrument).__name__.lower())(child)

    def counter(self, child: Any) -> None:
        """Increment or reset a counter."""
        if self.draw(st.booleans()) and hasattr(child, "reset"):
            child.reset()
        child.inc(self.draw(positive), exemplar=self.draw(exemplars))

    def gauge(self, child: Any) -> None:
        """Set a gauge or its callback."""
        value = self.draw(floats)
        if self.draw(st.integers(0, 3)):
            child.set(value)
        else:
            child.set_function(lambda: value)

    def histogram(self, child: Any) -> None:
        """Observe a value."""
        child.observe(self.draw(floats), exemplar=self.draw(exemplars))

    def summary(self, child: Any) -> None:
        """Observe a value."""
        child.observe(self.draw(floats))

    def info(self, child: Any) -> None:
        """Set the labels of an Info."""
        child.info({"told": self.draw(texts)})

    def enum(self, child: Any) -> None:
        """Change the state of an Enum."""
        child.state(self.draw(st.sampled_from(["on", "off"])))

    def names(self) -> set[str] | None:
        """Return the names of some samples, or None for all."""
        if self.draw(st.booleans()):
            return None
        every = sorted({sample.name for family in self.registry.collect() for sample in family.samples})
        return set(self.draw(st.lists(st.sampled_from([*every, "nothing"]), unique=True)))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_text_is_that_of_prometheus_client_after_random_changes(data: st.DataObject) -> None:
    """All types, formats and names, with and without ``_created``, while children are added and removed."""
    program = RandomProgram(data)
    encoder = RegistryEncoder()
    accepts = data.draw(st.lists(st.sampled_from(FORMATS), min_size=1, max_size=2))
    was = metrics._use_created
    try:
        for accept in data.draw(st.lists(st.sampled_from(accepts), min_size=1, max_size=4)):
            metrics._use_created = data.draw(st.booleans())
            for _ in range(data.draw(st.integers(0, 4))):
                program.act()
            encode_both(program.registry, encoder, accept, program.names())
    finally:
        metrics._use_created = was
