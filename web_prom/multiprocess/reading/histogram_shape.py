"""The entries of a label set of a histogram in a file, and the predicted bytes between their values."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from web_prom.multiprocess.file_format import LENGTH, VALUE, value_offset
from web_prom.multiprocess.reading.entry_layout import EntryLayout, layout_from_prefixes, make_entry_unpacker
from web_prom.upstream.registry import float_text


class HistogramShape:
    """The entries that a file has for a label set of a histogram, in their order.

    Equal shapes of a family are one object.

    Attributes:
        entries: The upper bound of each bucket, and the name of the sample for each other entry.
        bounds: The bounds of the buckets, in the same order.
        bound_texts: The bounds as values of the label ``le``.
        sum_index: The index of the sum among the entries. None without a sum.
        is_regular: Whether the entries are a sum and then buckets with ascending bounds, as both writers
            make them.
    """

    __slots__ = (
        "__weakref__",
        "_templates",
        "bound_texts",
        "bounds",
        "entries",
        "is_regular",
        "sum_index",
    )

    def __init__(self, family: str, entries: tuple[str | float, ...]) -> None:
        self.entries = entries
        self.bounds = [entry for entry in entries if not isinstance(entry, str)]
        self.bound_texts: list[str] = list(map(float_text, self.bounds))
        is_ascending = all(low < high for low, high in pairwise(self.bounds))
        self.sum_index = entries.index(family + "_sum") if family + "_sum" in entries else None
        self.is_regular = self.sum_index == 0 and 0 < len(self.bounds) == len(entries) - 1 and is_ascending
        self._templates: dict[tuple[int, int], EntryTemplate] = {}

    def predict(self, sum_key: bytes, bucket_key: tuple[bytes, bytes]) -> tuple[bytes, EntryTemplate]:
        """Predict the bytes before the values of a label set's entries.

        Args:
            sum_key: The key of the sum.
            bucket_key: The parts of the key of a bucket before and after the bound.

        Returns:
            The bytes before all values, joined, and the template that has the layout of the entries.
        """
        lengths = len(sum_key), len(bucket_key[0]) + len(bucket_key[1])
        template = self._templates.get(lengths)
        if template is None:
            template = self._templates[lengths] = EntryTemplate(self.bound_texts, *lengths)
        return template.fill(sum_key, bucket_key), template


class EntryTemplate:
    """The entries of a label set of a histogram without the labels. Keys of one length share a template.

    Args:
        bound_texts: The bounds of the buckets, as values of the label ``le``.
        sum_key_length: The length of the key of the sum.
        bucket_key_length: The length of the key of a bucket without the bound.

    Attributes:
        unpack: Unpacks the bytes before each value, and the value, in turn.
        layout: The offsets of the values.
        size: The size of all entries in bytes.
    """

    __slots__ = ("_parts", "layout", "size", "unpack")

    def __init__(self, bound_texts: Sequence[str], sum_key_length: int, bucket_key_length: int) -> None:
        self._parts: list[bytes] = []
        lengths = []
        bounds = [b'"%b"' % text.encode() for text in bound_texts]
        for bound, length in [
            (b"", sum_key_length),
            *((bound, bucket_key_length + len(bound)) for bound in bounds),
        ]:
            offset = value_offset(length)
            self._parts += LENGTH.pack(length), b"", bound, b"", b" " * (offset - LENGTH.size - length)
            lengths.append(offset)
        self.unpack = make_entry_unpacker(tuple(lengths))
        self.layout: EntryLayout = layout_from_prefixes(tuple(lengths))
        self.size = sum(lengths) + len(lengths) * VALUE.size

    def fill(self, sum_key: bytes, bucket_key: tuple[bytes, bytes]) -> bytes:
        """Return the bytes before all values, joined.

        Args:
            sum_key: The key of the sum.
            bucket_key: The parts of the key of a bucket before and after the bound.
        """
        parts = self._parts[:]
        before, after = bucket_key
        buckets = len(parts) // 5 - 1
        parts[1] = sum_key
        parts[6::5] = [before] * buckets
        parts[8::5] = [after] * buckets
        return b"".join(parts)
