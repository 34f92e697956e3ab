"""Exact metrics while a server's processes are killed, stopped, reloaded and upgraded at random.

About 8 seconds in the suite, for all servers together. SOAK_SECONDS in the environment makes it longer: 30
seconds in CI, and minutes with ``make soak``. CHAOS_SEED repeats a run: the seed is in the message of a
failure.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import interpreters
from tests.servers.chaos import REQUESTS, Chaos, Clients, Request, Scraper, most_files_of_a_kind, send, settle
from tests.servers.exporting import Exporting
from tests.servers.prefork import Prefork, running
from tests.servers.process import PATIENCE_SECONDS, WSGI_APP, Scratch, wait_until

ASGI_APP = "tests.servers.apps.asgi_app:app"
CHAOS_APP = "tests.servers.apps.chaos_app:app"
GUNICORNS = [
    ("sync", WSGI_APP),
    ("gthread", WSGI_APP),
    ("gevent", WSGI_APP),
    ("asgi", ASGI_APP),
    ("uvicorn_worker.UvicornWorker", ASGI_APP),
]
# The six servers of this file share the time: these five and uvicorn.
SECONDS = float(os.environ.get("SOAK_SECONDS", "8")) / (len(GUNICORNS) + 1)
WORKERS = 3


class Shaken(Exporting):
    """A gunicorn with an exporter that can be reloaded, upgraded and resized."""

    wanted = WORKERS

    def __enter__(self) -> Shaken:
        super().__enter__()
        return self

    def master(self) -> int:
        """Return the master that has workers, the newest where an upgrade is under way."""
        found = self.processes()
        servers = found.keys() & self.servers()
        # All workers may be dead at this moment: a process without a parent among them is a master, too.
        masters = {pid for pid in servers if found.get(pid) not in servers} | {
            found[pid] for pid in servers if found.get(pid) in servers
        }
        newest = [pid for pid in masters if not any(found.get(one) == pid for one in masters)]
        return max(newest or masters or [self.pid])

    def workers(self) -> list[int]:
        """Return the processes of gunicorn that have a parent among them, and no children."""
        found = self.processes()
        servers = set(self.servers())
        parents = {found.get(pid) for pid in servers}
        return sorted(pid for pid in servers if found.get(pid) in servers and pid not in parents)

    def alive(self) -> set[int]:
        """Return gunicorn's own processes: masters and workers."""
        return set(self.servers())

    def started(self) -> set[int]:
        """Return the workers and masters that the log names."""
        pids = re.findall(r"Booting worker with pid: (\d+)|Listening at: .* \((\d+)\)", self.log())
        return {int(worker or master) for worker, master in pids}

    def killed(self) -> set[int]:
        """Return the workers that were ended by SIGKILL: by a test, or by a master whose patience ended.

        A master that stops does not log which workers it has killed.
        """
        started = re.findall(r"Booting worker with pid: (\d+)", self.log())
        # The second is uvicorn's, which then ends by the signal that it got.
        exited = re.findall(r"(?:Worker exiting \(pid: |Finished server process \[)(\d+)", self.log())
        return set(map(int, {*started} - {*exited})) - self.alive()

    def reload(self) -> None:
        """HUP: the master reads its configuration again, and replaces all workers."""
        send(self.master(), signal.SIGHUP)
        self.wanted = WORKERS

    def grow(self) -> None:
        """TTIN: one worker more."""
        if self.wanted < 2 * WORKERS:
            self.wanted += 1
            self._resize(signal.SIGTTIN, "ttin")

    def shrink(self) -> None:
        """TTOU: one worker less."""
        if self.wanted > 1:
            self.wanted -= 1
            self._resize(signal.SIGTTOU, "ttou")

    def _resize(self, number: signal.Signals, name: str) -> None:
        # The kernel joins two pending signals of the same number.
        line = f"Handling signal: {name}"
        before = self.log().count(line)
        send(self.master(), number)
        wait_until(lambda: self.log().count(line) > before, "the signal to be heard", shown=self.log)

    def upgrade(self) -> None:
        """USR2, and TERM for the old master once the new one has workers."""
        old = self.master()
        # A master that has not noticed the end of the one before it refuses.
        line = "USR2 signal ignored"
        before = self.log().count(line)
        send(old, signal.SIGUSR2)
        with contextlib.suppress(AssertionError):
            wait_until(
                lambda: (
                    (self.master() != old and len(self.workers()) > WORKERS)
                    or self.log().count(line) > before
                ),
                "the new master's workers",
            )
        if self.master() != old:
            send(old, signal.SIGTERM)
            wait_until(lambda: old not in self.processes(), "the old master to end", shown=self.log)
            self.wanted = WORKERS


@pytest.mark.parametrize(("worker_class", "app"), GUNICORNS, ids=[name for name, _ in GUNICORNS])
def test_gunicorn_counts_each_request_once_under_random_signals(
    place: Scratch, worker_class: str, app: str
) -> None:
    if worker_class == "asgi":
        pytest.importorskip("gunicorn.workers.gasgi", reason="gunicorn before 25 has no worker of that class")
    options = ("--graceful-timeout=1", "--keep-alive=1")
    with Shaken(place, *options, app=app, workers=WORKERS, worker_class=worker_class) as server:
        chaos = Chaos(server, [server.reload, server.grow, server.shrink, server.upgrade])
        with Scraper(server.metrics_port) as scraper, Clients(server.port) as clients:
            wait_until(lambda: sum(clients.answered.values()) >= 20, "the first answers", shown=server.log)
            chaos.run(SECONDS)
            wait_until(lambda: len(server.workers()) >= server.wanted, "all workers", shown=server.log)
        chaos.observe()
        killed = len(server.killed())
        settle(scraper, clients, server, killed, uncounted=killed if app == ASGI_APP else 0)
        assert sum(clients.answered.values()) > 0
        wait_until(
            lambda: scraper.scrape() and scraper.total("web_prom_workers") == len(server.workers()),
            "the number of workers",
            shown=lambda: f"{scraper.total('web_prom_workers')} of {server.workers()}\n{server.log()}",
        )
        chaos.observe()
        (directory,) = place.shared_directories()
        # A process that looks for a slot can pass one that becomes free at this moment.
        assert most_files_of_a_kind(os.listdir(directory)) <= chaos.most_processes + 2
        print(f"{worker_class}: {dict(chaos.done)}, {killed} killed, {clients}, {scraper.answers} scrapes")


