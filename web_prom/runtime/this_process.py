"""The start of the measurements of this process, and their publication for scrapes of other processes."""

from __future__ import annotations

import atexit
from collections.abc import Callable

from prometheus_client.metrics_core import Metric

from web_prom.multiprocess.writing.activation import is_shared
from web_prom.multiprocess.writing.current_storage import process_storage
from web_prom.multiprocess.writing.watch_thread import each_second
from web_prom.posix import at_fork
from web_prom.runtime.capacity import worker_capacity
from web_prom.runtime.measurements import Measurements
from web_prom.runtime.publishing import Publisher

measurements = Measurements()
"""All applications and threads of this process share it. A forked child continues to use it."""

_publisher = Publisher()

# The capacity may be unreadable in one request, and readable in the next one.
_MAX_CAPACITY_ATTEMPTS = 20

_capacity_attempts = 0
_configured: int | None = None
_publish_callbacks: list[Callable[[], None]] = []


def start(*, capacity: int | None, interpreter: bool) -> None:
    """Start to measure this process. Called once for each application.

    Args:
        capacity: How many requests a worker serves at once, or None to read it from the server.
        interpreter: Whether the interpreter is measured, too.
    """
    global _configured  # noqa: PLW0603 - a process has one server
    _configured = capacity or _configured
    if interpreter and not measurements.interpreter:
        measurements.start_interpreter()
    if publish not in each_second:
        each_second.append(publish)
        atexit.register(publish)
    detect_capacity()


def detect_capacity() -> None:
    """Read the capacity from the server, if it is not known.

    Called in a request, and when the server loads the application. It takes microseconds. Once the capacity
    is known, it takes almost no time.
    """
    global _capacity_attempts  # noqa: PLW0603 - a process has one server
    measurements.hub.start()
    if measurements.capacity is None and _capacity_attempts < _MAX_CAPACITY_ATTEMPTS:
        _capacity_attempts += 1
        measurements.capacity = worker_capacity(_configured)


def add_publish_callback(write: Callable[[], None]) -> None:
    """Call a function whenever the measurements are published. It must not raise."""
    if write not in _publish_callbacks:
        _publish_callbacks.append(write)


def publish() -> None:
    """Write the measurements to the value files, if values are shared. Never raises for a file.

    Each process calls this once a second, before it answers a scrape, and when it exits. If a process is
    killed, its measurements of the last second are lost.
    """
    for write in _publish_callbacks:
        write()
    if is_shared():
        families = shared_families()
        if families:
            _publisher.publish(families)


def shared_families() -> list[Metric]:
    """Return the measurements with the number of this process's slot as the label ``worker``.

    A process that has measured nothing acquires no slot. A slot that was lost is not acquired again here: the
    directory of a server that exits stays removed.
    """
    storage = process_storage()
    slot = storage.slot
    if slot is None and measurements.families("", shared=True):
        with storage.lock:
            slot = storage.slot if storage.has_slot() else None
    return [] if slot is None else measurements.families(str(slot), shared=True)


def _begin_in_child() -> None:
    global _capacity_attempts  # noqa: PLW0603
    _capacity_attempts = 0
    measurements.begin_in_child()
    _publisher.renew_lock()


at_fork(after_in_child=_begin_in_child)
