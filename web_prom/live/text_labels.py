"""The name and the labels of a line in Prometheus' text format."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

_ESCAPES = {"\\": "\\", '"': '"', "n": "\n"}
# Labels in the usual spelling. Both take a time in proportion to the text, also for one that does not match.
_are_usual = re.compile(r'(?:[a-zA-Z_][a-zA-Z0-9_]*="[^"\\]*",?)*').fullmatch
_find_usual = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="([^"\\]*)"').findall
_QUOTED = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)
# A name that needs no quotation marks. Names of other projects may have more than Prometheus' own letters.
_is_bare = re.compile(r'[^\s{}"=,#]+').fullmatch
_SEPARATORS, _SPACES = re.compile("[, ]*"), re.compile(r"\s*")


def parse_series(key: bytes, strings: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Return the name and the labels of a series.

    Args:
        key: The text before the value.
        strings: Equal strings of all series are one object.

    Raises:
        ValueError: The text is not a series, or the bound of a bucket is no number.
    """
    text = key.decode("utf-8", "replace")
    name, brace, rest = text.partition("{")
    name = name.strip()
    if (name and not _is_bare(name)) or bool(brace) != rest.endswith("}"):
        raise ValueError(text)
    rest = rest[:-1]
    if _are_usual(rest):
        found = _find_usual(rest)
    else:
        name, found = _parse_labels(name, rest)
    if not name:
        raise ValueError(text)
    intern = strings.setdefault
    labels = {intern(label, label): intern(value, value) for label, value in found}
    # The value may be NaN, or no number at all.
    if name.endswith("_bucket") and "le" in labels and not float(labels["le"]) > -math.inf:
        raise ValueError(text)
    return intern(name, name), labels


def _parse_labels(name: str, text: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the name and the labels of a series in any spelling.

    Args:
        name: The text before the labels.
        text: The text of the labels.

    Raises:
        ValueError: The text is not a series.
    """
    labels: list[tuple[str, str]] = []
    at = _after(_SEPARATORS, text, 0)
    while at < len(text):
        label, value, at = _parse_label(text, at)
        if label is None:  # a name that is quoted: {"http.requests", ...}
            if name:
                raise ValueError(text)
            name = value
        else:
            labels.append((label, value))
        at = _after(_SEPARATORS, text, at)
    return name, labels


def _parse_label(text: str, at: int) -> tuple[str | None, str, int]:
    """Return the name and the value of the label at a position, and the position after it.

    The name is None if there is only a value.

    Raises:
        ValueError: There is no label.
    """
    if text[at] != '"':
        equals = text.index("=", at)
        label = text[at:equals].strip()
        if not _is_bare(label):
            raise ValueError(text)
        return label, *_parse_quoted(text, equals + 1)
    value, end = _parse_quoted(text, at)
    equals = _after(_SPACES, text, end)
    if text[equals : equals + 1] != "=":
        return None, value, end
    return value, *_parse_quoted(text, equals + 1)  # a quoted label name


def _parse_quoted(text: str, at: int) -> tuple[str, int]:
    """Return the text in quotation marks at a position, and the position after it."""
    found = _QUOTED.match(text, _after(_SPACES, text, at))
    if found is None:
        raise ValueError(text)
    return unescape(found[1]), found.end()


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Return the position after a pattern, which also matches nothing."""
    found = pattern.match(text, at)
    return at if found is None else found.end()


def unescape(text: str) -> str:
    """Return a label value or a help text without its escapes."""
    return "".join(_unescape(text)) if "\\" in text else text


def _unescape(text: str) -> Iterator[str]:
    escaped = False
    for sign in text:
        if escaped:
            yield _ESCAPES.get(sign, "\\" + sign)
            escaped = False
        elif sign == "\\":
            escaped = True
        else:
            yield sign
    if escaped:
        yield "\\"
