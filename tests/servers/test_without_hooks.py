"""Servers that call no hook of ours: workers are killed and replaced, and the numbers stay right.

uWSGI runs no at-fork hooks of Python's either; uvicorn's workers are not forked but begin anew.
"""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.servers.prefork import running
from tests.servers.process import Scratch, wait_until
from web_prom.multiprocess.file_format import FileName

WORKERS = 2


def uvicorn(port: int) -> list[str]:
    """Return the command line of a uvicorn with several workers."""
    options = [f"--port={port}", f"--workers={WORKERS}", "--no-access-log"]
    return [sys.executable, "-m", "uvicorn", *options, "tests.servers.apps.asgi_app:app"]


def uwsgi(port: int) -> list[str]:
    """Return the command line of a uWSGI whose master imports the application and forks."""
    script = str(Path(sysconfig.get_path("scripts"), "uwsgi"))
    options = [f"--http-socket=127.0.0.1:{port}", f"--processes={WORKERS}", "--master", "--die-on-term"]
    return [script, *options, "--need-app", "--module=tests.servers.apps.wsgi_app:app"]


def lazy_uwsgi(port: int) -> list[str]:
    """Return the command line of a uWSGI whose workers import the application, each for itself."""
    return [*uwsgi(port), "--lazy-apps"]


def granian(port: int) -> list[str]:
    """Return the command line of a granian whose workers call a WSGI application in several threads."""
    script = str(Path(sysconfig.get_path("scripts"), "granian"))
    options = [f"--port={port}", f"--workers={WORKERS}", "--interface=wsgi", "--blocking-threads=4"]
    return [script, *options, "tests.servers.apps.wsgi_app:app"]


@pytest.mark.parametrize("command", [uvicorn, uwsgi, lazy_uwsgi])
def test_faults_21_and_22_replaced_workers_continue_the_counts_of_killed_ones(
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
        kinds = [(name.metric_type, name.mode) for name in names]
        # uWSGI's master has imported the application, and so has a slot of its own.
        assert max(kinds.count(kind) for kind in kinds) <= WORKERS + 1
        assert all(name.slot is not None for name in names)


def test_workers_with_several_threads_add_up(place: Scratch) -> None:
    """Forks of granian's, each with threads of its own; test_asgi_servers.py has its ASGI."""
    directory = place.folder / "shared"
    directory.mkdir()
    with running(place, granian, directory) as server, ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(server.get, ["/", "/items/7", "/stream", "/no/such/page"] * 50))
        expected = Counter({("GET", "/", "200"): 50 + server.sent})
        for route, status in (("/items/<int:number>", "200"), ("/stream", "200"), ("_unmatched", "404")):
            expected["GET", route, status] = 50
        assert Counter(status for status, _ in answers) == {200: 150, 404: 50}
        server.settle(expected)
