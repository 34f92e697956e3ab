"""The keys of value files: what they say, and what the keys of a histogram's buckets will be."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from json.scanner import make_scanner
from typing import Any, NamedTuple

Labels = tuple[tuple[str, str], ...]
"""Label names and values, sorted."""

# What JSONDecoder.decode() calls; around it, that takes as long again as the decoding itself.
_decode: Callable[[str, int], tuple[Any, int]] = make_scanner(json.JSONDecoder())  # type: ignore[arg-type]
_encode = json.encoder.encode_basestring_ascii

# What stands in a text as it is; all other characters JSON writes in another way.
_SIMPLE = bytes(each for each in range(32, 127) if each != ord("\\"))
_NOT_SIMPLE = bytes(each for each in range(256) if each not in _SIMPLE)
_MARKS = bytes(each for each in range(32) if each != ord("\n"))
_MARKS_TO_QUOTES = bytes.maketrans(_MARKS, b'"' * len(_MARKS))


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
        family, sample, labels, documentation = decode(key)
        return cls(family, sample, tuple(sorted(labels.items())), documentation)

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


def decode(key: bytes) -> tuple[str, str, dict[str, str], str]:
    """Return what a key says: the metric's name, the sample's, the labels, and the documentation.

    Raises:
        DamagedFileError: It is none that prometheus_client would write.
    """
    try:
        text = str(key, "utf-8")
        (family, sample, labels, documentation), end = _decode(text, 0)
        "".join((family, sample, documentation, *labels.values()))  # raises for what is no text
    except (ValueError, TypeError, AttributeError, RecursionError, StopIteration):
        raise DamagedFileError(f"it has the key {key[:200]!r}") from None
    if not family or end != len(text):
        raise DamagedFileError(f"it has the key {key[:200]!r}")
    if b"\\ud" in key:
        labels = {_encodable(name): _encodable(value) for name, value in labels.items()}
        return _encodable(family), _encodable(sample), labels, _encodable(documentation)
    return family, sample, labels, documentation


def take_apart(keys: Sequence[bytes]) -> tuple[str, str, dict[str, list[str]]] | None:
    """Read many keys at once that differ in the values of labels only, in a fifth of the time.

    What they have in common becomes single characters, which no key has, so that what is left can be split.

    Args:
        keys: The keys.

    Returns:
        The metric's name, the sample's, and the values of each label, in the order of the keys. None where
        they differ in something else, or are not as simple as most are.

    Raises:
        DamagedFileError: The first one is no key.
    """
    family, sample, labels, documentation = decode(keys[0])
    if not 0 < len(labels) < len(_MARKS):
        return None
    around = json.dumps([family, sample, dict.fromkeys(labels, "\0"), documentation], ensure_ascii=False)
    first, *between, last = around.encode().split(b"\\u0000")
    text = b"\n".join(keys)
    lines = text.translate(None, _NOT_SIMPLE)
    if len(lines) != len(text) - len(keys) + 1 or not (text.startswith(first) and text.endswith(last)):
        return None
    text = text[len(first) : -len(last)]
    marks = _MARKS[: len(labels)]
    for mark, common in zip(marks, (last + b"\n" + first, *between), strict=True):
        text = text.replace(common, b"%c" % mark)
    if b'"' in text or text.translate(None, _SIMPLE) != (marks[1:] + marks[:1]) * (len(keys) - 1) + marks[1:]:
        return None
    values = text.translate(_MARKS_TO_QUOTES).decode("ascii").split('"')
    return family, sample, {name: values[place :: len(labels)] for place, name in enumerate(labels)}


def around_bound(key: bytes, labels: Mapping[str, str]) -> tuple[bytes, bytes] | None:
    """Return the key of a histogram's bucket, before and after the bound, made from the key of the sum.

    It is only a guess, from how prometheus_client and web-prom write keys: whoever reads a file compares.

    Args:
        key: The sum's.
        labels: What it says of labels.

    Returns:
        Both parts; None for a key that is written in another way.
    """
    names, opening, rest = key.partition(b'_sum", {')
    following = min([name for name in labels if name > "le"], default=None)
    if following is not None:
        # Inside a text a quotation mark has a backslash before it, so that this is no text but a name.
        before, label, after = rest.partition(b"%b: " % _encode(following).encode())
        after = b", " + label + after
    elif labels:
        name = max(labels)
        before, label, after = rest.partition(f"{_encode(name)}: {_encode(labels[name])}".encode())
        before += label + b", "
    else:
        before, after = b"", rest
    if not (opening and after):
        return None
    return b'%b_bucket", {%b"le": ' % (names, before), after


def _encodable(text: str) -> str:
    """Return a text that can be sent: surrogates, from bytes that were no UTF-8, would fail every scrape."""
    return text.encode("utf-8", "replace").decode("utf-8")
