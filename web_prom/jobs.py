"""Jobs of Celery and RQ: their database queries are counted under the name of the task.

Neither Celery nor RQ is imported before it is asked for. For other queues use :func:`web_prom.database.task`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from threading import RLock
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry

from web_prom.config import Config
from web_prom.metrics.recorder import Recorder
from web_prom.posix import at_fork
from web_prom.upstream.registry import check_registry

__all__ = ["JobQueries", "instrument_celery"]

logger = logging.getLogger("web_prom")

_UID = "web_prom.jobs"
_OPEN = "_web_prom_task"

_UNKNOWN = "_unknown"
"""The name of a job whose function cannot be found."""


def instrument_celery(*, registry: CollectorRegistry = REGISTRY, **options: object) -> None:
    """Count the queries of Celery's tasks under the method ``_task`` and the name of the task.

    Call it where the application of Celery is created. A further call changes only the arguments. It
    needs no call in a Django project: the setting ``PROM_DATABASE`` does it.

    The signals ``task_prerun`` and ``task_postrun`` are connected. They are sent in the process and the
    thread that runs a task, with each kind of pool, for each attempt of a task. A task that is called inside
    of a request or of another task (``task_always_eager``, ``apply()``) has its own name: its queries do not
    count for the request.

    If the process has no application with ``PROM_DATABASE`` when the first task begins, the families are
    created for this worker.

    Args:
        registry: The registry of the families, if they are created for this worker.
        **options: Its settings by field name, as for ``FlaskProm``. They take precedence over the
            environment.

    Raises:
        ConfigError: A setting is unknown or not allowed.
        TypeError: ``registry`` is not a registry.
    """
    check_registry(registry, "collect", "register")
    config = Config.load({"database": True, **options}, environ=os.environ)
    _setup.own = config, registry
    _setup.reset()
    connect_celery()


def connect_celery() -> None:
    """Connect the signals of Celery, once in each process. It does not create families."""
    signals = import_module("celery.signals")
    signals.task_prerun.connect(_on_task_start, dispatch_uid=_UID, weak=False)
    signals.task_postrun.connect(_on_task_end, dispatch_uid=_UID, weak=False)


def disconnect_celery() -> None:
    """Disconnect the signals of Celery."""
    signals = import_module("celery.signals")
    signals.task_prerun.disconnect(_on_task_start, dispatch_uid=_UID)
    signals.task_postrun.disconnect(_on_task_end, dispatch_uid=_UID)
    _setup.own = None
    _setup.reset()


class JobQueries:
    """A mixin for worker classes of RQ. It counts the queries of each job under the name of its function.

    ::

        class Worker(JobQueries, rq.Worker):
            pass

    The method is ``_task``, as for Celery. The name has the module, for example ``shop.jobs.send_receipt``.
    The mixin is also for ``SimpleWorker``.
    """

    def perform_job(self, job: Any, *rest: Any) -> Any:
        """Run a job, in the process that RQ has created for it."""
        with measured_job(_name_of_job(job)):
            return super().perform_job(job, *rest)  # type: ignore[misc]


@contextmanager
def measured_job(name: str) -> Iterator[None]:
    """Count the queries of a block under the name of a job. The first one creates missing families."""
    _setup()
    if not _measures_databases():
        yield
        return
    from web_prom.database.tasks import task

    with task(name):
        yield


def add_setup(function: Callable[[], object]) -> None:
    """Call a function before the first job of this process. An adapter starts its measurements there.

    Its exceptions are logged. Further calls with the same function change nothing.
    """
    _setup.add(function)


def remove_setup(function: Callable[[], object]) -> None:
    """Do not call a function of :func:`add_setup` any more."""
    _setup.remove(function)


class _Setup:
    """Starts the measurements of a process before its first job. Safe to share between threads.

    Attributes:
        own: The settings and the registry of families that are created if no application has them.
    """

    def __init__(self) -> None:
        self.own: tuple[Config, CollectorRegistry] | None = None
        self._functions: list[Callable[[], object]] = []
        self._lock = RLock()
        # A thread of the parent that held the lock does not exist in a forked child.
        at_fork(after_in_child=self._lock._at_fork_reinit)  # type: ignore[attr-defined]
        self._is_done = False
        self._recorder: Recorder | None = None  # nothing else keeps it

    def add(self, function: Callable[[], object]) -> None:
        """Add a function."""
        if function not in self._functions:
            self._functions.append(function)
        self.reset()

    def remove(self, function: Callable[[], object]) -> None:
        """Remove a function, if it was added."""
        if function in self._functions:
            self._functions.remove(function)

    def reset(self) -> None:
        """Start again before the next job."""
        self._is_done = False
        self._recorder = None

    def __call__(self) -> None:
        """Start, if that is not done. Never raises."""
        if self._is_done:
            return
        with self._lock:
            if self._is_done:
                return
            self._is_done = True
            for function in (*self._functions, self._create_families):
                try:
                    function()
                except Exception:
                    logger.warning("jobs are not measured", exc_info=True)

    def _create_families(self) -> None:
        if self.own is None or _measures_databases():
            return
        config, registry = self.own
        if not (config.enabled and config.database):
            return
        from web_prom.database.activation import activate
        from web_prom.database.sqlalchemy_hooks import instrument_all

        self._recorder = Recorder(config, registry, owner="the worker")
        activate(self._recorder)
        instrument_all()


_setup = _Setup()


def _measures_databases() -> bool:
    """Return whether an application of this process measures databases. It imports nothing."""
    activation = sys.modules.get("web_prom.database.activation")
    return activation is not None and activation.default_recorder() is not None


def _on_task_start(task: Any = None, **_: Any) -> None:
    try:
        measured: AbstractContextManager[None] = measured_job(str(task.name))
        measured.__enter__()
        setattr(task.request, _OPEN, measured)  # the request of this attempt
    except Exception:
        logger.debug("a task is not measured", exc_info=True)


def _on_task_end(task: Any = None, **_: Any) -> None:
    try:
        measured = vars(task.request).pop(_OPEN, None)
        if measured is not None:
            measured.__exit__(None, None, None)
    except Exception:
        logger.debug("a task is not measured", exc_info=True)


def _name_of_job(job: Any) -> str:
    try:
        return str(job.func_name)
    except Exception:  # the message is broken, and RQ will say so
        return _UNKNOWN
