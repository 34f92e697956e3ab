"""A terminal that a program fills again and again: its screen, size, keys and restoration."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

_ENTER = "\x1b[?1049h\x1b[?25l"  # the other screen, without a cursor
_LEAVE = "\x1b[?25h\x1b[?1049l"
_HOME = "\x1b[H"
_END_OF_LINE = "\x1b[K"
_END_OF_SCREEN = "\x1b[J"
_SEQUENCE = re.compile(r"\x1b(?:\[[0-9;]*[@-~]|O.)?")
_TICK_SECONDS = 0.1
_DEFAULT_SIZE = (80, 24)


class Terminal:
    """The terminal of a program. Leave it with the ``with`` statement, which restores it after any end.

    Keys are read if the standard input is a terminal. Ctrl-C raises KeyboardInterrupt, and SIGTERM raises
    SystemExit. Ctrl-Z restores the terminal before the process stops.

    Args:
        stream: Where frames are written: a terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._modes: list[Any] | None = None
        self._handlers: dict[int, Any] = {}
        self._is_writing = self._must_suspend = False

    @property
    def has_keys(self) -> bool:
        """Whether keys are read."""
        return self._modes is not None

    def __enter__(self) -> Terminal:
        """Open the other screen."""
        self._prepare()
        for name, handler in (("SIGTERM", _end), ("SIGTSTP", self._on_suspend)):
            number = getattr(signal, name, None)
            if number is not None:
                self._handlers[number] = signal.signal(number, handler)
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the terminal."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._restore()

    def show(self, lines: Sequence[str]) -> None:
        """Fill the screen with lines."""
        body = f"{_END_OF_LINE}\r\n".join(lines)
        self._write(f"{_HOME}{body}{_END_OF_LINE}{_END_OF_SCREEN}")

    def wait(self, seconds: float, size: tuple[int, int]) -> Iterator[str]:
        """Yield keys until the time is over or the terminal has another size than the given one."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and size_of(self._stream) == size:
            yield from self._keys(min(left, _TICK_SECONDS))

    def _keys(self, seconds: float) -> str:
        """Return the keys that are pressed within some seconds."""
        if self._modes is None:
            time.sleep(seconds)
            return ""
        descriptor = sys.stdin.fileno()
        if not select.select([descriptor], [], [], seconds)[0]:
            return ""
        data = os.read(descriptor, 64)
        if not data:  # the terminal is gone
            self._modes = None
        # A key such as an arrow is a sequence that begins with an escape.
        return _SEQUENCE.sub("", data.decode("ascii", "ignore"))

    def _prepare(self) -> None:
        # Windows has no termios.
        if sys.platform != "win32" and sys.stdin is not None and sys.stdin.isatty():
            import termios
            import tty

            with contextlib.suppress(OSError, ValueError, termios.error):
                self._modes = termios.tcgetattr(sys.stdin.fileno())
                tty.setcbreak(sys.stdin.fileno())
        self._write(_ENTER)

    def _restore(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._write(_LEAVE)
        if sys.platform != "win32" and self._modes is not None:
            import termios

            with contextlib.suppress(termios.error):
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._modes)

    def _on_suspend(self, *_: object) -> None:
        # A signal can come in the middle of a write, where the stream accepts no other write.
        if self._is_writing:
            self._must_suspend = True
        else:
            self._suspend()

    def _suspend(self) -> None:
        self._must_suspend = False
        self._restore()
        if sys.platform != "win32":
            os.kill(os.getpid(), signal.SIGSTOP)
        self._prepare()

    def _write(self, text: str) -> None:
        self._is_writing = True
        try:
            self._stream.write(text)
            self._stream.flush()
        finally:
            self._is_writing = False
        if self._must_suspend:
            self._suspend()


def is_screen(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that can be filled again and again."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def size_of(stream: TextIO) -> tuple[int, int]:
    """Return the columns and the lines of a terminal, or 80 and 24."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        size = shutil.get_terminal_size(_DEFAULT_SIZE)
    return size.columns or _DEFAULT_SIZE[0], size.lines or _DEFAULT_SIZE[1]


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)
