"""The applications of this process whose database queries are measured."""

from __future__ import annotations

from threading import Lock
from weakref import ref

from web_prom.database.pools import write_pools
from web_prom.database.recorder import DatabaseRecorder
from web_prom.metrics.recorder import Recorder
from web_prom.runtime import this_process

_lock = Lock()
_recorders: list[ref[DatabaseRecorder]] = []


def activate(recorder: Recorder) -> DatabaseRecorder:
    """Measure the queries of an application, and return its database recorder.

    The adapter of a framework calls it once for each application with ``PROM_DATABASE``, when the
    application starts. A further call for the same recorder returns the same object.

    Args:
        recorder: The recorder of the application. Its attribute ``database`` is set.
    """
    with _lock:
        if isinstance(recorder.database, DatabaseRecorder):
            return recorder.database
        database = recorder.database = DatabaseRecorder(recorder)
        _recorders[:] = [known for known in _recorders if known() is not None]
        _recorders.append(ref(database))
        this_process.add_publish_callback(write_pools)
        return database


def default_recorder() -> DatabaseRecorder | None:
    """Return the database recorder of the application that was activated last, or None.

    It records what belongs to no application: queries outside of requests, pools, and tasks.
    """
    for known in reversed(_recorders):
        found = known()
        if found is not None:
            return found
    return None


def find_recorder(registry: object) -> DatabaseRecorder | None:
    """Return the database recorder of the application that uses a registry, or None."""
    for known in reversed(_recorders):
        found = known()
        if found is not None and found.recorder.registry is registry:
            return found
    return None
