"""The commands of docs/how-to/servers.rst with their example: kills, reloads and restarts."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import django
import pytest

from tests.servers.documented import commands, requirements
from tests.servers.prefork import Prefork, running
from tests.servers.process import ROOT, Scratch, wait_until
from web_prom.multiprocess.directory.slots import slots_of

EXAMPLES = ROOT / "examples" / "servers"
COMMANDS = commands()

# Its workers start in half the time of those of the example.
APP = "tests.servers.apps.asgi_app:app"

# By docs/how-to/servers.rst: servers that end with a killed worker; workers that end with the supervisor.
ENDS_WITH_A_WORKER = ("hypercorn",)
LEAVES_NO_WORKERS = ("gunicorn-asgi",)


class Sender:
    """A client that sends one request after another on new connections, as a context.

    Attributes:
        answered: How many were answered.
        unanswered: How many were not: a worker that ends may drop a connection that it has accepted.
    """

    def __init__(self, server: Prefork) -> None:
        self._server = server
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self.answered = self.unanswered = 0

    def __enter__(self) -> Sender:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def wait_for_more(self, count: int) -> None:
        """Wait until so many more were answered."""
        wanted = self.answered + count
        wait_until(lambda: self.answered >= wanted, f"{count} more answers", shown=self._server.log)

    def _send(self) -> None:
        while not self._ended.is_set():
            try:
                answered = self._server.get("/")[0] == 200
            except (OSError, http.client.HTTPException):
                answered = False
            self.answered += answered
            self.unanswered += not answered
            # Without a pause it takes the processor from the workers, which then start later.
            self._ended.wait(0.01)


@pytest.fixture
def directory(place: Scratch) -> Path:
    """Return a directory for workers to share."""
    made = place.folder / "shared"
    made.mkdir()
    return made


@contextlib.contextmanager
def typed(name: str, place: Scratch, directory: Path) -> Iterator[Prefork]:
    """Run a command of the page in the directory that the page names."""
    with running(place, COMMANDS[name].serving(), directory, folder=EXAMPLES) as server:
        yield server


# test_without_hooks.py kills those of uvicorn.
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=requirements(name)) for name in COMMANDS if name != "uvicorn"]
)
def test_fault_22_killed_worker_keeps_its_counts(name: str, place: Scratch, directory: Path) -> None:
    """Only its request in progress is lost, and the gauge no longer includes it."""
    with typed(name, place, directory) as server:
        server.send(10)
        with server.listening() as victim:
            wait_until(lambda: server.gauge("http_requests_in_progress") == 1, "the stream to begin")
            before = server.processes()
            os.kill(victim, signal.SIGKILL)
            if name not in ENDS_WITH_A_WORKER:
                wait_until(lambda: server.processes() - before, "a new worker", shown=server.log)
                server.wait_until_ready()  # a worker's own listener may be missing now
                server.send(10)
                return
            wait_until(lambda: not server.processes(), "the server to end", shown=server.log)
    with typed(name, place, directory) as again:
        again.sent += server.sent
        again.send(10)


@pytest.mark.parametrize("name", [pytest.param(name, marks=requirements(name)) for name in COMMANDS])
def test_reload_and_killed_supervisor_keep_the_counts(name: str, place: Scratch, directory: Path) -> None:
    """The next server continues them. With web-prom's hooks it starts at zero, because no worker is left."""
    command = COMMANDS[name].serving(APP)
    with running(place, command, directory) as first:
        _reload_under_load(first)
        os.kill(first.pid, signal.SIGKILL)
        wait_until(lambda: first.pid not in first.processes(), "the supervisor to end")
        if name in LEAVES_NO_WORKERS:
            wait_until(lambda: not first.processes(), "its workers to end", shown=first.log)
        else:
            first.send(5)
    wait_until(lambda: not slots_of(directory).holders(), "all slots to be free")
    with running(place, command, directory) as second:
        if not COMMANDS[name].has_hooks:
            second.sent += first.sent
            second.dropped += first.dropped
        second.send(10)


def test_django_example_is_served(place: Scratch, directory: Path) -> None:
    """The command is the page's, with another application."""
    command = COMMANDS["granian"].serving("django_async:application")
    with running(place, command, directory, folder=EXAMPLES) as server:
        server.send(10)
        with server.listening():
            wait_until(lambda: server.gauge("http_requests_in_progress") == 1, "the stream to begin")
        expected = Counter({("GET", "/", "200"): server.sent, ("GET", "/products/<int:number>", "404"): 1})
        assert server.get("/products/99")[0] == 404
        if django.VERSION >= (5, 0):  # older Django does not notice the disconnect
            server.settle(expected + Counter({("GET", "/events", "200"): 1}))


def _reload_under_load(server: Prefork) -> None:
    workers = server.workers()
    with Sender(server) as sender:
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: not workers & server.processes(), "new workers", shown=server.log)
        sender.wait_for_more(20)
    server.sent += sender.answered
    account = server.rest()
    counted, server.dropped = account["GET", "/", "200"], account["GET", "/", "499"]
    assert server.sent <= counted <= server.sent + sender.unanswered - server.dropped
    server.sent = counted
