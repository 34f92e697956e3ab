"""``web-prom top`` on a terminal: its screen, keys, another size, and every way to end."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.web_prom.cli.services import growing, serving
from tests.web_prom.support import ROOT
from web_prom.cli.terminal import Terminal

pytestmark = pytest.mark.slow  # the tests start processes

PATIENCE_SECONDS = 20.0


class Screen:
    """A program on a terminal of its own."""

    def __init__(self, *arguments: str, **environ: str) -> None:
        self.master, self._slave = pty.openpty()
        self.resize(80, 24)
        self.modes = termios.tcgetattr(self._slave)
        kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "web_prom", *arguments],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env={**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **environ},
            start_new_session=True,
            preexec_fn=_take_terminal,  # noqa: PLW1509 - no other thread runs in the tests
        )
        self.text = ""

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def wait_for(self, pattern: str) -> str:
        """Wait until the text after the previous match matches; return what was shown until then."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := re.search(pattern, self.text, re.DOTALL)):
            assert time.monotonic() < deadline, self.text
            self._read()
        shown, self.text = self.text[: found.end()], self.text[found.end() :]
        return shown

    def end(self) -> int:
        """Wait for the end of the program; return its exit code."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.text
            self._read()
        while self._read():
            pass
        return self.process.returncode

    @property
    def is_restored(self) -> bool:
        return termios.tcgetattr(self._slave) == self.modes and self.text.endswith("\x1b[?25h\x1b[?1049l")

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self._slave)

    def _read(self) -> bool:
        if not select.select([self.master], [], [], 0.1)[0]:
            return False
        self.text += os.read(self.master, 65536).decode("utf-8", "replace")
        return True


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextlib.contextmanager
def running(*options: str, **environ: str) -> Iterator[Screen]:
    """Run ``top`` on a terminal, and wait until it shows a route."""
    with serving(growing()) as url:
        screen = Screen("top", url, "--interval", "0.2", *options, **environ)
        try:
            screen.wait_for("GET /orders")
            yield screen
        finally:
            screen.close()


@pytest.fixture
def screen() -> Iterator[Screen]:
    with running() as screen:
        yield screen


def test_top_ends_with_a_key_and_restores_the_terminal(screen: Screen) -> None:
    screen.press(b"q")
    assert (screen.end(), screen.is_restored) == (0, True)


@pytest.mark.parametrize(("end", "code"), [(b"\x03", 130), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_top_restores_the_terminal_after_a_signal(screen: Screen, end: Any, code: int) -> None:
    if isinstance(end, bytes):
        screen.press(end)
    else:
        screen.process.send_signal(end)
    assert (screen.end(), screen.is_restored) == (code, True)
    assert "Traceback" not in screen.text


def test_top_sorts_by_the_key_that_is_pressed(screen: Screen) -> None:
    screen.wait_for("by time")
    screen.press(b"p")
    screen.wait_for("by p95")
    screen.press(b"\x1b[A")  # an arrow is no key of this program
    screen.press(b"n")
    screen.wait_for("by name")


def test_top_fits_another_size(screen: Screen) -> None:
    screen.resize(120, 30)
    screen.wait_for(r"\x1b\[H.{100,140}series")
    screen.resize(50, 12)
    shown = screen.wait_for(r"\x1b\[H[^\n]{0,70}series.*?\x1b\[J")
    frame = shown.rpartition("\x1b[H")[2]
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", frame)
    assert max(map(len, plain.replace("\r", "").split("\n"))) <= 50
    assert plain.count("\n") < 12


def test_top_can_be_suspended(screen: Screen) -> None:
    screen.press(b"\x1a")
    screen.wait_for(r"\x1b\[\?1049l")
    _, status = os.waitpid(screen.process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    screen.process.send_signal(signal.SIGCONT)
    screen.wait_for(r"\x1b\[\?1049h.*GET /orders")
    screen.press(b"q")
    assert screen.end() == 0


def test_terminal_is_suspended_after_the_write_that_a_signal_interrupts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stream raises an error if the handler of a signal writes in the middle of a write."""
    written: list[str] = []
    stopped: list[int] = []

    class Interrupted(io.StringIO):
        is_interrupted = False

        def write(self, text: str) -> int:
            assert not self.is_interrupted, "reentrant call"
            self.is_interrupted = True
            if text.startswith("\x1b[H"):
                signal.raise_signal(signal.SIGTSTP)
            written.append(text)
            self.is_interrupted = False
            return len(text)

    monkeypatch.setattr(os, "kill", lambda _pid, number: stopped.append(number))
    with Terminal(Interrupted()) as terminal:
        terminal.show(["one"])
    assert stopped == [signal.SIGSTOP]
    assert [text[:8] for text in written] == [
        "\x1b[?1049h",
        "\x1b[Hone\x1b[",
        "\x1b[?25h\x1b[",
        "\x1b[?1049h",
        "\x1b[?25h\x1b[",
    ]


def test_top_uses_no_screen_on_a_dumb_terminal() -> None:
    with running(TERM="dumb") as screen:
        screen.press(b"\x03")
        assert screen.end() == 130
        assert "\x1b" not in screen.text


def test_top_has_no_color_if_the_environment_forbids_it() -> None:
    with running(NO_COLOR="1") as screen:
        shown = screen.wait_for("GET /orders")
        assert not re.search(r"\x1b\[[0-9;]*m", shown)
