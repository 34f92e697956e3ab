"""Servers that call no hook of ours: processes are killed and replaced, and the numbers stay right.

uWSGI runs no at-fork hooks of Python's either; uvicorn's workers are not forked but begin anew.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.servers.process import PATIENCE_SECONDS, Scratch, wait_until
from web_prom.multiprocess.layout import FileName
from web_prom.multiprocess.slots import slots_of

WORKERS = 3


def uvicorn(port: int) -> list[str]:
    """Return the command line of a uvicorn with several workers."""
    options = [f"--port={port}", f"--workers={WORKERS}", "--no-access-log"]
    return [sys.executable, "-m", "uvicorn", *options, "tests.servers.apps.asgi_app:app"]


def uwsgi(port: int) -> list[str]:
    """Return the command line of a uWSGI whose master imports the application and forks."""
    script = str(Path(sysconfig.get_path("scripts"), "uwsgi"))
    options = [f"--http-socket=127.0.0.1:{port}", f"--processes={WORKERS}", "--master", "--die-on-term"]
    return [script, *options, "--need-app", "--module=tests.servers.apps.flask_app:app"]


def lazy_uwsgi(port: int) -> list[str]:
    """Return the command line of a uWSGI whose workers import the application, each for itself."""
    return [*uwsgi(port), "--lazy-apps"]


class Prefork:
    """A running server of several processes, and what it shares.

    Attributes:
        directory: What PROMETHEUS_MULTIPROC_DIR names.
        port: Where it listens.
        pid: Its first process.
        sent: How many requests were answered.
    """

    def __init__(self, place: Scratch, command: Callable[[int], list[str]], directory: Path) -> None:
        with contextlib.closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.directory = directory
        self.sent = 0
        self._path = place.folder / "server.log"
        with self._path.open("ab") as log:
            self._process = subprocess.Popen(
                command(self.port),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**place.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)},
                cwd=place.folder,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def log(self) -> str:
        """Return what the server wrote so far."""
        return self._path.read_text("utf-8", "replace")

    def processes(self) -> set[int]:
        """Return the processes of the server that are alive."""
        self._process.poll()
        found = set()
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
                if int(session) == self.pid and state not in "ZX":
                    found.add(int(path.parent.name))
        return found

    def writers(self) -> set[int]:
        """Return the workers that write metrics now."""
        return {*slots_of(self.directory).held().values()} & self.processes() - {self.pid}

    def get(self, path: str) -> bytes:
        """Return the answer to a request on a connection of its own."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECONDS) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            head, _, body = b"".join(iter(lambda: client.recv(65536), b"")).partition(b"\r\n\r\n")
        assert b" 200 OK" in head.splitlines()[0], head
        return body

    def send(self, count: int) -> None:
        """Send requests, and see that all answered ones are counted, and none is in progress."""
        for _ in range(count):
            self.get("/")
        self.sent += count
        wait_until(self.agrees, f"{self.sent} requests to be counted", shown=self.log)

    def agrees(self) -> bool:
        """Tell whether a scrape shows what was sent."""
        body = self.get("/metrics")
        text = body.decode() if body.startswith(b"#") else body.partition(b"\r\n")[2].decode()
        values = {
            sample.name: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name in ("http_requests_total", "http_requests_in_progress")
        }
        return values == {"http_requests_total": self.sent, "http_requests_in_progress": 0}

    def wait_until_ready(self) -> None:
        """Wait until the first request is answered."""

        def answers() -> bool:
            assert self._process.poll() is None, self.log()
            with contextlib.suppress(OSError, IndexError):
                self.get("/")
                return True
            return False

        wait_until(answers, "a server", shown=self.log)
        self.sent += 1

    def kill(self) -> None:
        """End everything that is left."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(PATIENCE_SECONDS)
        wait_until(lambda: not self.processes(), "all processes to end")


@contextlib.contextmanager
def running(place: Scratch, command: Callable[[int], list[str]], directory: Path) -> Iterator[Prefork]:
    """Run a server until the end of the block."""
    server = Prefork(place, command, directory)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.kill()


@pytest.mark.parametrize("command", [uvicorn, uwsgi, lazy_uwsgi])
def test_faults_21_and_22_killed_workers_are_replaced_and_go_on_with_their_numbers(
    place: Scratch, command: Callable[[int], list[str]]
) -> None:
    directory = place.folder / "shared"
    directory.mkdir()
    with running(place, command, directory) as server:
        for _ in range(3):
            server.send(20)
            victim = min(wait_until(server.writers, "a worker that writes", shown=server.log))
            before = server.processes()
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda before=before: server.processes() - before, "a new worker", shown=server.log)  # type: ignore[misc]
        server.send(20)
        names = [found for path in directory.iterdir() if (found := FileName.parse(path.name))]
        kinds = [(name.kind, name.mode) for name in names]
        # uWSGI's master has imported the application, and so has a slot of its own.
        assert max(kinds.count(kind) for kind in kinds) <= WORKERS + 1
        assert all(name.slot is not None for name in names)


def test_a_killed_supervisor_leaves_numbers_that_the_next_server_goes_on_with(place: Scratch) -> None:
    """Its workers outlive it for a moment, and whatever they still do counts."""
    directory = place.folder / "shared"
    directory.mkdir()
    with running(place, uvicorn, directory) as first:
        first.send(20)
        os.kill(first.pid, signal.SIGKILL)
    # A process whose first thread has ended may have others that end a moment later, and its locks with them.
    wait_until(lambda: not slots_of(directory).held(), "all slots to be free")
    with running(place, uvicorn, directory) as second:
        second.sent += first.sent
        second.send(20)
