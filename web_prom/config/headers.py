"""What HTTP allows in methods and headers."""

from __future__ import annotations

import re

# https://www.rfc-editor.org/rfc/rfc9110#name-tokens
is_token = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
"""Match a text that can be a method or the name of a header."""

_is_value = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch


def is_header(name: str, value: str) -> bool:
    """Return whether a client can send a header: a name of HTTP, and one line of Latin-1."""
    return bool(is_token(name) and _is_value(value))
