"""The applications of this process whose database queries are measured."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from weakref import WeakSet, ref

from web_prom.database.pools import write_pools
from web_prom.database.recorder import DatabaseRecorder
from web_prom.metrics.query_tally import current_tally
from web_prom.metrics.recorder import Recorder
from web_prom.posix import at_fork
from web_prom.runtime import this_process

_lock = Lock()

# A thread of the parent that held the lock does not exist in a forked child.
at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]

_recorders: list[ref[DatabaseRecorder]] = []
_not_applications: WeakSet[DatabaseRecorder] = WeakSet()
_sources: list[Callable[[], DatabaseRecorder | None]] = []


class Activations:
    """What has changed since the process began.

    Attributes:
        version: A number that changes when another application becomes the one that was activated last.
    """

    version = 0


def activate(recorder: Recorder, *, is_application: bool = True) -> DatabaseRecorder:
    """Measure the queries of an application, and return its database recorder.

    The adapter of a framework calls it once for each application with ``PROM_DATABASE``, when the
    application starts. A further call for the same recorder returns the same object.

    Args:
        recorder: The recorder of the application. Its attribute ``database`` is set.
        is_application: Whether what belongs to no application is recorded here. If it is False, that is so
            only while there is no application.
    """
    with _lock:
        if isinstance(recorder.database, DatabaseRecorder):
            return recorder.database
        database = recorder.database = DatabaseRecorder(recorder)
        _recorders[:] = [known for known in _recorders if known() is not None]
        _recorders.insert(len(_recorders) if is_application else _others(), ref(database))
        if not is_application:
            _not_applications.add(database)
        Activations.version += 1
        this_process.add_publish_callback(write_pools)
        return database


def _others() -> int:
    """Return how many recorders of no application are active. They are the first ones."""
    return sum(known() in _not_applications for known in _recorders)


def deactivate(database: DatabaseRecorder) -> None:
    """Let nothing more belong to an application but its own requests: other settings replace its settings."""
    with _lock:
        _recorders[:] = [known for known in _recorders if known() is not database]
        Activations.version += 1


def default_recorder() -> DatabaseRecorder | None:
    """Return the database recorder of the application that was activated last, or None.

    It records what belongs to no application: queries outside of requests, pools, and tasks.
    """
    for known in reversed(_recorders):
        found = known()
        if found is not None:
            return found
    return None


def current_recorder() -> DatabaseRecorder | None:
    """Return the database recorder of the current request or task, else :func:`default_recorder`."""
    tally = current_tally.get()
    if tally is None or tally.closed:
        return default_recorder()
    return tally.owner  # type: ignore[no-any-return]


def add_source(create: Callable[[], DatabaseRecorder | None]) -> None:
    """Call a function if a task starts and no application is active: see :func:`create_recorder`.

    Args:
        create: Creates the database recorder of an application, or returns None. It raises nothing.
    """
    if create not in _sources:
        _sources.append(create)


def create_recorder() -> DatabaseRecorder | None:
    """Return the database recorder of an application that serves no request, or None.

    A worker for tasks loads no middleware, so no request has created the recorder.
    """
    return next(filter(None, (create() for create in _sources)), None)


def find_recorder(registry: object) -> DatabaseRecorder | None:
    """Return the database recorder of the application that uses a registry, or None."""
    for known in reversed(_recorders):
        found = known()
        if found is not None and found.recorder.registry is registry:
            return found
    return None
