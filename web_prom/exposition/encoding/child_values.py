"""The values of an instrument's children, read straight and in the order of its samples."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any

from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.samples import Exemplar

from web_prom.exposition.encoding.line_templates import CREATED, SampleSchema
from web_prom.upstream.children import (
    SAMPLE_VALUES,
    buckets_of,
    child_samples,
    class_samples_function,
    created_at,
    own_samples,
    samples_function,
    upper_bounds,
)
from web_prom.upstream.value_class import InMemoryValue
from web_prom.upstream.values import exemplar_of, number_of

Rows = Sequence[Sequence[float]]
"""For each child, the value of each of its samples."""

Exemplars = list[tuple[int, int, Exemplar]]
"""Exemplars, each with the places of its child and of its sample."""

_CALLBACK = "Gauge.set_function.<locals>.samples"


class UnsupportedInstrumentError(Exception):
    """An instrument gives what cannot be read straight; upstream can."""


class ValueReader:
    """How to read the children of instruments of one class: here, of one with a value for each sample.

    Args:
        kind: The class. What its samples' values are is in ``upstream.children.SAMPLE_VALUES``; ``_created``
            is left out there and in the methods.
    """

    def __init__(self, kind: type[MetricWrapperBase]) -> None:
        self.kind = kind
        self._values = SAMPLE_VALUES[kind]

    def samples_of(self, child: Any) -> tuple[SampleSchema, ...]:
        """Return which samples a child has, as upstream's class gives them; ``_created`` is the last.

        Raises:
            UnsupportedInstrumentError: Others than those that are known here.
        """
        made = child_samples(child)
        forms = tuple([SampleSchema(sample[0], tuple(sample[1].items())) for sample in made])
        if any(any(field is not None for field in (sample[3], *sample[5:])) for sample in made):
            raise UnsupportedInstrumentError
        last = len(forms) - (forms[-1].suffix == CREATED)
        self.check(child, forms[:last])
        return forms

    def check(self, child: Any, forms: Sequence[SampleSchema]) -> None:
        """Raise UnsupportedInstrumentError for samples that are not known here."""
        if any(labels or suffix not in self._values for suffix, labels in forms):
            raise UnsupportedInstrumentError

    def rows(self, children: Sequence[Any], forms: Sequence[SampleSchema]) -> Rows:
        """Return what children have now.

        Raises:
            UnsupportedInstrumentError: One of them makes its samples itself.
        """
        self.check_methods(children)
        return list(zip(*[self._column(children, suffix) for suffix, _ in forms], strict=True))

    def exemplars(self, children: Sequence[Any], forms: Sequence[SampleSchema]) -> Exemplars:
        """Return the exemplars that there are."""
        return []

    def check_methods(self, children: Sequence[Any]) -> None:
        """Raise UnsupportedInstrumentError if a child makes its samples itself."""
        stock = class_samples_function(self.kind)
        try:
            own = list(map(samples_function, children)).count(stock) != len(children)
        except AttributeError:
            own = True
        if own:
            raise UnsupportedInstrumentError

    def _column(self, children: Sequence[Any], suffix: str) -> list[float]:
        return numbers_of(list(map(self._values[suffix], children)))


class CounterValueReader(ValueReader):
    """Counters, which may have an exemplar."""

    def exemplars(self, children: Sequence[Any], forms: Sequence[SampleSchema]) -> Exemplars:
        """Return the exemplars that there are."""
        place = [suffix for suffix, _ in forms].index("_total")
        found = exemplars_of(list(map(self._values["_total"], children)))
        return [(number, place, exemplar) for number, exemplar in found]


class GaugeValueReader(ValueReader):
    """Gauges, some of which ask a callback."""

    def rows(self, children: Sequence[Any], forms: Sequence[SampleSchema]) -> Rows:
        """Return what children have now, or what their callbacks give.

        Raises:
            UnsupportedInstrumentError: A child overrides its samples other than by ``set_function``.
            Exception: What a callback raises.
        """
        try:
            return super().rows(children, forms)
        except UnsupportedInstrumentError:
            called = [self._is_callback(child) for child in children]
        value = self._values[""]
        return [
            (float(own_samples(child)[0].value if callback else value(child).get()),)
            for child, callback in zip(children, called, strict=True)
        ]

    def _is_callback(self, child: Any) -> bool:
        try:
            function = samples_function(child)
        except AttributeError:
            raise UnsupportedInstrumentError from None
        if function is class_samples_function(self.kind):
            return False
        names = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
        if names != (self.kind.__module__, _CALLBACK):
            raise UnsupportedInstrumentError
        return True


class HistogramValueReader(ValueReader):
    """Histograms: buckets, of which each sample has what those before it have too."""

    def check(self, child: Any, forms: Sequence[SampleSchema]) -> None:
        """Raise UnsupportedInstrumentError for samples that are not known here."""
        buckets = len(upper_bounds(child))
        if [suffix for suffix, _ in forms[:buckets]] != ["_bucket"] * buckets:
            raise UnsupportedInstrumentError
        if [suffix for suffix, _ in forms[buckets:]] not in _AFTER_BUCKETS:
            raise UnsupportedInstrumentError

    def rows(self, children: Sequence[Any], forms: Sequence[SampleSchema]) -> Rows:
        """Return what children have now.

        Raises:
            UnsupportedInstrumentError: One of them makes its samples itself.
        """
        self.check_methods(children)
        suffixes = [suffix for suffix, _ in forms]
        buckets = suffixes.count("_bucket")
        values = numbers_of(self._buckets(children, buckets))
        sums = self._column(children, "_sum") if "_sum" in suffixes else None
        rows = []
        for number in range(len(children)):
            begun = number * buckets
            row = list(accumulate(values[begun : begun + buckets], initial=0.0))
            del row[0]
            row.append(row[-1])
            if sums is not None:
                row.append(sums[number])
            rows.append(row)
        return rows

    def exemplars(self, children: Sequence[Any], forms: Sequence[SampleSchema]) -> Exemplars:
        """Return the exemplars that there are."""
        buckets = [suffix for suffix, _ in forms].count("_bucket")
        found = exemplars_of(self._buckets(children, buckets))
        return [(*divmod(number, buckets), exemplar) for number, exemplar in found]

    def _buckets(self, children: Sequence[Any], buckets: int) -> list[Any]:
        values = list(map(buckets_of, children))
        if list(map(len, values)).count(buckets) != len(values):
            raise UnsupportedInstrumentError
        return list(chain.from_iterable(values))


_AFTER_BUCKETS = (["_count"], ["_count", "_sum"])


def created_of(children: Sequence[Any]) -> list[float]:
    """Return when children were created: seconds since 1970."""
    return list(map(created_at, children))


def numbers_of(values: Sequence[Any]) -> list[float]:
    """Return what values of any class have now, as floats: after ``Counter.reset`` it is an integer."""
    # An attribute is read in one piece, with a lock or without: two thirds of the time.
    if list(map(type, values)).count(InMemoryValue) == len(values):
        return list(map(float, map(number_of, values)))
    return [float(value.get()) for value in values]


def exemplars_of(values: Sequence[Any]) -> list[tuple[int, Exemplar]]:
    """Return the exemplars that there are, with their places."""
    if list(map(type, values)).count(InMemoryValue) == len(values):
        exemplars = list(map(exemplar_of, values))
    else:
        exemplars = [value.get_exemplar() for value in values]
    if exemplars.count(None) == len(exemplars):
        return []
    return [(number, exemplar) for number, exemplar in enumerate(exemplars) if exemplar]
