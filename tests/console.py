"""The console sessions of a page: run in a shell, with the output compared to the page's."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import isclose
from pathlib import Path
from types import TracebackType

from tests.pages import ROOT, code_blocks

EXAMPLES = ROOT / "examples"
# The ports that pages use; each is a free one when it is run.
PORTS = re.compile(r"\b(8000|8001|8002|9090|9100)\b")
# Commands that change nothing: they are repeated until they print what the page shows.
LOOKING = ("curl ", "promtool ", "grep ")
PATIENCE_SECONDS = 90.0
NUMBER = re.compile(r"\b\d+(?:\.\d+)?(?:e[+-]?\d+)?\b")
FOREIGN = ("DJANGO_", "FLASK_", "GUNICORN_", "PROM_", "PROMETHEUS_", "PYTHON")


@dataclass
class Step:
    """A command and the lines that the page shows after it."""

    command: str
    shown: list[str] = field(default_factory=list)


def steps(text: str) -> list[Step]:
    """Return the commands of a section's console blocks, in order."""
    found: list[Step] = []
    continued = False
    for line in "".join(code_blocks(text, "console")).splitlines():
        if continued:
            found[-1].command += f"\n{line}"
        elif line.startswith("$ "):
            found.append(Step(line[2:]))
        else:
            found[-1].shown.append(line)
        continued = line.endswith("\\")
    return found


def is_as_shown(shown: list[str], printed: list[str], varying: str) -> bool:
    """Return whether lines agree with the page.

    Args:
        shown: The page's; a line ``...`` stands for any lines, at its own end for any text.
        printed: The real ones.
        varying: A pattern; in lines where it is found numbers need not be the same ones.
    """
    if not shown:
        return not printed
    if shown[0] == "...":
        return any(is_as_shown(shown[1:], printed[skipped:], varying) for skipped in range(len(printed) + 1))
    return bool(
        printed and _alike(shown[0], printed[0], varying) and is_as_shown(shown[1:], printed[1:], varying)
    )


def _alike(shown: str, printed: str, varying: str) -> bool:
    if shown.endswith(" ..."):
        shown, printed = shown[:-3], printed[: len(shown) - 3]
    if varying and re.search(varying, shown):
        shown, printed = (re.sub(" +", " ", NUMBER.sub("0", text)) for text in (shown, printed))
    # Sums and ratios of Prometheus can differ in the last digit, and its answers contain the time.
    shown, printed = (re.sub(r"@\[[\d.]+\]", "@[]", text) for text in (shown, printed))
    numbers = zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=False)
    return NUMBER.sub("", shown) == NUMBER.sub("", printed) and all(
        isclose(float(one), float(other), rel_tol=1e-9) for one, other in numbers
    )


class Console:
    """A shell in a folder that has all the examples, as a context manager; leaves no process behind.

    Args:
        folder: Where it may write.
    """

    def __init__(self, folder: Path) -> None:
        self._log = folder / "console.txt"
        self.folder = folder / "examples"
        self.folder.mkdir()
        (folder / "tmp").mkdir()
        for path in EXAMPLES.iterdir():
            (self.folder / path.name).symlink_to(path)
        self._ports: dict[str, str] = {}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        self._environ = kept | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "TMPDIR": str(folder / "tmp"),
            "XDG_RUNTIME_DIR": str(folder / "tmp"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
        }

    def __enter__(self) -> Console:
        self._output = self._log.open("wb")
        self._shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env=self._environ,
            cwd=self.folder,
            text=True,
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._wait(lambda: self.processes() == [self._shell.pid], "all that was started to end")
        finally:
            assert self._shell.stdin is not None
            self._shell.stdin.close()
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._shell.wait(PATIENCE_SECONDS)
            self._output.close()

    def processes(self) -> list[int]:
        """Return the ids of the shell and of all that it started and that is alive."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
                if int(session) == self._shell.pid and state not in "ZX":
                    found.append(int(path.parent.name))
        return found

    def play(self, session: Iterable[Step], *, varying: str = "") -> dict[str, list[str]]:
        """Run commands one after the other; return what each printed.

        Fails where one does not print what the page shows, or ends with an error.
        """
        return {step.command: self._step(step, varying) for step in session}

    def _step(self, step: Step, varying: str) -> list[str]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            code, printed = self.run(step.command)
            right = code == 0 and is_as_shown(step.shown, printed, varying)
            if right:
                return printed
            if not step.command.startswith(LOOKING) or time.monotonic() > deadline:
                told = "\n".join(
                    ["", f"$ {step.command}", *step.shown, f"--- but it ended with {code}:", *printed]
                )
                logs = "".join(f"\n--- {path.name}\n{path.read_text()}" for path in self.folder.glob("*.log"))
                raise AssertionError(told + logs)
            time.sleep(0.1)

    def run(self, command: str) -> tuple[int, list[str]]:
        """Run one command; return its exit code and what it printed, with the ports of the page."""
        assert self._shell.stdin is not None
        begin = self._log.stat().st_size
        self._shell.stdin.write(f"{self._with_own_ports(command)}\nprintf '\\n<ended %d>\\n' $?\n")
        self._shell.stdin.flush()
        told: object = self._wait(
            lambda: re.search(rb"\n<ended (\d+)>\n", self._log.read_bytes()[begin:]), f"the end of {command}"
        )
        assert isinstance(told, re.Match)
        if command.endswith("&"):
            for port in PORTS.findall(command):
                self._wait(lambda port=port: self._listens(port), f"{command} to listen")  # type: ignore[misc]
        printed = self._log.read_bytes()[begin : begin + told.start()].decode("utf-8", "replace")
        for shown, own in self._ports.items():
            printed = re.sub(rf"\b{own}\b", shown, printed)
        return int(told[1]), printed.rstrip("\n").splitlines()

    def _with_own_ports(self, command: str) -> str:
        command = PORTS.sub(lambda match: self._port(match[0]), command)
        for name in re.findall(r"guide/\w+\.yml", command):
            own = self.folder / Path(name).name
            own.write_text(PORTS.sub(lambda match: self._port(match[0]), (EXAMPLES / name).read_text()))
            command = command.replace(name, str(own))
        return command

    def _port(self, shown: str) -> str:
        if shown not in self._ports:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                self._ports[shown] = str(listener.getsockname()[1])
        return self._ports[shown]

    def _listens(self, shown: str) -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", int(self._ports[shown])), 1),
        ):
            return True
        return False

    def _wait(self, condition: Callable[[], object], what: str) -> object:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            value = condition()
            if value:
                return value
            assert self._shell.poll() is None, "the shell ended"
            assert time.monotonic() < deadline, f"waited {PATIENCE_SECONDS:.0f} s in vain for {what}"
            time.sleep(0.02)
