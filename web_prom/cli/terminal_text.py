"""Text for a terminal: its width, and the characters that a terminal can show."""

from __future__ import annotations

import codecs
import unicodedata

from web_prom.cli.numbers import ABSENT, BARS

_ASCII = str.maketrans(
    {**dict(zip(BARS, "_..--==#", strict=True)), ABSENT: "-", "µ": "u", "·": "|", "…": "~", "≥": ">"}
)

SUBSTITUTE = "web_prom.substitute"
"""The error handler of a stream that writes ASCII for characters that its encoding does not have."""


def to_ascii(text: str) -> str:
    """Return text for a terminal that shows ASCII only."""
    return text.translate(_ASCII).encode("ascii", "replace").decode()


def _substitute(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return to_ascii(error.object[error.start : error.end]), error.end


codecs.register_error(SUBSTITUTE, _substitute)


def clean(text: str) -> str:
    """Return text of a service without characters that change a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def width_of(text: str) -> int:
    """Return how many columns a terminal uses for text."""
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1
        for sign in text
    )


def cut(text: str, width: int) -> str:
    """Return text that uses no more than some columns."""
    if width_of(text) <= width:
        return text
    while text and width_of(text) > width - 1:
        text = text[:-1]
    return f"{text}…" if width > 0 else ""


def padded(text: str, width: int) -> str:
    """Return text with blanks at its end, so that it uses some columns."""
    return text + " " * (width - width_of(text))
