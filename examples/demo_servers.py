"""The servers of the demo: each example under its own gunicorn, on a free port."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from socket import create_server
from threading import Event

from demo_load import fetch

ROOT = Path(__file__).resolve().parent.parent
CONFIG = "python:web_prom.gunicorn"
WORKERS = 2
START_TIMEOUT_SECONDS = 30.0
LOG_LINES = 100

# Settings of the user would change the measurements, or let two servers share a directory.
USER_PREFIXES = ("DJANGO_", "FLASK_", "GUNICORN_", "PROM_", "PROMETHEUS_")


class DemoError(Exception):
    """Ends the demo with exit code 1. The text is printed."""


class Server:
    """One example under gunicorn.

    Args:
        name: The framework, for messages.
        app: The application, in gunicorn's notation.
        folder: A new directory for its log, temporary files and control socket.
    """

    def __init__(self, name: str, app: str, folder: Path) -> None:
        self.name = name
        folder.mkdir()
        self._log = folder / "log"
        # The open socket is passed on, because another process could take a port that was only found free.
        with create_server(("127.0.0.1", 0)) as listener, self._log.open("w") as log:
            self.port: int = listener.getsockname()[1]
            bind = f"--bind fd://{listener.fileno()}"
            options = f"--config {CONFIG} --workers {WORKERS} --chdir examples {bind}"
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", *options.split(), app],
                cwd=ROOT,
                env=_environment(folder),
                pass_fds=[listener.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C must only reach the demo, which then stops its servers
            )

    @property
    def url(self) -> str:
        """The address of the shop."""
        return f"http://127.0.0.1:{self.port}"

    def wait_until_ready(self, stop: Event) -> None:
        """Wait until the shop answers or ``stop`` is set.

        Raises:
            DemoError: The server exited, or does not answer in time.
        """
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not stop.is_set():
            self.check()
            with suppress(OSError, HTTPException):
                if fetch(self.port, "GET", "/metrics", timeout=1)[0] == 200:
                    return
            if time.monotonic() > deadline:
                raise DemoError(
                    f"{self.name} gives no answer for {START_TIMEOUT_SECONDS:.0f} s. {self._log_end()}"
                )
            stop.wait(0.1)

    def check(self) -> None:
        """Raise DemoError if the server has exited."""
        code = self._process.poll()
        if code is not None:
            raise DemoError(
                f"The {self.name} server ended by itself, with exit code {code}. {self._log_end()}"
            )

    def stop(self) -> None:
        """Send SIGTERM to the server. :meth:`wait` waits for the end."""
        self._process.terminate()

    def wait(self) -> None:
        """Wait until the server and its workers have exited."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
        with suppress(OSError):  # no process is left
            for _ in range(50):  # a process that hangs, or workers of a killed master
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.poll()
                time.sleep(0.02)

    def _log_end(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "\n".join(["Its log ends with:", *(f"  {line}" for line in lines)])


def stop_all(servers: Iterable[Server]) -> None:
    """Stop all servers, and wait until none of their processes is left."""
    for server in servers:
        server.stop()
    for server in servers:
        server.wait()


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(USER_PREFIXES)}
    # gunicorn uses the first for its control socket, and the second for its workers' temporary files.
    return kept | {"XDG_RUNTIME_DIR": str(folder), "TMPDIR": str(folder)}
