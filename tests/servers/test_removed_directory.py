"""Real servers whose shared directory is removed while they serve: no total is lost or decreases."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.servers.exporting import Exporting, ask
from tests.servers.process import PATIENCE_SECONDS, Scratch, wait_until
from tests.servers.test_uvicorn import Uvicorn
from web_prom.multiprocess.directory.slots import slots_of

REQUESTS = "http_requests_total"
ERRORS = "web_prom_storage_errors_total"
TOTALS = (REQUESTS, "http_requests_in_progress", "http_request_duration_seconds_count")


class NoDirectoryError(Exception):
    """The exporter finds no shared directory."""


def remove_values(directory: Path) -> None:
    """Remove all files but the locks."""
    for path in directory.glob("*.db"):
        path.unlink()


REMOVALS: list[Callable[[Path], object]] = [
    shutil.rmtree,
    remove_values,
    lambda directory: (directory / "slots.lock").unlink(),
]


@contextlib.contextmanager
def vanishing(server: Exporting, directory: Path) -> Iterator[None]:
    """Check that each scrape of the exporter has the same total until all processes noticed the removal.

    A scrape fails while there is no directory.
    """
    # A master that imported the application writes, too, but is not a worker.
    *before, errors = seen(server, *TOTALS, ERRORS)
    holders = len(slots_of(directory).holders())
    yield
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        with contextlib.suppress(NoDirectoryError):
            *totals, noticed, damaged = seen(server, *TOTALS, ERRORS, "web_prom_damaged_files")
            assert totals == before, server.log()
            if noticed >= errors + holders and not damaged:
                break
        assert time.monotonic() < deadline, (errors, holders, server.log())
        time.sleep(0.05)


def send(server: Exporting) -> None:
    """Send one request."""
    try:
        assert server.get("/")[0] == 200
    except OSError as error:
        raise AssertionError((server.processes(), server.log())) from error


def seen(server: Exporting, *names: str) -> list[float]:
    """Return totals of one scrape of the exporter.

    Raises:
        NoDirectoryError: It says that there is no directory.
    """
    try:
        status, body = ask(server.metrics_port)
    except OSError as error:
        raise AssertionError((server.processes(), server.log())) from error
    if status == 503:
        raise NoDirectoryError
    assert status == 200, server.log()
    samples = [
        sample for family in text_string_to_metric_families(body.decode()) for sample in family.samples
    ]
    return [sum(sample.value for sample in samples if sample.name == name) for name in names]


@pytest.mark.parametrize(
    ("worker_class", "arguments"),
    [("sync", ()), ("gthread", ()), ("gevent", ()), ("gthread", ("--preload",))],
    ids=["sync", "gthread", "gevent", "preload"],
)
def test_fault_42_idle_workers_keep_their_totals_when_the_directory_is_removed(
    place: Scratch, worker_class: str, arguments: tuple[str, ...]
) -> None:
    """The directory is private. The exporter, which only reads, works throughout."""
    with Exporting(place, *arguments, worker_class=worker_class, workers=2) as server:
        (directory,) = place.shared_directories()
        idle = 0 if arguments else 2  # a worker that inherits the application takes a slot as it serves
        wait_until(lambda: server.total("web_prom_workers") >= idle, "all workers", shown=server.log)
        sent = 0
        for remove in REMOVALS:
            for _ in range(10):
                send(server)
            sent += 10
            wait_until(lambda: server.total(REQUESTS) == sent, "all requests", shown=server.log)  # noqa: B023
            with vanishing(server, directory):
                remove(directory)
            assert server.value(REQUESTS, route="/") == sent
        former = set(server.servers()) - {server.pid}
        server.signal(signal.SIGHUP)
        server.wait_for_boots(4)
        # A gthread worker of gunicorn 21 resets connections that it accepts while it ends.
        wait_until(lambda: not former & set(server.servers()), "the former workers to end", shown=server.log)
        send(server)
        wait_until(lambda: server.total(REQUESTS) == sent + 1, "successors to go on", shown=server.log)


def test_fault_94_application_that_empties_the_directory_at_start(place: Scratch) -> None:
    """By then each of its processes has a slot and values."""
    shared = place.folder / "shared"
    shared.mkdir()
    place.environ["PROMETHEUS_MULTIPROC_DIR"] = str(shared)
    app = "tests.servers.apps.emptying_app:app"
    with Uvicorn(place, "--workers=2", app=app) as server:

        def served() -> bool:
            with contextlib.suppress(OSError, http.client.HTTPException):
                return server.get("/")[0] == 200
            return False

        # Its workers listen only after the log says so.
        wait_until(served, "a worker", shown=server.log)
        for _ in range(99):
            assert server.get("/")[0] == 200

        def total() -> float:
            with contextlib.suppress(OSError, http.client.HTTPException):
                return sum(server.samples("http_requests", REQUESTS, "route").values())
            return 0.0

        wait_until(lambda: total() == 100, "all requests", shown=server.log)
        wait_until(lambda: server.gauge("web_prom_workers") == 2, "both workers", shown=server.log)
