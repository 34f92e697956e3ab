"""Headers that a client sends."""

from __future__ import annotations

import re

_is_name = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_is_value = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch


def is_header(name: str, value: str) -> bool:
    """Return whether a client can send a header: a name of HTTP, and one line of Latin-1."""
    return bool(_is_name(name) and _is_value(value))
