"""A shared directory that becomes unwritable: the server continues, and values wait in memory."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.programs import needs_program
from tests.servers.process import HOOKS, Gunicorn, Scratch, command, run, wait_until

# Root ignores file modes unless it drops that capability.
_UNPRIVILEGED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []


class Unprivileged(Gunicorn):
    """A gunicorn that cannot ignore the modes of files and directories."""

    def __init__(self, place: Scratch, *arguments: str, **options: Any) -> None:
        if _UNPRIVILEGED:
            needs_program(_UNPRIVILEGED[0], package="util-linux")
        super().__init__(place, *arguments, **options)
        self._command = [*_UNPRIVILEGED, *self._command]


def answer(server: Gunicorn) -> int:
    """Return the status of one request; a worker that ends may close an accepted connection."""
    for _ in range(10):
        with contextlib.suppress(OSError, http.client.HTTPException):
            return server.get("/")[0]
    return server.get("/")[0]


def serve_beyond_replacements(server: Gunicorn, requests: int) -> None:
    """Send requests; each worker is replaced after five of them, and each must be answered."""
    booted = server.log().count("Booting worker")
    answers = [answer(server) for _ in range(requests)]
    assert answers == [200] * requests, server.log()
    wait_until(lambda: server.log().count("Booting worker") > booted, "a replacement", shown=server.log)


@pytest.mark.parametrize("hooks", [True, False])
@pytest.mark.parametrize("mode", [0o555, 0])
def test_fault_66_workers_are_replaced_while_the_directory_is_read_only(
    place: Scratch, mode: int, hooks: bool
) -> None:
    """The failure is logged, and counted once the directory is writable again."""
    shared = place.folder / "shared"
    shared.mkdir()
    config = HOOKS if hooks else None
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(shared)}
    with Unprivileged(place, "--max-requests=5", config=config, environ=environ, workers=1) as server:
        serve_beyond_replacements(server, 7)
        for path in shared.iterdir():
            path.chmod(0o444)
        shared.chmod(mode)
        try:
            serve_beyond_replacements(server, 7)
            serve_beyond_replacements(server, 7)
            assert "values that cannot be written wait in memory" in server.log()
        finally:
            shared.chmod(0o755)
            for path in shared.iterdir():
                path.chmod(0o644)
        wait_until(
            lambda: answer(server) and server.value("web_prom_storage_errors_total") > 0,
            "a count",
            shown=server.log,
        )
        serve_beyond_replacements(server, 7)
        assert "Worker failed to boot" not in server.log()


@pytest.mark.parametrize("hooks", [True, False])
def test_fault_66_unwritable_directory_is_an_error_at_start(place: Scratch, hooks: bool) -> None:
    shared = place.folder / "shared"
    shared.mkdir(mode=0o555)
    started = [*_UNPRIVILEGED, *command(config=HOOKS if hooks else None)]
    told = run(place, started, PROMETHEUS_MULTIPROC_DIR=str(shared))
    assert told.returncode != 0
    assert f"PROMETHEUS_MULTIPROC_DIR is '{shared}', which cannot be written" in told.stderr


@pytest.mark.parametrize("hooks", [True, False])
def test_fault_66_workers_are_replaced_after_the_directory_is_removed(place: Scratch, hooks: bool) -> None:
    """A file with its name prevents that it is created again."""
    shared = place.folder / "shared"
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(shared)}
    config = HOOKS if hooks else None
    with Gunicorn(place, "--max-requests=5", config=config, environ=environ, workers=1) as server:
        serve_beyond_replacements(server, 7)
        shutil.rmtree(shared)
        shared.touch()
        try:
            if hooks:
                serve_beyond_replacements(server, 14)
        finally:
            shared.unlink()
            Path(shared).mkdir()
        answer(server)
        assert "Worker failed to boot" not in server.log()
