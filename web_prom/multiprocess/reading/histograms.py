"""Merging of histograms, including files with different buckets, and prediction of their entries."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any
from weakref import WeakValueDictionary

from web_prom.multiprocess.reading.columns import FileColumns
from web_prom.multiprocess.reading.histogram_shape import EntryTemplate, HistogramShape
from web_prom.multiprocess.reading.keys import predict_bucket_key
from web_prom.multiprocess.reading.merged_family import MergedFamily, exact_sum
from web_prom.multiprocess.reading.model import LabelSet, Series
from web_prom.upstream.registry import float_text


class PredictedEntries:
    """The entries of a label set that are expected after the key of a ``_sum``, in any file that has the key.

    Attributes:
        label_set: The label set of the entries.
        shape: The shape of the entries.
        layout: The offsets of their values.
        prefixes: The bytes before each value, joined.
        unpack: Unpacks the bytes before each value, and the value, in turn.
        first: The offset of the first value from the beginning of the first entry, in bytes.
        size: The size of all entries in bytes.
    """

    __slots__ = ("first", "label_set", "layout", "prefixes", "shape", "size", "unpack")

    def __init__(
        self, label_set: LabelSet, shape: HistogramShape, prefixes: bytes, template: EntryTemplate
    ) -> None:
        self.label_set = label_set
        self.shape = shape
        self.prefixes = prefixes
        self.unpack = template.unpack
        self.layout = template.layout
        self.first = template.layout.first
        self.size = template.size


class HistogramFamily(MergedFamily):
    """A histogram. Its samples are the cumulative buckets, then ``_count``, then ``_sum``.

    Attributes:
        shapes: The shapes by column, for label sets that files have with different buckets.
        usual_shape: The shape with the most entries so far. It predicts the entries of new label sets.
    """

    is_single = False

    def __init__(self, name: str, columns: FileColumns, interned: dict[str, str]) -> None:
        super().__init__(name, columns, interned)
        self.shapes: dict[LabelSet, dict[int, HistogramShape]] = {}
        self.usual_shape: HistogramShape | None = None
        # Weak: a label set that is found piece by piece has many shapes, each longer than the one before.
        self._known: WeakValueDictionary[tuple[str | float, ...], HistogramShape] = WeakValueDictionary()

    def get_shape(self, entries: Iterable[str | float]) -> HistogramShape:
        """Return the shape with these entries."""
        entries = tuple(entries)
        shape = self._known.get(entries)
        if shape is None:
            shape = self._known[entries] = HistogramShape(self.name, entries)
        return shape

    def predict(self, sum_key: bytes, labels: Mapping[str, str]) -> PredictedEntries | None:
        """Predict the entries that follow the key of a sum. Return None if that is not possible."""
        shape, bucket_key = self.usual_shape, predict_bucket_key(sum_key, labels)
        if shape is None or bucket_key is None:
            return None
        label_set = self.get_or_add(self.name, labels)
        if not label_set.has_entries:
            label_set.shape = shape
        return PredictedEntries(label_set, shape, *shape.predict(sum_key, bucket_key))

    def shape_in(self, label_set: LabelSet, column: int) -> HistogramShape:
        """Return the shape of a label set in the file of a column. The file must have entries of it."""
        return label_set.shape or self.shapes[label_set][column]

    def set_shape(self, label_set: LabelSet, column: int, shape: HistogramShape | None) -> None:
        """Set the shape of a label set in the file of a column. None if the file was removed."""
        if shape is not None and label_set.shape is shape:
            return
        shapes = self.shapes.pop(label_set, None)
        if shapes is None:
            shapes = {
                other: label_set.shape
                for other, row in enumerate(label_set.values)
                if row is not None and label_set.shape is not None
            }
        shapes.pop(column, None)
        if shape is not None:
            shapes[column] = shape
        different = set(shapes.values())
        label_set.shape = different.pop() if len(different) == 1 else None
        label_set.template = None
        if different and shapes:
            self.shapes[label_set] = shapes

    def sample_names(self) -> set[str]:
        """Return the names of the samples."""
        others = {
            entry for shape in self._known.values() for entry in shape.entries if isinstance(entry, str)
        }
        return others | {f"{self.name}{suffix}" for suffix in ("_bucket", "_count", "_sum")}

    def merge(self, label_set: LabelSet) -> tuple[float, ...]:
        """Return the buckets, the count and the sum."""
        if label_set.shape is not None and label_set.shape.is_regular:
            rows = filter(None, label_set.values)
            columns = list(zip(*rows, strict=True))
            try:
                sums = list(map(math.fsum, columns))
            except (OverflowError, ValueError):
                sums = list(map(exact_sum, columns))
            buckets = list(accumulate(sums[1:]))
            return (*buckets, buckets[-1], sums[0])
        values, bounds = self._by_entry(label_set)
        buckets = list(accumulate(exact_sum(values[bound]) for bound in bounds))
        others = {name: exact_sum(values[name]) for name in values if isinstance(name, str)}
        if buckets:
            others[self.name + "_count"] = buckets[-1]
        return (*buckets, *(others[name] for name in sorted(others)))

    def series(self, label_set: LabelSet) -> Sequence[Series]:
        """Return the names and labels of the buckets, the count and the sum."""
        values, bounds = self._by_entry(label_set)
        others = {name for name in values if isinstance(name, str)}
        if bounds:
            others.add(self.name + "_count")
        bucket = self.name + "_bucket"
        return [
            *((bucket, tuple(sorted((*label_set.labels, _bound_label(bound))))) for bound in bounds),
            *((name, label_set.labels) for name in sorted(others)),
        ]

    def file_samples(self, column: int) -> Iterable[tuple[Any, ...]]:
        """Return the samples of one file. The buckets are not cumulative."""
        for label_set in self.ordered:
            row = label_set.values[column]
            if not row:
                continue
            for entry, value in zip(self.shape_in(label_set, column).entries, row, strict=True):
                if isinstance(entry, str):
                    yield entry, label_set.labels, value
                else:
                    yield self.name + "_bucket", (*label_set.labels, _bound_label(entry)), value

    def _by_entry(self, label_set: LabelSet) -> tuple[dict[str | float, list[float]], list[float]]:
        """Return the values of all files for each entry, and the bounds of the buckets, ascending."""
        values: dict[str | float, list[float]] = defaultdict(list)
        for column, row in enumerate(label_set.values):
            if row:
                for entry, value in zip(self.shape_in(label_set, column).entries, row, strict=True):
                    values[entry].append(value)
        return values, sorted(entry for entry in values if not isinstance(entry, str))


def _bound_label(bound: float) -> tuple[str, str]:
    return "le", float_text(bound)
