"""Forked processes of a benchmark, which report results and end on request."""

from __future__ import annotations

import os
import select
import signal
import traceback
from collections.abc import Callable

SendLine = Callable[[str], None]
"""Sends a line to the parent."""

IsOver = Callable[[float], bool]
"""Waits for some seconds, and returns whether the process is to end."""

Work = Callable[[SendLine, IsOver], None]


class Child:
    """A forked process.

    Args:
        work: What it does.
    """

    def __init__(self, work: Work) -> None:
        reading, writing = os.pipe()
        ending, stopping = os.pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if not self.pid:
            status = 1
            try:
                work(
                    lambda line: _write(writing, f"{line}\n"),
                    lambda seconds: _is_readable(ending, seconds) or os.getppid() != parent,
                )
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        os.close(writing)
        os.close(ending)
        self._lines = os.fdopen(reading)
        self._stopping = stopping

    def read_line(self) -> str:
        """Wait for a line."""
        line = self._lines.readline()
        if not line:
            raise SystemExit(f"the process {self.pid} ended before it sent anything")
        return line.rstrip("\n")

    def end(self) -> str:
        """Stop the process, and return its output that is not read yet."""
        # A byte, not the end of the pipe, because later child processes hold the pipe open.
        os.write(self._stopping, b"x")
        rest = self._lines.read()
        self._wait()
        return rest

    def kill(self) -> None:
        """Kill the process."""
        os.kill(self.pid, signal.SIGKILL)
        self._wait()

    def _wait(self) -> None:
        os.waitpid(self.pid, 0)
        self._lines.close()
        os.close(self._stopping)


def _write(descriptor: int, text: str) -> None:
    os.write(descriptor, text.encode())


def _is_readable(descriptor: int, seconds: float) -> bool:
    return bool(select.select([descriptor], [], [], seconds)[0])