def test_uvicorn_counts_each_request_once_under_random_signals(place: Scratch) -> None:
    directory = place.folder / "shared"
    directory.mkdir()

    def command(port: int) -> list[str]:
        options = [f"--port={port}", f"--workers={WORKERS}", "--no-access-log"]
        return [sys.executable, "-m", "uvicorn", *options, ASGI_APP]

    with running(place, command, directory) as server, exporter(place, directory) as metrics_port:

        def reload() -> None:
            send(server.pid, signal.SIGHUP)

        chaos = Chaos(_Listed(server), [reload])
        with Scraper(metrics_port) as scraper, Clients(server.port) as clients:
            wait_until(lambda: sum(clients.answered.values()) >= 20, "the first answers", shown=server.log)
            chaos.run(SECONDS)
            wait_until(lambda: len(server.workers()) >= WORKERS, "all workers", shown=server.log)
        clients.answered[REQUESTS[0]] += server.sent
        killed = max(chaos.done["kill"], len(re.findall(r"died|was not ready in time", server.log())))
        settle(scraper, clients, _Listed(server), killed, uncounted=killed)
        # A reload replaces one worker after the other, and may start the new one before it ends the old one.
        assert most_files_of_a_kind(os.listdir(directory)) <= WORKERS + 1
        print(f"uvicorn: {dict(chaos.done)}, {clients}, {scraper.answers} scrapes")


class _Listed:
    """A server of several processes, with the methods that Chaos calls."""

    def __init__(self, server: Prefork) -> None:
        self._server = server
        self.port = server.port
        self.log = server.log

    def workers(self) -> list[int]:
        return sorted(self._server.workers())

    def alive(self) -> set[int]:
        return self._server.processes()

    def started(self) -> set[int]:
        return set(map(int, re.findall(r"Started server process \[(\d+)\]", self._server.log())))


@contextlib.contextmanager
def exporter(place: Scratch, directory: Path) -> Iterator[int]:
    """Run an exporter for a directory; yield its port."""
    path = place.folder / "exporter.log"
    with path.open("wb") as log:
        process = interpreters.Popen(
            [sys.executable, "-m", "web_prom", "serve", "--dir", str(directory), "--bind", "127.0.0.1:0"],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=place.environ,
            cwd=place.folder,
        )
    try:
        told = wait_until(
            lambda: re.search(r"Metrics at: http://\S*?:(\d+)/", path.read_text()),
            "an exporter",
            shown=path.read_text,
        )
        yield int(told[1])
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture
def small_disk(place: Scratch) -> Iterator[Path]:
    """Mount a file system of a few megabytes; only root can."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    folder = place.folder / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,mode=1777", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_full_disk_loses_no_request(place: Scratch, small_disk: Path) -> None:
    """Values wait in memory, failures are counted, and the values are written when there is space again."""
    directory = small_disk / "shared"
    directory.mkdir()
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
    with Shaken(place, workers=WORKERS, environ=environ) as server:
        with (
            Scraper(server.metrics_port) as scraper,
            # No request may fail here, so a client has to wait for a server that a busy machine slows down.
            Clients(server.port, timeout_seconds=PATIENCE_SECONDS) as clients,
        ):
            wait_until(lambda: len(clients.answered) == len(REQUESTS), "one answer of each kind")
            blocker = small_disk / "blocker"
            with contextlib.suppress(OSError), blocker.open("wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)
            # New workers need files of their own, and the disk has no space for them.
            for _ in range(2):
                server.grow()
            wait_until(lambda: len(server.workers()) == server.wanted, "two workers more", shown=server.log)
            # The start of a worker may take longer than many requests to the others.
            wait_until(lambda: "No space left on device" in server.log(), "a failure", shown=server.log)
            before = sum(clients.answered.values())
            wait_until(lambda: sum(clients.answered.values()) > before + 100, "answers on a full disk")
            blocker.unlink()
            wait_until(lambda: scraper.total("web_prom_storage_errors_total") > 0, "a failure to be counted")
            before = sum(clients.answered.values())
            wait_until(lambda: sum(clients.answered.values()) > before + 200, "answers after it")
        settle(scraper, clients, server)
        assert sum(clients.unanswered.values()) == 0, "a client got no answer"


def test_exhausted_descriptors_lose_no_request(place: Scratch) -> None:
    """A scrape may fail, but never shows less than was counted."""
    exhaust = Request("GET", "/exhaust", 200, "/exhaust")
    with Shaken(place, app=CHAOS_APP, workers=1, worker_class="gthread") as server:
        with (
            Scraper(server.port) as inside,
            Scraper(server.metrics_port) as scraper,
            Clients(server.port, (*REQUESTS, exhaust, exhaust)) as clients,
        ):
            wait_until(
                lambda: clients.answered[exhaust] > 20,
                "descriptors to run out twenty times",
                shown=server.log,
            )
        settle(scraper, clients, server)
        assert inside.decreases == []
