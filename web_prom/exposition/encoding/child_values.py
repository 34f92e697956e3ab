"""The values of an instrument's children, read straight and in the order of its samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, chain
from operator import attrgetter
from typing import Any

from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.samples import Exemplar
from prometheus_client.values import MutexValue

from web_prom.exposition.encoding.line_templates import CREATED, SampleSchema

Rows = Sequence[Sequence[float]]
"""For each child, the value of each of its samples."""

Exemplars = list[tuple[int, int, Exemplar]]
"""Exemplars, each with the places of its child and of its sample."""

# What makes samples of an instrument: as upstream has it, or everything is left to it.
_METHODS = ("collect", "_samples", "_multi_samples", "_child_samples", "_get_metric", "_is_parent")
# A gauge's callback is such a method, which is looked at with each child.
_OWN = frozenset(_METHODS) - {"_child_samples"}
_CALLBACK = "Gauge.set_function.<locals>.samples"

_numbers: Callable[[Any], Any] = attrgetter("_value")
_exemplars: Callable[[Any], Any] = attrgetter("_exemplar")
_function: Callable[[Any], Any] = attrgetter("_child_samples.__func__")


class UnsupportedInstrumentError(Exception):
    """An instrument gives what cannot be read straight; upstream can."""


class ValueReader:
    """How to read the children of instruments of one class: here, of one with a value for each sample.

    Args:
        kind: The class.
        values: For each suffix of a sample, the attribute that has its value; ``_created`` aside, here and
            in the methods.
    """

    def __init__(self, kind: type[MetricWrapperBase], **values: str) -> None:
        self.kind = kind
        self._values = values

    def samples_of(self, child: Any) -> tuple[SampleSchema, ...]:
        """Return which samples a child has, as upstream's class gives them; ``_created`` is the last.

        Raises:
            UnsupportedInstrumentError: Others than those that are known here.
        """
        made = self.kind._child_samples(child)
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
        stock = self.kind._child_samples
        try:
            own = list(map(_function, children)).count(stock) != len(children)
        except AttributeError:
            own = True
        if own:
            raise UnsupportedInstrumentError

    def _column(self, children: Sequence[Any], suffix: str) -> list[float]:
        return numbers_of(list(map(attrgetter(self._values[suffix]), children)))


class CounterValueReader(ValueReader):
    """Counters, which may have an exemplar."""

    def exemplars(self, children: Sequence[Any], forms: Sequence[SampleSchema]) -> Exemplars:
        """Return the exemplars that there are."""
        place = [suffix for suffix, _ in forms].index("_total")
        found = exemplars_of([child._value for child in children])
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
        return [
            (float(child._child_samples()[0].value if callback else child._value.get()),)
            for child, callback in zip(children, called, strict=True)
        ]

    def _is_callback(self, child: Any) -> bool:
        function = getattr(child._child_samples, "__func__", None)
        if function is self.kind._child_samples:
            return False
        names = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
        if names != (self.kind.__module__, _CALLBACK):
            raise UnsupportedInstrumentError
        return True


class HistogramValueReader(ValueReader):
    """Histograms: buckets, of which each sample has what those before it have too."""

    def check(self, child: Any, forms: Sequence[SampleSchema]) -> None:
        """Raise UnsupportedInstrumentError for samples that are not known here."""
        buckets = len(child._upper_bounds)
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
        values = list(map(attrgetter("_buckets"), children))
        if list(map(len, values)).count(buckets) != len(values):
            raise UnsupportedInstrumentError
        return list(chain.from_iterable(values))


_AFTER_BUCKETS = (["_count"], ["_count", "_sum"])


def created_of(children: Sequence[Any]) -> list[float]:
    """Return when children were created: seconds since 1970."""
    return list(map(attrgetter(CREATED), children))


def is_unmodified(collector: Any) -> bool:
    """Tell whether an instrument's methods are upstream's, of its class and of its own."""
    kind = type(collector)
    methods = [getattr(kind, name) for name in _METHODS]
    return vars(collector).keys().isdisjoint(_OWN) and all(
        method.__module__ == kind.__module__ for method in methods
    )


def numbers_of(values: Sequence[Any]) -> list[float]:
    """Return what values of any class have now, as floats: after ``Counter.reset`` it is an integer."""
    # An attribute is read in one piece, with a lock or without: two thirds of the time.
    if list(map(type, values)).count(MutexValue) == len(values):
        return list(map(float, map(_numbers, values)))
    return [float(value.get()) for value in values]


def exemplars_of(values: Sequence[Any]) -> list[tuple[int, Exemplar]]:
    """Return the exemplars that there are, with their places."""
    if list(map(type, values)).count(MutexValue) == len(values):
        exemplars = list(map(_exemplars, values))
    else:
        exemplars = [value.get_exemplar() for value in values]
    if exemplars.count(None) == len(exemplars):
        return []
    return [(number, exemplar) for number, exemplar in enumerate(exemplars) if exemplar]
