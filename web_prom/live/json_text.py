"""Large documents as JSON, made in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from json import JSONEncoder
from typing import Any

# Each call of the encoder keeps all other threads waiting.
_MAX_ITEMS = 20

encode = JSONEncoder(separators=(",", ":"), allow_nan=False).encode
"""Returns the JSON of a small value."""


def to_json(document: dict[str, Any]) -> bytes:
    """Return a document as JSON.

    Raises:
        ValueError: The document has a NaN or an infinity.
    """
    return "".join(_members(document, depth=1)).encode()


def _members(value: dict[str, Any], depth: int) -> Iterator[str]:
    """Yield the JSON of a dict. The dicts in it are made in pieces too, down to a depth."""
    before = "{"
    for name, member in value.items():
        yield f"{before}{encode(name)}:"
        if isinstance(member, list) and len(member) > _MAX_ITEMS:
            yield from _items(member)
        elif isinstance(member, dict) and depth:
            yield from _members(member, depth - 1)
        else:
            yield encode(member)
        before = ","
    yield "}" if value else "{}"


def _items(values: list[Any]) -> Iterator[str]:
    """Yield the JSON of a list with many items."""
    rest = iter(values)
    before = "["
    while some := list(islice(rest, _MAX_ITEMS)):
        yield before + encode(some)[1:-1]
        before = ","
    yield "]"
