"""How histograms are merged, also where files have different buckets."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from prometheus_client.utils import floatToGoString

from web_prom.multiprocess.merging import Family, LabelSet, Series, total

if TYPE_CHECKING:
    from web_prom.multiprocess.kinds import Kind


class Shape:
    """Which entries of a histogram's label set a file has, in their order. The same ones are one object.

    Attributes:
        entries: The upper bound for a bucket, the sample's name for any other.
        bounds: Those of the buckets, in the same order.
        le: The same as values of the label.
        le_json: The same as JSON.
        marker: Where the sum is among the entries; None without one.
        plain: Whether it is a sum and then buckets with ascending bounds, as both writers make them.
    """

    __slots__ = ("bounds", "entries", "le", "le_json", "marker", "plain")

    def __init__(self, family: str, entries: tuple[str | float, ...]) -> None:
        self.entries = entries
        self.bounds = [entry for entry in entries if not isinstance(entry, str)]
        self.le: list[str] = list(map(floatToGoString, self.bounds))
        self.le_json = [f'"{le}"'.encode() for le in self.le]
        ascending = all(low < high for low, high in pairwise(self.bounds))
        self.marker = entries.index(family + "_sum") if family + "_sum" in entries else None
        self.plain = self.marker == 0 and 0 < len(self.bounds) == len(entries) - 1 and ascending


class Histogram(Family):
    """Buckets accumulated, then ``_count``, then ``_sum``.

    Attributes:
        shapes: Of label sets that files have with different buckets, by column.
        usual: The shape with the most entries so far, by which the keys of label sets to come are foretold.
    """

    is_single = False

    def __init__(self, kind: Kind, name: str) -> None:
        super().__init__(kind, name)
        self.shapes: dict[LabelSet, dict[int, Shape]] = {}
        self.usual: Shape | None = None
        self._known: dict[tuple[str | float, ...], Shape] = {}

    def shape(self, entries: Iterable[str | float]) -> Shape:
        """Return the shape with these entries."""
        entries = tuple(entries)
        shape = self._known.get(entries)
        if shape is None:
            shape = self._known[entries] = Shape(self.name, entries)
        return shape

    def shape_of(self, label_set: LabelSet, column: int) -> Shape:
        """Return which entries the file of a column has of a label set; it must have some."""
        return label_set.shape or self.shapes[label_set][column]

    def set_shape(self, label_set: LabelSet, column: int, shape: Shape | None) -> None:
        """Say which entries a file has of a label set; None when the file has gone."""
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

    def merged(self, label_set: LabelSet) -> tuple[float, ...]:
        """Return the buckets, the count and the sum."""
        if label_set.shape is not None and label_set.shape.plain:
            rows = filter(None, label_set.values)
            columns = list(zip(*rows, strict=True))
            try:
                sums = list(map(math.fsum, columns))
            except (OverflowError, ValueError):
                sums = list(map(total, columns))
            buckets = list(accumulate(sums[1:]))
            return (*buckets, buckets[-1], sums[0])
        values, bounds = self._by_entry(label_set)
        buckets = list(accumulate(total(values[bound]) for bound in bounds))
        others = {name: total(values[name]) for name in values if isinstance(name, str)}
        if buckets:
            others[self.name + "_count"] = buckets[-1]
        return (*buckets, *(others[name] for name in sorted(others)))

    def series(self, label_set: LabelSet) -> Sequence[Series]:
        """Return the names and labels of buckets, count and sum."""
        values, bounds = self._by_entry(label_set)
        others = {name for name in values if isinstance(name, str)}
        if bounds:
            others.add(self.name + "_count")
        bucket = self.name + "_bucket"
        return [
            *(
                (bucket, tuple(sorted((*label_set.labels, ("le", floatToGoString(bound))))))  # type: ignore[no-untyped-call]
                for bound in bounds
            ),
            *((name, label_set.labels) for name in sorted(others)),
        ]

    def _by_entry(self, label_set: LabelSet) -> tuple[dict[str | float, list[float]], list[float]]:
        """Return the values of all files for each entry, and the bounds of the buckets, ascending."""
        values: dict[str | float, list[float]] = defaultdict(list)
        for column, row in enumerate(label_set.values):
            if row is not None:
                for entry, value in zip(self.shape_of(label_set, column).entries, row, strict=True):
                    values[entry].append(value)
        return values, sorted(entry for entry in values if not isinstance(entry, str))

    def raw(self, column: int) -> Iterable[tuple[Any, ...]]:
        """Return what one file says, bucket by bucket."""
        for label_set in self.ordered:
            row = label_set.values[column]
            if row is None:
                continue
            for entry, value in zip(self.shape_of(label_set, column).entries, row, strict=True):
                if isinstance(entry, str):
                    yield entry, label_set.labels, value
                else:
                    le = ("le", floatToGoString(entry))  # type: ignore[no-untyped-call]
                    yield self.name + "_bucket", (*label_set.labels, le), value
