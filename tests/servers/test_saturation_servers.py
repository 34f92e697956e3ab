"""The capacity that is read from other servers than gunicorn, as real processes."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.servers.prefork import Prefork, running
from tests.servers.process import WSGI_APP, Scratch, wait_until

ASGI_APP = "tests.servers.apps.asgi_app:app"
CAPACITY = "http_server_worker_capacity"


def waitress(port: int) -> list[str]:
    """Return the command line of a waitress with three threads."""
    return [sys.executable, "-m", "waitress", f"--listen=127.0.0.1:{port}", "--threads=3", WSGI_APP]


def granian(port: int) -> list[str]:
    """Return the command line of a granian whose workers have five threads each."""
    options = ["--interface", "wsgi", "--workers", "2", "--blocking-threads", "5"]
    return [script("granian"), *options, "--host", "127.0.0.1", "--port", str(port), WSGI_APP]


def hypercorn(port: int) -> list[str]:
    """Return the command line of a hypercorn that serves WSGI in the thread pool of its event loop."""
    return [script("hypercorn"), "--workers", "1", "--bind", f"127.0.0.1:{port}", f"wsgi:{WSGI_APP}"]


def uvicorn(port: int) -> list[str]:
    """Return the command line of a uvicorn that refuses further requests above seven."""
    options = ["--workers", "2", "--limit-concurrency", "7", "--host", "127.0.0.1", "--port", str(port)]
    return [sys.executable, "-m", "uvicorn", *options, ASGI_APP]


def uvicorn_httptools(port: int) -> list[str]:
    """Return the command line of a uvicorn with the parser httptools."""
    return [*uvicorn(port), "--http", "httptools"]


def uvicorn_h11(port: int) -> list[str]:
    """Return the command line of a uvicorn with the parser h11."""
    return [*uvicorn(port), "--http", "h11"]


def uwsgi(port: int) -> list[str]:
    """Return the command line of a uWSGI whose workers have six threads each."""
    options = ["--need-app", "--master", "--processes", "2", "--threads", "6", "--die-on-term"]
    return [script("uwsgi"), *options, "--http-socket", f"127.0.0.1:{port}", "--module", WSGI_APP]


def script(name: str) -> str:
    """Return the path of a program in this environment."""
    return str(Path(sysconfig.get_path("scripts"), name))


def shown(server: Prefork) -> list[float]:
    """Return the capacity of each worker in a scrape."""
    return sorted(server.samples(CAPACITY, CAPACITY, "worker").values())


@pytest.mark.parametrize(
    ("command", "capacities"),
    [
        (waitress, [3]),
        (granian, [5, 5]),
        (uvicorn_httptools, [7, 7]),
        (uvicorn_h11, [7, 7]),
        (uwsgi, [6, 6]),
    ],
)
def test_capacity_is_read_from_the_server(
    place: Scratch, command: Callable[[int], list[str]], capacities: list[float]
) -> None:
    """Each worker that has answered a request shows its own capacity; a master shows none."""
    with running(place, command, shared(place)) as server:

        def known() -> bool:
            server.get("/")
            return shown(server) == capacities

        wait_until(known, str(capacities), shown=lambda: f"{shown(server)} {server.log()}")


def test_capacity_of_hypercorn_with_wsgi_is_the_size_of_its_thread_pool(place: Scratch) -> None:
    with running(place, hypercorn, shared(place)) as server:
        wait_until(lambda: shown(server), "the capacity", shown=server.log)
        assert shown(server) == [default_threads()]


@pytest.mark.parametrize("name", ["uvicorn", "hypercorn"])
def test_capacity_of_an_asgi_server_without_a_limit_is_absent(place: Scratch, name: str) -> None:
    def command(port: int) -> list[str]:
        bind = ["--host", "127.0.0.1", "--port", str(port)]
        if name == "hypercorn":
            bind = ["--bind", f"127.0.0.1:{port}"]
        return [script(name), *bind, ASGI_APP]

    with running(place, command, shared(place)) as server:
        for _ in range(30):
            assert server.get("/")[0] == 200
        assert CAPACITY not in server.scrape()


def default_threads() -> int:
    """Return how many threads a pool has by default on this machine."""
    with ThreadPoolExecutor() as pool:
        return pool._max_workers


def shared(place: Scratch) -> Path:
    """Make the directory that the processes of a server share."""
    directory = place.folder / "shared"
    directory.mkdir(exist_ok=True)
    return directory
