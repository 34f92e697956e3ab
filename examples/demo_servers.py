"""The processes of the demo: each example under its own gunicorn, on a free port."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from socket import create_server
from threading import Event
from typing import TypeVar

from demo_load import fetch

ROOT = Path(__file__).resolve().parent.parent
CONFIG = "python:web_prom.gunicorn"
WORKERS = 2
# A browser opens connections in advance. Each of them would occupy a worker that has one thread.
THREADS = "--worker-class gthread --threads 4"
# Only this machine may see the metrics and the live page. Without a restriction the page would be closed.
LIVE = {"PROM_LIVE": "1", "PROM_ALLOWED_NETWORKS": "127.0.0.1"}
START_TIMEOUT_SECONDS = 60.0
LOG_LINES = 100

# Settings of the user would change the measurements, or let two servers share a directory.
USER_PREFIXES = ("DJANGO_", "FLASK_", "GUNICORN_", "PROM_", "PROMETHEUS_")

T = TypeVar("T")


class DemoError(Exception):
    """Ends the demo with exit code 1. The text is printed."""


class Process:
    """A process of the demo in a session of its own, with its log in a file.

    Args:
        name: What messages call it.
        command: The command line.
        log: The file for what it writes to stdout and stderr.
        environ: Its environment.
        pass_fds: Open files that it gets.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        environ: dict[str, str],
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.name = name
        self._log = log
        with log.open("w") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environ,
                pass_fds=pass_fds,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C must only reach the demo, which then stops its processes
            )

    def wait_until(self, condition: Callable[[], T | None], stop: Event) -> T | None:
        """Call a function until its result is true, and return that, or None if ``stop`` is set.

        Raises:
            DemoError: The process exited, or the result is not true in time.
        """
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not stop.is_set():
            self.check()
            with suppress(OSError, HTTPException):
                result = condition()
                if result:
                    return result
            if time.monotonic() > deadline:
                raise DemoError(
                    f"{self.name} gives no answer for {START_TIMEOUT_SECONDS:.0f} s. {self._log_end()}"
                )
            stop.wait(0.1)
        return None

    def finish(self, stop: Event) -> None:
        """Wait until the process exits by itself. If ``stop`` is set, end it.

        Raises:
            DemoError: The exit code is not 0, and ``stop`` is not set.
        """
        while self._process.poll() is None:
            if stop.wait(0.05):
                self.stop()
                self.wait()
                return
        # Ctrl-C also ends a process that has just been forked and has no session of its own yet.
        if self._process.returncode and not stop.is_set():
            raise self._exit_error()

    def check(self) -> None:
        """Raise DemoError if the process has exited."""
        if self._process.poll() is not None:
            raise self._exit_error()

    def stop(self) -> None:
        """Send SIGTERM to the process. :meth:`wait` waits for the end."""
        self._process.terminate()

    def wait(self) -> None:
        """Wait until the process and its children have exited."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
        with suppress(OSError):  # no process is left
            for _ in range(50):  # a process that hangs, or workers of a killed master
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.poll()
                time.sleep(0.02)

    def log(self) -> str:
        """Return what the process wrote to stdout and stderr so far."""
        return self._log.read_text(errors="replace")

    def _exit_error(self) -> DemoError:
        code = self._process.returncode
        return DemoError(f"{self.name} ended by itself, with exit code {code}. {self._log_end()}")

    def _log_end(self) -> str:
        lines = self.log().splitlines()[-LOG_LINES:]
        return "\n".join(["Its log ends with:", *(f"  {line}" for line in lines)])


class Server(Process):
    """One example under gunicorn, with its live page.

    Args:
        name: The framework, for messages.
        app: The application, in gunicorn's notation.
        folder: A new directory for its log, temporary files and control socket.
    """

    def __init__(self, name: str, app: str, folder: Path) -> None:
        folder.mkdir()
        # The open socket is passed on, because another process could take a port that was only found free.
        with create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
            bind = f"--bind fd://{listener.fileno()}"
            options = f"--config {CONFIG} --workers {WORKERS} {THREADS} --chdir examples {bind}"
            super().__init__(
                f"The {name} server",
                [sys.executable, "-m", "gunicorn", *options.split(), app],
                folder / "log",
                clean_environment(folder) | LIVE,
                [listener.fileno()],
            )
        self.shop = name

    @property
    def url(self) -> str:
        """The address of the shop."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def live_url(self) -> str:
        """The address of its live page."""
        return f"{self.url}/live/"

    def wait_until_ready(self, stop: Event) -> None:
        """Wait until the shop answers or ``stop`` is set.

        Raises:
            DemoError: The server exited, or does not answer in time.
        """
        self.wait_until(lambda: fetch(self.port, "GET", "/metrics", timeout=1)[0] == 200, stop)


def stop_all(processes: Iterable[Process]) -> None:
    """Stop all processes, and wait until none of them and of their children is left."""
    for process in processes:
        process.stop()
    for process in processes:
        process.wait()


def clean_environment(folder: Path) -> dict[str, str]:
    """Return the environment without the user's settings, and with a folder for temporary files."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(USER_PREFIXES)}
    # gunicorn uses the first for its control socket, and the second for its workers' temporary files.
    return kept | {"XDG_RUNTIME_DIR": str(folder), "TMPDIR": str(folder)}
