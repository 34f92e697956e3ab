"""How many requests a worker serves at once, read from servers that are simulated."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from web_prom.runtime.capacity import gunicorn_capacity, worker_capacity


def function(source: str, name: str, module: str) -> Any:
    """Define a function as a module of a server has it; the module itself is not imported."""
    namespace: dict[str, Any] = {"__name__": module}
    exec(source, namespace)
    return namespace[name]


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the modules of servers that other tests have imported."""
    for name in ("uwsgi", "mod_wsgi", "granian", "gunicorn.workers.base", "gunicorn.arbiter"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def install(monkeypatch: pytest.MonkeyPatch, name: str, **attributes: Any) -> None:
    """Put a module with these attributes into sys.modules."""
    module = ModuleType(name)
    vars(module).update(attributes)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def gunicorn(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Simulate gunicorn's classes for workers and for the master."""

    class Worker:
        def __init__(self, kind: str, threads: int = 1, connections: int = 1000) -> None:
            self.cfg = SimpleNamespace(worker_class_str=kind, threads=threads, worker_connections=connections)

        def run(self) -> int | None:
            return worker_capacity()

    class Arbiter:
        def spawn_worker(self, call: Callable[[], int | None]) -> int | None:
            return call()

    install(monkeypatch, "gunicorn.workers.base", Worker=Worker)
    install(monkeypatch, "gunicorn.arbiter", Arbiter=Arbiter)
    return SimpleNamespace(Worker=Worker, Arbiter=Arbiter)


# No server -------------------------------------------------------------------------------------------


def test_worker_capacity_without_a_server_is_unknown() -> None:
    assert worker_capacity() is None


def test_worker_capacity_without_a_server_is_the_configured_one() -> None:
    assert worker_capacity(8) == 8


# gunicorn --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "capacity"),
    [
        ("sync", 1),
        ("gthread", 4),
        ("gevent", 50),
        ("eventlet", 50),
        ("asgi", 50),
        ("geventwebsocket.gunicorn.workers.GeventWebSocketWorker", 50),
        ("uvicorn_worker.UvicornWorker", None),
        ("tornado", None),
    ],
)
def test_gunicorn_capacity_depends_on_worker_class(gunicorn: Any, kind: str, capacity: int | None) -> None:
    worker = gunicorn.Worker(kind, threads=4, connections=50)
    assert gunicorn_capacity(worker.cfg) == capacity
    assert worker.run() == capacity


def test_worker_capacity_of_gunicorns_master_is_unknown(gunicorn: Any) -> None:
    """Its workers serve requests, also if the user has set a capacity."""
    arbiter = gunicorn.Arbiter()
    assert arbiter.spawn_worker(worker_capacity) is None
    assert arbiter.spawn_worker(lambda: worker_capacity(8)) is None


def test_worker_capacity_of_a_forked_worker_is_not_the_masters(gunicorn: Any) -> None:
    """A worker runs in the frames of the master that forked it."""
    assert gunicorn.Arbiter().spawn_worker(gunicorn.Worker("gthread", threads=4).run) == 4


def test_worker_capacity_of_gunicorn_is_found_at_a_connection(gunicorn: Any) -> None:
    """The asgi worker's connection calls the application, in no frame of the worker."""

    class Connection:
        worker = gunicorn.Worker("asgi", connections=70)

        def handle(self) -> int | None:
            return worker_capacity()

    assert Connection().handle() == 70


def test_worker_capacity_that_is_configured_wins_in_a_worker(gunicorn: Any) -> None:
    class Worker(gunicorn.Worker):  # type: ignore[misc]
        def run(self) -> int | None:
            return worker_capacity(8)

    assert Worker("sync").run() == 8


# uWSGI and mod_wsgi ----------------------------------------------------------------------------------


def test_worker_capacity_of_uwsgi_is_its_number_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "uwsgi", cores=6, worker_id=lambda: 2)
    assert worker_capacity() == 6
    assert worker_capacity(8) == 8


def test_worker_capacity_of_uwsgis_master_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "uwsgi", cores=6, worker_id=lambda: 0)
    assert worker_capacity() is None
    assert worker_capacity(8) is None


@pytest.mark.parametrize(("threads", "capacity"), [(15, 15), (0, None), (None, None)])
def test_worker_capacity_of_mod_wsgi_is_its_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, threads: int | None, capacity: int | None
) -> None:
    install(monkeypatch, "mod_wsgi", threads_per_process=threads)
    assert worker_capacity() == capacity


def test_worker_capacity_survives_a_server_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "uwsgi")  # without worker_id()
    install(monkeypatch, "mod_wsgi", threads_per_process=3)
    assert worker_capacity() == 3


# Servers that are read from their frames -------------------------------------------------------------


def test_worker_capacity_in_a_thread_pool_is_its_size() -> None:
    """Hypercorn and a2wsgi run WSGI applications in a pool."""
    with ThreadPoolExecutor(max_workers=11) as pool:
        assert pool.submit(worker_capacity).result() == 11


def test_worker_capacity_of_waitress_is_its_number_of_threads() -> None:
    execute = function("def execute(self, call): return call()", "execute", "waitress.task")
    adjustments = SimpleNamespace(threads=3)
    task = SimpleNamespace(channel=SimpleNamespace(server=SimpleNamespace(adj=adjustments)))
    assert execute(task, worker_capacity) == 3


@pytest.mark.parametrize("parser", ["h11", "httptools"])
@pytest.mark.parametrize("limit", [7, None])
def test_worker_capacity_of_uvicorn_is_its_limit(parser: str, limit: int | None) -> None:
    run_asgi = function(
        "def run_asgi(self, call): return call()", "run_asgi", f"uvicorn.protocols.http.{parser}_impl"
    )

    class Protocol:
        limit_concurrency = limit

        def on_response_complete(self) -> None:
            pass

    assert run_asgi(SimpleNamespace(on_response=Protocol().on_response_complete), worker_capacity) == limit


def test_worker_capacity_survives_frames_that_changed() -> None:
    """A later release may keep its configuration elsewhere."""
    execute = function("def execute(self, call): return call()", "execute", "waitress.task")
    assert execute(object(), worker_capacity) is None
    assert execute(object(), lambda: worker_capacity(8)) == 8


def test_worker_capacity_of_granian_is_read_from_the_main_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads of granian that serve requests are no threads of Python."""
    install(monkeypatch, "granian")
    spawn = function(
        "def _spawn_wsgi_worker(blocking_threads, call): return call()",
        "_spawn_wsgi_worker",
        "granian.server.mp",
    )
    found: list[int | None] = []

    def serve() -> None:
        thread = threading.Thread(target=lambda: found.append(worker_capacity()))
        thread.start()
        thread.join()

    spawn(5, serve)
    assert found == [5]
    serve()
    assert found == [5, None]
