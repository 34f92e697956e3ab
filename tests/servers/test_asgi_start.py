"""Starlette under each ASGI server: an invalid setting is an error at the start, and nothing is served."""

from __future__ import annotations

import http.client
from collections import Counter
from pathlib import Path

import pytest

from tests.servers.documented import commands, requirements
from tests.servers.prefork import Prefork, running
from tests.servers.process import Scratch, wait_until

COMMANDS = commands()
APP = "tests.servers.apps.late_settings:app"
WRONG = "PROM_DURATION_BUCKETS in the environment is 'wrong'"

each_server = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=requirements(name)) for name in COMMANDS]
)


@pytest.fixture
def directory(place: Scratch) -> Path:
    """Return a directory for several workers."""
    path = place.folder / "shared"
    path.mkdir()
    return path


@each_server
@pytest.mark.parametrize("how", ["add_middleware", "install"])
def test_fault_89_invalid_setting_is_an_error_at_start(
    how: str, name: str, place: Scratch, directory: Path
) -> None:
    place.environ["MEASURED_BY"] = how
    place.environ["PROM_DURATION_BUCKETS"] = "wrong"
    server = Prefork(place, COMMANDS[name].serving(APP), directory)
    try:
        wait_until(lambda: WRONG in server.log(), "the error", shown=server.log)
        with pytest.raises((OSError, http.client.HTTPException)):
            server.get("/error/1")
        assert "the application lives" not in server.log()
    finally:
        server.kill()


@each_server
def test_fault_88_status_that_the_client_received_is_counted(
    name: str, place: Scratch, directory: Path
) -> None:
    with running(place, COMMANDS[name].serving(APP), directory) as server:
        before = server.rest()
        for _ in range(6):
            assert server.get("/error/1") == (503, b"sorry")
        server.settle(before + Counter({("GET", "/error/{name}", "503"): 6}))
        assert server.exceptions() == {("/error/{name}", "ZeroDivisionError"): 6}
        assert "the application lives" in server.log()
