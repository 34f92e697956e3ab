"""Hooks for gunicorn: ``--config python:web_prom.gunicorn``, or import them into a file of your own.

Reading this module makes the directory that the workers share, because a preloaded application is
imported before any hook is called. It imports neither gunicorn nor prometheus_client: a worker of type
gevent patches the standard library later. gunicorn takes every name here that equals one of its
settings, so there are none but the hooks.
"""

from __future__ import annotations

import os
from typing import Any

from web_prom.errors import ConfigError, DirectoryError
from web_prom.multiprocess.directory.environment import (
    DIR_VARIABLE,
    configured_directory,
    is_set_but_empty,
)
from web_prom.multiprocess.directory.server_directory import open_server_directories
from web_prom.multiprocess.writing.early_activation import switch_at_import

__all__ = [
    "child_exit",
    "nworkers_changed",
    "on_exit",
    "on_reload",
    "on_starting",
    "post_worker_init",
    "pre_exec",
    "when_ready",
]

# The modules of the workers whose protocol is known.
_WSGI = {f"gunicorn.workers.{name}" for name in ("sync", "gthread", "ggevent", "geventlet")}
_UVICORN = {"uvicorn.workers", "uvicorn_worker._workers"}

try:
    _directories = open_server_directories()
except DirectoryError as error:
    # gunicorn would print a traceback that says no more.
    raise SystemExit(f"Error: {error}") from None
# The application may make instruments before it imports web-prom.
switch_at_import()


def nworkers_changed(server: Any, new_value: int, old_value: int | None) -> None:
    """Follow the variable: this is called early in each start and reload, before an application is loaded.

    ``--env`` and ``raw_env`` are known by then and not yet in ``os.environ``.

    Raises:
        SystemExit: At start, if the directory that they name cannot be used.
    """
    _follow(server)


def on_starting(server: Any) -> None:
    """Give the directory, with what a preloaded application has put there, to the workers' user.

    Raises:
        SystemExit: The directory cannot be used or given away, or the exporter's settings are not allowed.
    """
    _follow(server)
    try:
        _exporter().check()
    except ConfigError as error:
        raise SystemExit(f"Error: {error}") from None


def when_ready(server: Any) -> None:
    """Start the exporter, if ``PROM_BIND`` asks for one: a process of its own that ends with this one.

    It is started again if it is killed.
    """
    _exporter().follow(server, _directories.current.path)
    _exporter().watch(server)


def post_worker_init(worker: Any) -> None:
    """Measure the application that the worker has loaded, if ``PROM_INSTRUMENT`` asks for it.

    For products whose code and settings are not the operator's. An application that uses web-prom itself is
    left as it is, and so is one of a kind of worker that is not known: a warning is logged.

    Raises:
        WebPromError: A setting is not allowed. gunicorn logs it and ends.
    """
    # The environment is complete only now: gunicorn's raw_env is in it.
    key = "PROM_INSTRUMENT"
    if key not in os.environ:
        return
    from web_prom.config import Config
    from web_prom.instrumentation import instrument, is_asgi

    if not Config.load(environ={key: os.environ[key]}).instrument:
        return
    modules = {kind.__module__ for kind in type(worker).__mro__}
    # gunicorn's own worker for ASGI names the application otherwise.
    name = "asgi" if hasattr(worker, "asgi") else "wsgi"
    application = getattr(worker, name)
    asgi = name == "asgi"
    is_known = asgi or not modules.isdisjoint(_WSGI)
    if not modules.isdisjoint(_UVICORN):
        # uvicorn calls what is not asynchronous by an old protocol.
        asgi = is_known = is_asgi(application)
    if is_known:
        setattr(worker, name, instrument(application, asgi=asgi))
    else:
        worker.log.warning("PROM_INSTRUMENT: %r of %s is not measured", application, type(worker).__name__)


def on_reload(server: Any) -> None:
    """Replace the exporter if what concerns it has changed, and start one if it is gone."""
    _exporter().follow(server, _directories.current.path)


def pre_exec(server: Any) -> None:
    """Pass directory and port on to the server that replaces this one, in the environment of our start."""
    _directories.export(server.cfg.env_orig)
    _exporter().hand_over(server.cfg.env_orig)


def child_exit(server: Any, worker: Any) -> None:
    """Remove what a dead worker can no longer take back: its share of live gauges. Never raises.

    Older gunicorn calls this inside a signal handler: nothing here touches an instrument or waits for a lock.
    """
    for directory in _directories.directories:
        try:
            directory.remove_dead_worker(worker.pid)
        except Exception as error:
            server.log.warning("live gauges of worker %s stay behind: %s", worker.pid, error)


def on_exit(server: Any) -> None:
    """End the exporter and leave the directory; one that was made for this server is removed."""
    _exporter().end()
    # These outlived the graceful timeout and were killed just now; nobody reaps them any more.
    for worker in list(server.WORKERS.values()):
        child_exit(server, worker)
    _directories.release()


def _follow(server: Any) -> None:
    _directories.set_owner()
    try:
        path = configured_directory(server.cfg.env) or configured_directory() or _directories.current.path
        _directories.switch_to(path, in_use=bool(server.WORKERS))
        _directories.current.chown(server.cfg.uid, server.cfg.gid)
    except DirectoryError as error:
        if not server.WORKERS:
            raise SystemExit(f"Error: {error}") from None
        server.log.error("%s; going on with %s", error, _directories.current.path)
        _tell_workers(server)
    if is_set_but_empty(server.cfg.env):
        _tell_workers(server)
    _directories.export(os.environ)


def _tell_workers(server: Any) -> None:
    # Each worker sets these again after its fork.
    server.cfg.set("raw_env", [*server.cfg.raw_env, f"{DIR_VARIABLE}={_directories.current.path}"])


def _exporter() -> Any:
    # What it takes to talk to a process, gunicorn has imported by the time that a hook is called.
    from web_prom.exporter.manager import companion

    return companion
