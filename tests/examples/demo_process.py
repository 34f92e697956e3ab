"""The demo as a process: it is started as ``make demo`` starts it, and must leave nothing at its end."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from tests import interpreters

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MARK = "WEB_PROM_TEST_DEMO"
# How long the demo may take on a busy machine.
PATIENCE_SECONDS = 180.0
SERVING = "Both are still serving."


class Demo:
    """The demo as a process group of its own, whose descendants can be found by a mark in their environment.

    Args:
        folder: A directory of the test's own.
        change: Statements that change the modules ``demo...`` first.
        *arguments: The arguments of its command line.
        **environ: Variables that the demo is given.
    """

    def __init__(self, folder: Path, change: str = "", *arguments: str, **environ: str) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self._mark = uuid4().hex
        self.output = ""
        script = EXAMPLES / "demo.py"
        if change:
            script = folder / "changed.py"
            script.write_text(
                f"import sys\nsys.path.insert(0, {str(EXAMPLES)!r})\n"
                "import demo, demo_comparison, demo_prometheus, demo_servers\n"
                f"{change}\nsys.exit(demo.main())\n"
            )
        inherited = {name: value for name, value in os.environ.items() if name != "DEMO_SECONDS"}
        self._errors = folder / "stderr"
        with self._errors.open("w") as errors:
            self.process = interpreters.Popen(
                [sys.executable, str(script), *arguments],
                env={**inherited, "TMPDIR": str(self.temporary), MARK: self._mark, **environ},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )

    def read_until(self, text: str) -> None:
        """Read the output up to a line that contains ``text``."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if text in line:
                return
        pytest.fail(f"the demo ended without {text!r}:\n{self.output}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process group, as a terminal does."""
        os.killpg(self.process.pid, number)

    def end(self) -> int:
        """Wait for the end and return the exit code; fail if it leaves anything behind, or a traceback."""
        assert self.process.stdout is not None
        if not self.process.stdout.closed:
            self.output += self.process.communicate(timeout=PATIENCE_SECONDS)[0]
        self.process.wait(PATIENCE_SECONDS)
        assert self._errors.read_text() == ""
        assert self.descendants() == []
        assert list(self.temporary.iterdir()) == []
        for port in re.findall(r"http://127\.0\.0\.1:(\d+)", self.output):
            with socket.create_server(("127.0.0.1", int(port))):
                pass
        return self.process.returncode

    def kill(self) -> None:
        """Kill the demo and its processes."""
        for pid in self.descendants():
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def descendants(self) -> list[int]:
        """Return the ids of the demo's processes without the demo itself."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                marked = f"{MARK}={self._mark}".encode() in path.read_bytes().split(b"\0")
            except OSError:
                continue  # it has ended, or is somebody else's
            if marked and int(path.parent.name) != self.process.pid:
                found.append(int(path.parent.name))
        return sorted(found)

    def masters(self) -> list[int]:
        """Return the ids of the gunicorn masters: the demo's own children."""
        return [pid for pid in self.descendants() if f"PPid:\t{self.process.pid}\n" in _status(pid)]

    def tables(self) -> dict[str, dict[str, tuple[str, str, str]]]:
        """Return each shop's table: requests sent, requests measured and their mean, by row."""
        tables: dict[str, dict[str, tuple[str, str, str]]] = {}
        for block in self.output.split("\n\n"):
            name, *lines = block.splitlines()
            if lines and lines[0].lstrip().startswith("method"):
                tables[name] = {
                    " ".join(line[:54].split()): (line[54:60].strip(), line[60:70].strip(), line[70:].strip())
                    for line in lines[1:]
                }
        return tables


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""
