"""Servers that call no hook of web-prom, as real processes: several workers that share a directory."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tests import interpreters
from tests.servers.client import Client
from tests.servers.process import PATIENCE_SECONDS, Scratch, living_processes, wait_until
from web_prom.multiprocess.directory.slots import slots_of


class Prefork(Client):
    """A running server of several processes, and its shared directory; use :func:`running`.

    Attributes:
        directory: What PROMETHEUS_MULTIPROC_DIR names.
        pid: Its first process.
        sent: How many requests were answered.
        dropped: How many got no answer and are counted so, for example by a worker that ended.
    """

    def __init__(
        self,
        place: Scratch,
        command: Callable[[int], list[str]],
        directory: Path,
        *,
        folder: Path | None = None,
    ) -> None:
        with contextlib.closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.directory = directory
        self.sent = self.dropped = 0
        self._path = place.folder / "server.log"
        with self._path.open("ab") as log:
            self._process = interpreters.Popen(
                command(self.port),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**place.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)},
                cwd=folder or place.folder,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def log(self) -> str:
        """Return what the server wrote so far."""
        return self._path.read_text("utf-8", "replace")

    def processes(self) -> set[int]:
        """Return the processes of the server that are alive."""
        self._process.poll()
        return {each.pid for each in living_processes(self.pid)}

    def workers(self) -> set[int]:
        """Return the processes that serve requests or will do so: all but the first one."""
        return {pid for pid in self.processes() - {self.pid} if b"resource_tracker" not in _command_line(pid)}

    def writers(self) -> set[int]:
        """Return the workers that write metrics now."""
        return {*slots_of(self.directory).holders().values()} & self.processes() - {self.pid}

    def wait_until_idle(self) -> None:
        """Wait until all threads wait for something: event loops have handled what happened before."""
        for _ in range(3):
            wait_until(lambda: all(map(_is_asleep, self.processes())), "idle processes", shown=self.log)

    @contextlib.contextmanager
    def listening(self, path: str = "/events") -> Iterator[int]:
        """Keep a worker busy with an endless stream; yield its process id, which the stream begins with."""
        with contextlib.closing(self.raw(f"GET {path} HTTP/1.1\nHost: 127.0.0.1\n\n")) as opened:
            told = b""
            while not (found := re.search(rb"data: (\d+)\s", told)):
                part = opened.recv(1000)
                assert part, self.log()
                told += part
            yield int(found[1])

    def send(self, count: int) -> None:
        """Send requests; check that all answered ones are counted and none is in progress."""
        for _ in range(count):
            assert self.get("/")[0] == 200
        self.sent += count
        self.settle(+Counter({("GET", "/", "200"): self.sent, ("GET", "/", "499"): self.dropped}))

    def wait_until_ready(self) -> None:
        """Wait until the first request is answered."""

        def answers() -> bool:
            assert self._process.poll() is None, self.log()
            with contextlib.suppress(OSError, http.client.HTTPException):
                return self.get("/")[0] == 200
            return False

        wait_until(answers, "a server", shown=self.log)
        self.sent += 1

    def kill(self) -> None:
        """Kill all processes that are left, and those that they still start."""
        wait_until(self._is_killed, "all processes to end", shown=self.log)
        self._process.wait(PATIENCE_SECONDS)

    def _is_killed(self) -> bool:
        left = self.processes()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left


def _is_asleep(pid: int) -> bool:
    """Return whether no thread of a process runs, or waits for a core to run."""
    states = []
    for path in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            states.append(path.read_text().rpartition(")")[2].split()[0])
    return "R" not in states


@contextlib.contextmanager
def running(
    place: Scratch,
    command: Callable[[int], list[str]],
    directory: Path,
    *,
    folder: Path | None = None,
) -> Iterator[Prefork]:
    """Run a server until the end of the block.

    Args:
        place: Where its log is.
        command: Its command line, for a port.
        directory: What its processes share.
        folder: Where it starts; by default in the place.
    """
    server = Prefork(place, command, directory, folder=folder)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.kill()


def _command_line(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
