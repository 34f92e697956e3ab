"""Hooks for gunicorn: ``--config python:web_prom.gunicorn``, or import them into your own configuration file.

Importing this module creates the directory that the workers share, because a preloaded application is
imported before gunicorn calls any hook. The module imports neither gunicorn nor prometheus_client, because
workers of type gevent patch the standard library later. gunicorn takes every name in this module that
equals one of its settings. So all public names here are hooks.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from web_prom.errors import ConfigError, DirectoryError
from web_prom.gunicorn_types import GunicornServer, GunicornWorker
from web_prom.multiprocess.directory.environment import (
    DIR_VARIABLE,
    configured_directory,
    is_set_but_empty,
)
from web_prom.multiprocess.directory.server_directory import open_server_directories
from web_prom.multiprocess.writing.early_activation import switch_at_import

if TYPE_CHECKING:
    from web_prom.exporter.manager import ExporterManager

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

# The modules of the types of workers that post_worker_init supports.
_WSGI = {f"gunicorn.workers.{name}" for name in ("sync", "gthread", "ggevent", "geventlet")}
_UVICORN = {"uvicorn.workers", "uvicorn_worker._workers"}

try:
    _directories = open_server_directories()
except DirectoryError as error:
    # gunicorn would print a traceback without more information.
    raise SystemExit(f"Error: {error}") from None
# The application may create metrics before it imports web-prom.
switch_at_import()


def nworkers_changed(server: GunicornServer, new_value: int, old_value: int | None) -> None:
    """Use the directory that the environment names; in a reload, check the exporter's settings.

    gunicorn calls this early in each start and reload, before it loads an application. ``--env`` and
    ``raw_env`` are known then, but not yet in ``os.environ``.

    Raises:
        SystemExit: At start, if the directory cannot be used.
    """
    _use_configured_directory(server)
    if server.WORKERS:
        _exporter().keep_allowed_settings(server)


def on_starting(server: GunicornServer) -> None:
    """Give the directory, with a preloaded application's files, to the workers' user; check the settings.

    Raises:
        SystemExit: The directory cannot be used or given away, or the exporter's settings are not allowed.
    """
    _use_configured_directory(server)
    try:
        _exporter().check_settings(os.environ)
    except ConfigError as error:
        raise SystemExit(f"Error: {error}") from None


def when_ready(server: GunicornServer) -> None:
    """Start the exporter, if ``PROM_BIND`` is set: a separate process that ends with this one.

    The exporter is started again if it is killed.
    """
    _exporter().reconcile(server, _directories.current.path)
    _exporter().watch(server)


def post_worker_init(worker: GunicornWorker) -> None:
    """Measure the application that the worker has loaded, if ``PROM_INSTRUMENT`` is set.

    This is for products whose code and settings the operator cannot change. An application that uses
    web-prom itself stays as it is. With a type of worker that is not supported, a warning is logged.

    The capacity of a worker with a measured application is in scrapes from now on, before its first request.

    Raises:
        WebPromError: A setting is not allowed. gunicorn logs the error and ends.
    """
    _instrument(worker)
    process: Any = sys.modules.get("web_prom.runtime.this_process")
    if process is not None:  # an application is measured, which the master may have loaded
        process.detect_capacity()
        process.publish()


def on_reload(server: GunicornServer) -> None:
    """Replace the exporter if its settings have changed, and start it if it is not running."""
    _exporter().reconcile(server, _directories.current.path)


def pre_exec(server: GunicornServer) -> None:
    """Pass the directory and the exporter's port to the server that replaces this one, in its environment."""
    _directories.export(server.cfg.env_orig)
    _exporter().export_listener(server.cfg.env_orig)


def child_exit(server: GunicornServer, worker: GunicornWorker) -> None:
    """Remove the live gauges of a dead worker. Never raises.

    Older gunicorn releases call this in a signal handler. So this uses no metric and waits for no lock.
    """
    for directory in _directories.directories:
        try:
            directory.remove_dead_worker(worker.pid)
        except Exception as error:
            server.log.warning("live gauges of worker %s are not removed: %s", worker.pid, error)


def on_exit(server: GunicornServer) -> None:
    """Stop the exporter and release the directory. A private directory is removed."""
    _exporter().stop()
    # gunicorn killed these workers after the graceful timeout, and does not call child_exit for them.
    for worker in list(server.WORKERS.values()):
        child_exit(server, worker)
    # A server that has preloaded an application may write metrics, too.
    files: Any = sys.modules.get("web_prom.multiprocess.writing.current_storage")
    if files is not None:
        files.process_storage().stop_watching()
    _directories.release()


def _instrument(worker: GunicornWorker) -> None:
    # The environment is complete only now: it includes gunicorn's raw_env.
    key = "PROM_INSTRUMENT"
    if key not in os.environ:
        return
    from web_prom.config import Config
    from web_prom.instrumentation import instrument, is_asgi

    if not Config.load(environ={key: os.environ[key]}).instrument:
        return
    modules = {kind.__module__ for kind in type(worker).__mro__}
    # gunicorn's own ASGI worker has another attribute for the application.
    name = "asgi" if hasattr(worker, "asgi") else "wsgi"
    application: Any = getattr(worker, name)
    asgi = name == "asgi"
    is_supported = asgi or not modules.isdisjoint(_WSGI)
    if not modules.isdisjoint(_UVICORN):
        # uvicorn calls an application that is not asynchronous by an old protocol.
        asgi = is_supported = is_asgi(application)
    if is_supported:
        setattr(worker, name, instrument(application, asgi=asgi))
    else:
        worker.log.warning("PROM_INSTRUMENT: %r of %s is not measured", application, type(worker).__name__)


def _use_configured_directory(server: GunicornServer) -> None:
    _directories.set_owner()
    try:
        path = configured_directory(server.cfg.env) or configured_directory() or _directories.current.path
        _directories.switch_to(path, in_use=bool(server.WORKERS))
        _directories.current.chown(server.cfg.uid, server.cfg.gid)
    except DirectoryError as error:
        if not server.WORKERS:
            raise SystemExit(f"Error: {error}") from None
        server.log.error("%s; %s stays in use", error, _directories.current.path)
        _override_variable(server)
    if is_set_but_empty(server.cfg.env):
        _override_variable(server)
    _directories.export(os.environ)


def _override_variable(server: GunicornServer) -> None:
    """Set the variable to the current directory in workers, which apply ``raw_env`` after their fork."""
    server.cfg.set("raw_env", [*server.cfg.raw_env, f"{DIR_VARIABLE}={_directories.current.path}"])


def _exporter() -> ExporterManager:
    # Imported late: the module imports more of the standard library, which gunicorn has imported by then.
    from web_prom.exporter.manager import manager

    return manager
