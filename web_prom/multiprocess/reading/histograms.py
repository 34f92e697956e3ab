"""How histograms are merged, also where files have different buckets."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from web_prom.multiprocess.file_format import LENGTH, VALUE, value_offset
from web_prom.multiprocess.reading.keys import around_bound
from web_prom.multiprocess.reading.merged_family import Family, LabelSet, Series, total
from web_prom.multiprocess.reading.value_blocks import Layout, entries_of, layout_of
from web_prom.upstream.registry import float_text

if TYPE_CHECKING:
    from web_prom.multiprocess.reading.file_group import Kind


class Shape:
    """Which entries of a histogram's label set a file has, in their order. The same ones are one object.

    Attributes:
        entries: The upper bound for a bucket, the sample's name for any other.
        bounds: Those of the buckets, in the same order.
        le: The same as values of the label.
        marker: Where the sum is among the entries; None without one.
        plain: Whether it is a sum and then buckets with ascending bounds, as both writers make them.
    """

    __slots__ = ("__weakref__", "_frames", "bounds", "entries", "le", "marker", "plain")

    def __init__(self, family: str, entries: tuple[str | float, ...]) -> None:
        self.entries = entries
        self.bounds = [entry for entry in entries if not isinstance(entry, str)]
        self.le: list[str] = list(map(float_text, self.bounds))
        ascending = all(low < high for low, high in pairwise(self.bounds))
        self.marker = entries.index(family + "_sum") if family + "_sum" in entries else None
        self.plain = self.marker == 0 and 0 < len(self.bounds) == len(entries) - 1 and ascending
        self._frames: dict[tuple[int, int], Frame] = {}

    def foretell(self, key: bytes, around: tuple[bytes, bytes]) -> tuple[bytes, Frame]:
        """Return what stands before the values of a label set's entries, put together, and where it stands.

        Args:
            key: The sum's.
            around: What stands before the bound in the keys of the buckets, and after it.
        """
        lengths = len(key), len(around[0]) + len(around[1])
        frame = self._frames.get(lengths)
        if frame is None:
            frame = self._frames[lengths] = Frame(self.le, *lengths)
        return frame.fill(key, around), frame


class Frame:
    """The entries of a histogram's label set, but for the labels: the same for all with keys of one length.

    Args:
        le: The bounds of the buckets, as values of the label.
        of_sum: The length of the sum's key.
        of_bucket: That of a bucket's key without the bound.

    Attributes:
        gather: Takes what stands before each value out of a file, and the value, in turn.
        layout: Where the values are.
        size: From the first entry's beginning to the last one's end, in bytes.
    """

    __slots__ = ("_parts", "gather", "layout", "size")

    def __init__(self, le: Sequence[str], of_sum: int, of_bucket: int) -> None:
        self._parts: list[bytes] = []
        lengths = []
        for text, length in [
            (b"", of_sum),
            *((b'"%b"' % each.encode(), of_bucket + len(each) + 2) for each in le),
        ]:
            offset = value_offset(length)
            self._parts += LENGTH.pack(length), b"", text, b"", b" " * (offset - LENGTH.size - length)
            lengths.append(offset)
        self.gather = entries_of(tuple(lengths))
        self.layout: Layout = layout_of(tuple(lengths))
        self.size = sum(lengths) + len(lengths) * VALUE.size

    def fill(self, key: bytes, around: tuple[bytes, bytes]) -> bytes:
        """Return what stands before the values, given the sum's key and the buckets' around the bound."""
        parts = self._parts[:]
        before, after = around
        buckets = len(parts) // 5 - 1
        parts[1] = key
        parts[6::5] = [before] * buckets
        parts[8::5] = [after] * buckets
        return b"".join(parts)


class Foretold:
    """The run of entries that the key of a histogram's ``_sum`` foretells, in any file that has it.

    Attributes:
        label_set: Whose entries they are.
        shape: Which entries.
        layout: Where their values are.
        prefixes: What stands before each value, put together.
        gather: Takes that out of a file, in parts, and after each the value.
        first: Where the first value is, from the first entry's beginning, in bytes.
        size: From the first entry's beginning to the last one's end, in bytes.
    """

    __slots__ = ("first", "gather", "label_set", "layout", "prefixes", "shape", "size")

    def __init__(self, label_set: LabelSet, shape: Shape, prefixes: bytes, frame: Frame) -> None:
        self.label_set = label_set
        self.shape = shape
        self.prefixes = prefixes
        self.gather = frame.gather
        self.layout = frame.layout
        self.first = frame.layout.first
        self.size = frame.size


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
        # A label set that is found piece by piece has one after the other, each longer than the last.
        self._known: WeakValueDictionary[tuple[str | float, ...], Shape] = WeakValueDictionary()

    def shape(self, entries: Iterable[str | float]) -> Shape:
        """Return the shape with these entries."""
        entries = tuple(entries)
        shape = self._known.get(entries)
        if shape is None:
            shape = self._known[entries] = Shape(self.name, entries)
        return shape

    def foretell(self, key: bytes, labels: Mapping[str, str], columns: int) -> Foretold | None:
        """Return the run of entries that the key of a sum begins, if it can be known."""
        shape, around = self.usual, around_bound(key, labels)
        if shape is None or around is None:
            return None
        label_set = self.add(self.name, labels, columns)
        if not label_set.is_held:
            label_set.shape = shape
        return Foretold(label_set, shape, *shape.foretell(key, around))

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

    def sample_names(self) -> set[str]:
        """Return the names of its samples."""
        others = {
            entry for shape in self._known.values() for entry in shape.entries if isinstance(entry, str)
        }
        return others | {f"{self.name}{suffix}" for suffix in ("_bucket", "_count", "_sum")}

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
            *((bucket, tuple(sorted((*label_set.labels, ("le", float_text(bound)))))) for bound in bounds),
            *((name, label_set.labels) for name in sorted(others)),
        ]

    def _by_entry(self, label_set: LabelSet) -> tuple[dict[str | float, list[float]], list[float]]:
        """Return the values of all files for each entry, and the bounds of the buckets, ascending."""
        values: dict[str | float, list[float]] = defaultdict(list)
        for column, row in enumerate(label_set.values):
            if row:
                for entry, value in zip(self.shape_of(label_set, column).entries, row, strict=True):
                    values[entry].append(value)
        return values, sorted(entry for entry in values if not isinstance(entry, str))

    def raw(self, column: int) -> Iterable[tuple[Any, ...]]:
        """Return what one file says, bucket by bucket."""
        for label_set in self.ordered:
            row = label_set.values[column]
            if not row:
                continue
            for entry, value in zip(self.shape_of(label_set, column).entries, row, strict=True):
                if isinstance(entry, str):
                    yield entry, label_set.labels, value
                else:
                    le = ("le", float_text(entry))
                    yield self.name + "_bucket", (*label_set.labels, le), value
