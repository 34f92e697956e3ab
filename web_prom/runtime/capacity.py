"""The number of requests that this worker serves at once, read from its server.

No server tells it to the application. It is read from modules of the server, or from the frames of the call
that reaches the application: gunicorn's worker has its configuration, a thread pool its size. A server of
which nothing is found has no capacity here.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_ASYNC_WORKERS = ("gevent", "eventlet", "asgi")

_MASTER = 0
"""The capacity of a master process, which serves no requests."""


def worker_capacity(configured: int | None = None) -> int | None:
    """Return how many requests this process serves at once, or None where that cannot be known.

    Call it in a request, or while the server loads the application. It takes microseconds, and never raises.

    Args:
        configured: What the user has set for each worker. It is returned, unless this process is the master
            of workers and serves no requests.
    """
    for read in (_of_uwsgi, _of_gunicorn, _of_mod_wsgi, _of_frames, _of_granian):
        try:
            capacity = read()
        except Exception:  # noqa: S112 - another release of the server has other names
            continue
        if capacity is not None:
            return (configured or capacity) if capacity > _MASTER else None
    return configured


def gunicorn_capacity(cfg: Any) -> int | None:
    """Return how many requests a worker of gunicorn serves at once, by gunicorn's configuration.

    A sync worker serves one, a gthread worker one in each thread; gevent, eventlet and asgi workers take
    ``worker_connections``. Other classes of workers have limits of their own.
    """
    kind = str(cfg.worker_class_str)
    if kind == "sync":
        return 1
    if kind == "gthread":
        return int(cfg.threads)
    if any(name in kind.lower() for name in _ASYNC_WORKERS):
        return int(cfg.worker_connections)
    return None


def _of_uwsgi() -> int | None:
    uwsgi: Any = sys.modules.get("uwsgi")
    if uwsgi is None:
        return None
    # One core for each thread, or for each request of an async loop.
    return int(uwsgi.cores) if uwsgi.worker_id() else _MASTER


def _of_gunicorn() -> int | None:
    base: Any = sys.modules.get("gunicorn.workers.base")
    arbiter: Any = sys.modules.get("gunicorn.arbiter")
    if base is None or arbiter is None:
        return None
    for frame in _frames(sys._getframe()):
        found = frame.f_locals.get("self")
        # A connection of the asgi worker has its worker.
        for each in (found, getattr(found, "worker", None)):
            if isinstance(each, base.Worker):
                return gunicorn_capacity(each.cfg)
            # A worker runs in the frames of the arbiter that forked it: the innermost of the two counts.
            if isinstance(each, arbiter.Arbiter):
                return _MASTER
    return None


def _of_mod_wsgi() -> int | None:
    mod_wsgi: Any = sys.modules.get("mod_wsgi")
    threads = getattr(mod_wsgi, "threads_per_process", None)
    return int(threads) if threads else None


def _of_frames() -> int | None:
    for frame in _frames(sys._getframe()):
        read = _READERS.get((frame.f_globals.get("__name__", ""), frame.f_code.co_name))
        if read is not None:
            return read(frame.f_locals)
    return None


def _of_granian() -> int | None:
    """Read the arguments of the function that granian's worker process runs in its main thread."""
    if "granian" not in sys.modules:
        return None
    main = sys._current_frames().get(threading.main_thread().ident or 0)
    for frame in _frames(main):
        if frame.f_code.co_name == "_spawn_wsgi_worker":
            return int(frame.f_locals["blocking_threads"])
    return None


def _of_executor(local: dict[str, Any]) -> int | None:
    """Read the size of a thread pool from its thread: hypercorn and a2wsgi run WSGI applications in one."""
    executor = local["executor_reference"]()
    return None if executor is None else int(executor._max_workers)


def _of_waitress(local: dict[str, Any]) -> int | None:
    return int(local["self"].channel.server.adj.threads)


def _of_uvicorn(local: dict[str, Any]) -> int | None:
    # The callback of a request is a method of its connection, which has the limit.
    limit = local["self"].on_response.__self__.limit_concurrency
    return None if limit is None else int(limit)


_READERS: dict[tuple[str, str], Callable[[dict[str, Any]], int | None]] = {
    ("concurrent.futures.thread", "_worker"): _of_executor,
    ("waitress.task", "execute"): _of_waitress,
    ("uvicorn.protocols.http.h11_impl", "run_asgi"): _of_uvicorn,
    ("uvicorn.protocols.http.httptools_impl", "run_asgi"): _of_uvicorn,
}


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
