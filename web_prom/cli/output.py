"""Lines on a terminal or in a file: with the colours of rich where it is installed, or as plain text."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TextIO

from web_prom.cli.frame import Line
from web_prom.cli.terminal_text import to_ascii

if TYPE_CHECKING:
    from rich.text import Text

STYLES = {
    "title": "bold",
    "bold": "bold",
    "dim": "dim",
    "header": "bold underline",
    "bar": "cyan",
    "ok": "green",
    "info": "blue",
    "warning": "yellow",
    "critical": "bold red",
}
"""The styles of spans, as rich names them."""


class Painter:
    """Turns lines into the text for one stream.

    Args:
        stream: Where the text goes. Colours are used only if it is a terminal, NO_COLOR is not set and rich
            is installed.
    """

    def __init__(self, stream: TextIO) -> None:
        self._is_ascii = not _can_encode(stream.encoding or "ascii")
        self._color_system = _color_system(stream)

    def paint(self, lines: Sequence[Line], width: int) -> list[str]:
        """Return lines with the sequences for colours."""
        if self._color_system is None:
            painted = ["".join(span.text for span in line).rstrip() for line in lines]
        else:
            painted = _colored(lines, width, self._color_system)
        return [to_ascii(line) for line in painted] if self._is_ascii else painted


def has_rich() -> bool:
    """Return whether rich can be imported."""
    return find_spec("rich") is not None


def as_svg(lines: Sequence[Line], width: int, title: str) -> str:
    """Return a picture of a terminal with the lines. It needs rich."""
    from rich.console import Console

    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, legacy_windows=False)
    for line in lines:
        console.print(_rich_text(line), overflow="crop", no_wrap=True)
    return console.export_svg(title=title)


def _colored(lines: Sequence[Line], width: int, color_system: Any) -> list[str]:
    from rich.console import Console

    file = io.StringIO()
    console = Console(
        file=file, width=width, force_terminal=True, color_system=color_system, legacy_windows=False
    )
    for line in lines:
        console.print(_rich_text(line), overflow="crop", no_wrap=True)
    return file.getvalue().split("\n")[: len(lines)]


def _rich_text(line: Line) -> Text:
    from rich.text import Text

    text = Text()
    for span in line:
        text.append(span.text, STYLES.get(span.style, ""))
    return text


def _color_system(stream: TextIO) -> str | None:
    if os.environ.get("NO_COLOR") or not stream.isatty() or not has_rich():
        return None
    from rich.console import Console

    return Console(file=stream).color_system


def _can_encode(encoding: str) -> bool:
    try:
        "▁█µ·…".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
