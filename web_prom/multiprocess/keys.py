"""The keys of value files: what they say, and what the keys of a histogram's buckets will be."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from json.scanner import make_scanner
from typing import Any, NamedTuple

from web_prom.multiprocess.layout import LENGTH, value_offset

Labels = tuple[tuple[str, str], ...]
"""Label names and values, sorted."""

# What JSONDecoder.decode() calls; around it, that takes as long again as the decoding itself.
_decode: Callable[[str, int], tuple[Any, int]] = make_scanner(json.JSONDecoder())  # type: ignore[arg-type]
_encode = json.encoder.encode_basestring_ascii


class DamagedFileError(Exception):
    """A value file holds what cannot be; the message says what, for the log."""


class Key(NamedTuple):
    """What a key says.

    Attributes:
        family: The metric's name.
        sample: The sample's name.
        labels: With ``le``, for a bucket.
        help: The metric's documentation.
    """

    family: str
    sample: str
    labels: Labels
    help: str

    @classmethod
    def parse(cls, key: bytes) -> Key:
        """Read a key.

        Raises:
            DamagedFileError: It is none that prometheus_client would write.
        """
        try:
            text = key.decode("utf-8")
            (family, sample, labels, documentation), end = _decode(text, 0)
            items = tuple(sorted(labels.items()))
            "".join((family, sample, documentation, *labels.values()))  # raises for what is no text
        except (ValueError, TypeError, AttributeError, RecursionError, StopIteration):
            raise DamagedFileError(f"it has the key {key[:200]!r}") from None
        if not family or end != len(text):
            raise DamagedFileError(f"it has the key {key[:200]!r}")
        if b"\\ud" in key:
            return cls(
                _encodable(family),
                _encodable(sample),
                tuple((_encodable(name), _encodable(value)) for name, value in items),
                _encodable(documentation),
            )
        return cls(family, sample, items, documentation)

    def bound(self) -> float | None:
        """Return the upper bound of the bucket that this is the key of, or None for another sample.

        Raises:
            DamagedFileError: The bound is no number.
        """
        for name, value in self.labels:
            if name == "le":
                try:
                    bound = float(value)
                except ValueError:
                    bound = math.nan
                if math.isnan(bound):
                    raise DamagedFileError(f"it has a bucket with the bound {value[:200]!r}")
                return bound
        return None

    def without_bound(self) -> Labels:
        """Return the labels without ``le``."""
        return tuple(item for item in self.labels if item[0] != "le")

    def foretell(self, key: bytes, bounds: Sequence[bytes]) -> tuple[bytes, tuple[int, ...]] | None:
        """Return what stands before the values of a histogram's entries, of which this is the sum's key.

        It is only a guess, from how prometheus_client and web-prom write keys: whoever reads a file compares,
        and reads what is different key by key.

        Args:
            key: The key itself.
            bounds: Those of the buckets, as JSON.

        Returns:
            The bytes before each value, put together, and how many they are for each. None for a key that
            is written in another way.
        """
        around = self._around_bound(key)
        if around is None:
            return None
        before, after = around
        frames: dict[int, tuple[bytes, bytes, int]] = {}
        for width in set(map(len, bounds)):
            length = len(before) + width + len(after)
            offset = value_offset(length)
            end = after + b" " * (offset - LENGTH.size - length)
            frames[width] = LENGTH.pack(length) + before, end, offset
        parts = [(LENGTH.pack(len(key)) + key).ljust(value_offset(len(key)))]
        lengths = [len(parts[0])]
        for bound in bounds:
            beginning, end, length = frames[len(bound)]
            parts += (beginning, bound, end)
            lengths.append(length)
        return b"".join(parts), tuple(lengths)

    def _around_bound(self, key: bytes) -> tuple[bytes, bytes] | None:
        """Return the key of a bucket before and after its bound, made from that of the sum, this one."""
        names, opening, rest = key.partition(b'_sum", {')
        following = [name for name, _ in self.labels if name > "le"]
        if following:
            # Inside a text a quotation mark has a backslash before it, so that this is no text but a name.
            before, label, after = rest.partition(f"{_encode(following[0])}: ".encode())
            after = b", " + label + after
        elif self.labels:
            name, value = self.labels[-1]
            before, label, after = rest.partition(f"{_encode(name)}: {_encode(value)}".encode())
            before += label + b", "
        else:
            before, after = b"", rest
        if not (opening and after):
            return None
        return names + b'_bucket", {' + before + b'"le": ', after


def _encodable(text: str) -> str:
    """Return a text that can be sent: surrogates, from bytes that were no UTF-8, would fail every scrape."""
    return text.encode("utf-8", "replace").decode("utf-8")
