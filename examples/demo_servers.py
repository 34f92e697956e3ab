"""The servers of the demo: each example under a gunicorn of its own, on a free port, ended by process id."""

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
PATIENCE_SECONDS = 30.0
LOG_LINES = 100

# A user's own settings would change what the demo measures, or make two servers share a directory.
FOREIGN = ("DJANGO_", "FLASK_", "GUNICORN_", "PROM_", "PROMETHEUS_")


class DemoError(Exception):
    """Ends the demo with exit code 1; the text is for whoever reads the terminal."""


class Server:
    """One example under gunicorn.

    Args:
        name: The framework, for messages.
        app: The application, as gunicorn takes it.
        folder: A directory of its own for all that it writes: log, temporary files, control socket.
    """

    def __init__(self, name: str, app: str, folder: Path) -> None:
        self.name = name
        folder.mkdir()
        self._log = folder / "log"
        # Handed over while it is open: a port that was merely found free may be somebody else's by now.
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
                start_new_session=True,  # Ctrl-C is for the demo, which then ends its servers in order
            )

    @property
    def url(self) -> str:
        """Where the shop is."""
        return f"http://127.0.0.1:{self.port}"

    def wait_until_ready(self, stop: Event) -> None:
        """Return once the shop answers, or ``stop`` is set.

        Raises:
            DemoError: It ended, or does not answer in time.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not stop.is_set():
            self.check()
            with suppress(OSError, HTTPException):
                if fetch(self.port, "GET", "/metrics", timeout=1)[0] == 200:
                    return
            if time.monotonic() > deadline:
                raise DemoError(f"{self.name} gives no answer for {PATIENCE_SECONDS:.0f} s. {self._story()}")
            stop.wait(0.1)

    def check(self) -> None:
        """Raise DemoError if the server has ended."""
        code = self._process.poll()
        if code is not None:
            raise DemoError(f"The {self.name} server ended by itself, with exit code {code}. {self._story()}")

    def stop(self) -> None:
        """Ask the server to end; :meth:`wait` sees to it."""
        self._process.terminate()

    def wait(self) -> None:
        """Wait for the end of the server and of its workers."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
        with suppress(OSError):  # nobody is left
            for _ in range(50):  # one that hangs, or workers whose master was killed
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.poll()
                time.sleep(0.02)

    def _story(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "\n".join(["Its log ends with:", *(f"  {line}" for line in lines)])


def stop_all(servers: Iterable[Server]) -> None:
    """End all servers, and return when no process of theirs is left."""
    for server in servers:
        server.stop()
    for server in servers:
        server.wait()


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    # gunicorn puts its control socket in the one, and its workers' temporary files in the other.
    return kept | {"XDG_RUNTIME_DIR": str(folder), "TMPDIR": str(folder)}
