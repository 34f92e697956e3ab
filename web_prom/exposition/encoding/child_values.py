"""Readers for the values of an instrument's children, in the order of its samples."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any

from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.samples import Exemplar

from web_prom.exposition.encoding.line_templates import SampleSchema
from web_prom.upstream.children import (
    CREATED,
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
"""The values of each child, in the order of its samples."""

Exemplars = list[tuple[int, int, Exemplar]]
"""Exemplars, each with the positions of its child and of its sample."""

_CALLBACK = "Gauge.set_function.<locals>.samples"
_SUFFIXES_AFTER_BUCKETS = (["_count"], ["_count", "_sum"])


class UnsupportedInstrumentError(Exception):
    """The values of an instrument cannot be read from its attributes. It has to be collected."""


class ValueReader:
    """Reads the children of instruments of one class. This base class reads one attribute for each sample.

    The samples ``_created`` are not read: they are neither in ``SAMPLE_VALUES`` nor in the arguments of the
    methods.

    Args:
        instrument_class: The class of the instruments.
    """

    def __init__(self, instrument_class: type[MetricWrapperBase]) -> None:
        self.instrument_class = instrument_class
        self._getters = SAMPLE_VALUES[instrument_class]

    def samples_of(self, child: Any) -> tuple[SampleSchema, ...]:
        """Return the samples of a child, as prometheus_client defines them. ``_created`` is the last one.

        Raises:
            UnsupportedInstrumentError: There are samples that this reader does not support.
        """
        samples = child_samples(child)
        schemas = tuple([SampleSchema(sample[0], tuple(sample[1].items())) for sample in samples])
        if any(any(field is not None for field in (sample[3], *sample[5:])) for sample in samples):
            raise UnsupportedInstrumentError
        last = len(schemas) - (schemas[-1].suffix == CREATED)
        self.check_samples(child, schemas[:last])
        return schemas

    def check_samples(self, child: Any, samples: Sequence[SampleSchema]) -> None:
        """Raise UnsupportedInstrumentError if there are samples that this reader does not support."""
        if any(labels or suffix not in self._getters for suffix, labels in samples):
            raise UnsupportedInstrumentError

    def rows(self, children: Sequence[Any], samples: Sequence[SampleSchema]) -> Rows:
        """Return the current values of children.

        Raises:
            UnsupportedInstrumentError: A child overrides the method that creates its samples.
        """
        self.check_methods(children)
        return list(zip(*[self._column(children, suffix) for suffix, _ in samples], strict=True))

    def exemplars(self, children: Sequence[Any], samples: Sequence[SampleSchema]) -> Exemplars:
        """Return the current exemplars of children."""
        return []

    def check_methods(self, children: Sequence[Any]) -> None:
        """Raise UnsupportedInstrumentError if a child overrides the method that creates its samples."""
        function = class_samples_function(self.instrument_class)
        try:
            overridden = list(map(samples_function, children)).count(function) != len(children)
        except AttributeError:
            overridden = True
        if overridden:
            raise UnsupportedInstrumentError

    def _column(self, children: Sequence[Any], suffix: str) -> list[float]:
        return floats_of(list(map(self._getters[suffix], children)))


class CounterValueReader(ValueReader):
    """Reads counters, which can have an exemplar."""

    def exemplars(self, children: Sequence[Any], samples: Sequence[SampleSchema]) -> Exemplars:
        """Return the current exemplars of children."""
        position = [suffix for suffix, _ in samples].index("_total")
        exemplars = exemplars_of(list(map(self._getters["_total"], children)))
        return [(child, position, exemplar) for child, exemplar in exemplars]


class GaugeValueReader(ValueReader):
    """Reads gauges, which can have a callback."""

    def rows(self, children: Sequence[Any], samples: Sequence[SampleSchema]) -> Rows:
        """Return the current values of children, or the results of their callbacks.

        Raises:
            UnsupportedInstrumentError: A child overrides its samples other than by ``set_function``.
            Exception: What a callback raises.
        """
        try:
            return super().rows(children, samples)
        except UnsupportedInstrumentError:
            has_callback = [self._has_callback(child) for child in children]
        value = self._getters[""]
        return [
            (float(own_samples(child)[0].value if calls else value(child).get()),)
            for child, calls in zip(children, has_callback, strict=True)
        ]

    def _has_callback(self, child: Any) -> bool:
        try:
            function = samples_function(child)
        except AttributeError:
            raise UnsupportedInstrumentError from None
        if function is class_samples_function(self.instrument_class):
            return False
        names = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
        if names != (self.instrument_class.__module__, _CALLBACK):
            raise UnsupportedInstrumentError
        return True


class HistogramValueReader(ValueReader):
    """Reads histograms. The samples of their buckets are cumulative."""

    def check_samples(self, child: Any, samples: Sequence[SampleSchema]) -> None:
        """Raise UnsupportedInstrumentError if there are samples that this reader does not support."""
        buckets = len(upper_bounds(child))
        suffixes = [suffix for suffix, _ in samples]
        if suffixes[:buckets] != ["_bucket"] * buckets or suffixes[buckets:] not in _SUFFIXES_AFTER_BUCKETS:
            raise UnsupportedInstrumentError

    def rows(self, children: Sequence[Any], samples: Sequence[SampleSchema]) -> Rows:
        """Return the current values of children.

        Raises:
            UnsupportedInstrumentError: A child overrides the method that creates its samples.
        """
        self.check_methods(children)
        suffixes = [suffix for suffix, _ in samples]
        buckets = suffixes.count("_bucket")
        counts = floats_of(self._buckets(children, buckets))
        sums = self._column(children, "_sum") if "_sum" in suffixes else None
        rows = []
        for child in range(len(children)):
            start = child * buckets
            row = list(accumulate(counts[start : start + buckets], initial=0.0))
            del row[0]
            row.append(row[-1])
            if sums is not None:
                row.append(sums[child])
            rows.append(row)
        return rows

    def exemplars(self, children: Sequence[Any], samples: Sequence[SampleSchema]) -> Exemplars:
        """Return the current exemplars of children."""
        buckets = [suffix for suffix, _ in samples].count("_bucket")
        exemplars = exemplars_of(self._buckets(children, buckets))
        return [(*divmod(index, buckets), exemplar) for index, exemplar in exemplars]

    def _buckets(self, children: Sequence[Any], buckets: int) -> list[Any]:
        values = list(map(buckets_of, children))
        if list(map(len, values)).count(buckets) != len(values):
            raise UnsupportedInstrumentError
        return list(chain.from_iterable(values))


def created_of(children: Sequence[Any]) -> list[float]:
    """Return the creation times of children in seconds since 1970."""
    return list(map(created_at, children))


def floats_of(values: Sequence[Any]) -> list[float]:
    """Return the current numbers of value objects as floats. ``Counter.reset`` stores an integer."""
    # Reading an attribute is atomic without the lock of the value, and takes two thirds of the time.
    if list(map(type, values)).count(InMemoryValue) == len(values):
        return list(map(float, map(number_of, values)))
    return [float(value.get()) for value in values]


def exemplars_of(values: Sequence[Any]) -> list[tuple[int, Exemplar]]:
    """Return the current exemplars of value objects, each with its index."""
    if list(map(type, values)).count(InMemoryValue) == len(values):
        exemplars = list(map(exemplar_of, values))
    else:
        exemplars = [value.get_exemplar() for value in values]
    if exemplars.count(None) == len(exemplars):
        return []
    return [(index, exemplar) for index, exemplar in enumerate(exemplars) if exemplar]
