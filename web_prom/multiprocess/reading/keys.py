"""Parsing of the keys of value files, and prediction of the keys of histogram buckets."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from json.scanner import make_scanner
from typing import Any, NamedTuple

from web_prom.multiprocess.file_entries import CorruptFileError

Labels = tuple[tuple[str, str], ...]
"""The names and values of labels, sorted by name."""

# The function that JSONDecoder.decode() calls. The rest of decode() takes as long as this function.
_decode: Callable[[str, int], tuple[Any, int]] = make_scanner(json.JSONDecoder())  # type: ignore[arg-type]
_encode = json.encoder.encode_basestring_ascii

# The characters that JSON never escapes.
_UNESCAPED = bytes(each for each in range(32, 127) if each != ord("\\"))
_ESCAPED = bytes(each for each in range(256) if each not in _UNESCAPED)
# Control characters. A key never contains one, so they can stand for the text that keys have in common.
_SEPARATORS = bytes(each for each in range(32) if each != ord("\n"))
_SEPARATORS_TO_QUOTES = bytes.maketrans(_SEPARATORS, b'"' * len(_SEPARATORS))


class ParsedKey(NamedTuple):
    """The contents of a key.

    Attributes:
        family: The name of the metric.
        sample: The name of the sample.
        labels: The labels. A bucket has the label ``le`` too.
        help: The documentation of the metric.
    """

    family: str
    sample: str
    labels: Labels
    help: str

    @classmethod
    def parse(cls, key: bytes) -> ParsedKey:
        """Parse a key.

        Raises:
            CorruptFileError: prometheus_client writes no such key.
        """
        family, sample, labels, documentation = decode_key(key)
        return cls(family, sample, tuple(sorted(labels.items())), documentation)

    def bucket_bound(self) -> float | None:
        """Return the upper bound of a bucket. Return None if this is not the key of a bucket.

        Raises:
            CorruptFileError: The bound is not a number.
        """
        for name, value in self.labels:
            if name == "le":
                try:
                    bound = float(value)
                except ValueError:
                    bound = math.nan
                if math.isnan(bound):
                    raise CorruptFileError(f"it has a bucket with the bound {value[:200]!r}")
                return bound
        return None

    def labels_without_bound(self) -> Labels:
        """Return the labels without ``le``."""
        return tuple(item for item in self.labels if item[0] != "le")


def decode_key(key: bytes) -> tuple[str, str, dict[str, str], str]:
    """Return the contents of a key: the names of the metric and the sample, the labels, the documentation.

    Raises:
        CorruptFileError: prometheus_client writes no such key.
    """
    try:
        text = str(key, "utf-8")
        (family, sample, labels, documentation), end = _decode(text, 0)
        "".join((family, sample, documentation, *labels.values()))  # raises TypeError if one is not a string
    except (ValueError, TypeError, AttributeError, RecursionError, StopIteration):
        raise CorruptFileError(f"it has the key {key[:200]!r}") from None
    if not family or end != len(text):
        raise CorruptFileError(f"it has the key {key[:200]!r}")
    if b"\\ud" in key:
        labels = {_replace_surrogates(name): _replace_surrogates(value) for name, value in labels.items()}
        family, sample, documentation = map(_replace_surrogates, (family, sample, documentation))
    return family, sample, labels, documentation


def decode_similar_keys(keys: Sequence[bytes]) -> tuple[str, str, dict[str, list[str]]] | None:
    """Decode many keys that differ only in the values of labels.

    This takes a fifth of the time of decoding each key. The text that all keys have in common is replaced by
    control characters, which no key contains. Then the rest can be split.

    Args:
        keys: The keys.

    Returns:
        The name of the metric, the name of the sample, and for each label its values in the order of the
        keys. None if the keys differ in anything else or contain escaped characters.

    Raises:
        CorruptFileError: prometheus_client does not write a key like the first one.
    """
    family, sample, labels, documentation = decode_key(keys[0])
    if not 0 < len(labels) < len(_SEPARATORS):
        return None
    template = json.dumps([family, sample, dict.fromkeys(labels, "\0"), documentation], ensure_ascii=False)
    first, *between, last = template.encode().split(b"\\u0000")
    text = b"\n".join(keys)
    lines = text.translate(None, _ESCAPED)
    if len(lines) != len(text) - len(keys) + 1 or not (text.startswith(first) and text.endswith(last)):
        return None
    text = text[len(first) : -len(last)]
    separators = _SEPARATORS[: len(labels)]
    for separator, common in zip(separators, (last + b"\n" + first, *between), strict=True):
        text = text.replace(common, b"%c" % separator)
    expected = (separators[1:] + separators[:1]) * (len(keys) - 1) + separators[1:]
    if b'"' in text or text.translate(None, _UNESCAPED) != expected:
        return None
    values = text.translate(_SEPARATORS_TO_QUOTES).decode("ascii").split('"')
    return family, sample, {name: values[index :: len(labels)] for index, name in enumerate(labels)}


def predict_bucket_key(sum_key: bytes, labels: Mapping[str, str]) -> tuple[bytes, bytes] | None:
    """Predict the keys of the buckets of a histogram from the key of the sum.

    The prediction follows the way in which prometheus_client and web-prom write keys. The caller has to
    compare it with the bytes of the file.

    Args:
        sum_key: The key of the sum.
        labels: The labels in this key.

    Returns:
        The parts of the key before and after the bound. None if the key is written in another way.
    """
    names, separator, rest = sum_key.partition(b'_sum", {')
    following = min([name for name in labels if name > "le"], default=None)
    if following is not None:
        # Quotation marks inside a JSON string are escaped, so that this matches only the name of a label.
        before, label, after = rest.partition(b"%b: " % _encode(following).encode())
        after = b", " + label + after
    elif labels:
        name = max(labels)
        before, label, after = rest.partition(f"{_encode(name)}: {_encode(labels[name])}".encode())
        before += label + b", "
    else:
        before, after = b"", rest
    if not (separator and after):
        return None
    return b'%b_bucket", {%b"le": ' % (names, before), after


def _replace_surrogates(text: str) -> str:
    """Replace surrogates, which come from bytes that are not UTF-8. They would make every scrape fail."""
    return text.encode("utf-8", "replace").decode("utf-8")
