"""The name and the labels of a line in Prometheus' text format."""

from __future__ import annotations

import re
from collections.abc import Iterator

_ESCAPES = {"\\": "\\", '"': '"', "n": "\n"}
# Labels in the usual spelling. Both take a time in proportion to the text, also for one that does not match.
_are_usual = re.compile(r'(?:[a-zA-Z_][a-zA-Z0-9_]*="[^"\\]*",?)*').fullmatch
_find_usual = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="([^"\\]*)"').findall


def parse_series(key: bytes, strings: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Return the name and the labels of a series.

    Args:
        key: The text before the value.
        strings: Equal strings of all series are one object.

    Raises:
        ValueError: The text is not a series.
    """
    text = key.decode("utf-8", "replace")
    name, brace, rest = text.partition("{")
    name = name.strip()
    rest = rest.removesuffix("}") if brace else ""
    if _are_usual(rest):
        found = _find_usual(rest)
    else:
        name, found = _parse_labels(name, rest)
    if len(name.split()) != 1:
        raise ValueError(text)
    intern = strings.setdefault
    return intern(name, name), {intern(label, label): intern(value, value) for label, value in found}


def _parse_labels(name: str, rest: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the name and the labels of a series in any spelling.

    Args:
        name: The text before the labels.
        rest: The text of the labels.

    Raises:
        ValueError: The text is not a series.
    """
    labels: list[tuple[str, str]] = []
    while rest.strip(", "):
        label, value, rest = _parse_label(rest)
        if label is None:  # a name that is quoted: {"http.requests", ...}
            name = value
        else:
            labels.append((label, value))
    return name, labels


def _parse_label(text: str) -> tuple[str | None, str, str]:
    """Return the first label's name and value, and the text after it.

    The name is None if there is only a value.

    Raises:
        ValueError: The text does not begin with a label.
    """
    text = text.lstrip(", ")
    label: str | None = None
    if not text.startswith('"'):
        label, equals, text = text.partition("=")
        text = text.lstrip()
        if not equals or not text.startswith('"'):
            raise ValueError(text)
    at = 1
    while text[at] != '"':
        at += 2 if text[at] == "\\" else 1
    value, rest = unescape(text[1:at]), text[at + 1 :]
    if label is None and rest.lstrip().startswith("="):  # a quoted label name
        name = value
        _none, value, rest = _parse_label(rest.lstrip()[1:])
        return name, value, rest
    return None if label is None else label.strip(), value, rest


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
