"""The time that requests waited for a worker: ``http_request_queue_seconds``."""

from __future__ import annotations

import contextlib
import math
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from itertools import repeat
from typing import Any, TypeVar
from weakref import WeakSet

from prometheus_client import Histogram
from prometheus_client.metrics_core import Metric

from web_prom.metrics.conventions import QUEUE_TIME_BUCKETS
from web_prom.posix import at_fork
from web_prom.runtime.tcp_info import (
    HAS_TCP_INFO,
    IPPROTO_TCP,
    SOCKET_KEY,
    TCP_INFO,
    TCP_INFO_SIZE,
    milliseconds_since_last_data,
)
from web_prom.upstream.values import values_of

HEADER_KEY = "HTTP_X_REQUEST_START"
"""The key of a proxy's ``X-Request-Start`` in an environ."""

CONNECTION_KEY = SOCKET_KEY
"""The key of a request's socket in an environ. A request with neither key is not observed."""

# A longer time means that a clock or the header is wrong.
MAX_QUEUE_SECONDS = 3600.0

# One write to the histogram takes longer than the measurement. So many measurements are written together.
_MAX_PENDING = 256


class QueueTimeHistogram(Histogram):
    """A histogram to which measurements that are pending are written before it is collected."""

    def collect(self) -> Iterable[Metric]:
        """Return the family with all measurements."""
        for queue_time in list(_all):
            queue_time.flush()
        return super().collect()


class QueueTime:
    """Measures how long the requests of one application waited.

    A proxy's ``X-Request-Start`` is used if the request has one. Otherwise the time since the last bytes of
    the request arrived at the socket is used, where the server gives access to it
    (:mod:`web_prom.runtime.tcp_info`). A request with neither is not observed.

    Measurements are pending in memory until the histogram is collected, at most for a second where several
    workers share their values, or until there are 256. A worker that is killed with SIGKILL loses those that
    are pending.

    Safe to share between threads. After a fork the child has no pending measurements of its parent.

    Args:
        child: Returns the histogram's child. It is called at the first measurement.
        record_internal_error: Called with a name of what failed, while the exception is handled.
    """

    def __init__(self, child: Callable[[], Any], record_internal_error: Callable[[str], None]) -> None:
        self._make_child = child
        self._child: Any = None
        self._record_internal_error = record_internal_error
        # What the kernel returned about sockets: decoding many together takes less time.
        self._pending_infos: list[bytes] = []
        self._pending_seconds: list[float] = []
        # The histogram does not exist before the first measurement.
        self._max_pending = 1
        _all.add(self)

    # One function, because each call of a function takes time in each request.
    def observe(self, environ: Mapping[str, Any]) -> None:
        """Measure a request that starts, by its WSGI environ. Never raises."""
        try:
            if HEADER_KEY in environ:
                self.observe_header(environ[HEADER_KEY])
                return
            connection = environ.get(CONNECTION_KEY)
            # gunicorn gives no address of the client if the socket is a UNIX socket.
            if connection is None or not HAS_TCP_INFO or not environ.get("REMOTE_ADDR"):
                return
            pending = self._pending_infos
            pending.append(connection.getsockopt(IPPROTO_TCP, TCP_INFO, TCP_INFO_SIZE))
            if len(pending) >= self._max_pending:
                self.flush()
        except (AttributeError, OSError):  # the socket is closed, or of another kind
            return
        except Exception:
            self._record_internal_error("queue")

    def observe_header(self, header: str) -> None:
        """Measure a request that starts, by its ``X-Request-Start``. Never raises."""
        try:
            waited = queue_seconds(header, time.time())
            if waited is not None:
                self._pending_seconds.append(waited)
                if len(self._pending_seconds) >= self._max_pending:
                    self.flush()
        except Exception:
            self._record_internal_error("queue")

    def flush(self) -> None:
        """Write the pending measurements to the histogram. Never raises."""
        if not (self._pending_infos or self._pending_seconds):
            return
        try:
            child = self._ensure_child()
            if self._pending_infos:
                _observe_all(child, milliseconds_since_last_data(_take(self._pending_infos)), 1000)
            if self._pending_seconds:
                _observe_all(child, _take(self._pending_seconds), 1)
        except Exception:
            self._record_internal_error("queue")

    def _ensure_child(self) -> Any:
        child = self._child
        if child is None:
            # Several threads may come here, and get the same child.
            try:
                child = self._make_child()
            except Exception:
                self._child = _NO_HISTOGRAM  # recorded once
                raise
            self._child = child
            self._max_pending = _MAX_PENDING
        return child

    def rebind_values(self) -> None:
        """Look up the histogram's child again when measurements are written."""
        self._child = None

    def clear_pending(self) -> None:
        """Drop the pending measurements: in a forked child they are the parent's."""
        self._pending_infos.clear()
        self._pending_seconds.clear()


Item = TypeVar("Item")


def _take(pending: list[Item]) -> list[Item]:
    """Remove what is pending now, and return it. Each item goes to one thread, because pop() is atomic."""
    taken: list[Item] = []
    with contextlib.suppress(IndexError):
        taken.extend(map(list.pop, repeat(pending, len(pending))))
    return taken


_NO_HISTOGRAM = object()

# The upper bounds of the buckets, by how many units a second has.
_BOUNDS = {unit: (*(bound * unit for bound in QUEUE_TIME_BUCKETS), math.inf) for unit in (1, 1000)}


def _observe_all(child: Any, waits: list[float] | list[int], unit: int) -> None:
    """Observe values, with one write for each bucket that has any.

    Args:
        child: The histogram's child, or _NO_HISTOGRAM.
        waits: The values, in any order. The list is changed.
        unit: How many units of the values are a second.
    """
    waits.sort()
    del waits[bisect_right(waits, MAX_QUEUE_SECONDS * unit) :]
    if child is _NO_HISTOGRAM or not waits:
        return
    values = values_of(child)
    if values is None:
        for waited in waits:
            child.observe(waited / unit)
        return
    total, *buckets = values
    total.inc(sum(waits) / unit)
    counted = 0
    for bound, bucket in zip(_BOUNDS[unit], buckets, strict=True):
        below = bisect_right(waits, bound, counted)
        if below > counted:
            bucket.inc(float(below - counted))
            if below == len(waits):
                return
            counted = below


_all: WeakSet[QueueTime] = WeakSet()


def _clear_in_child() -> None:
    for queue_time in list(_all):
        queue_time.clear_pending()


at_fork(after_in_child=_clear_in_child)


def flush_queue_times() -> None:
    """Write the pending measurements of all applications. Never raises."""
    for queue_time in list(_all):
        queue_time.flush()


def queue_seconds(header: str, now: float) -> float | None:
    """Return the seconds since a proxy's ``X-Request-Start``, or None if the header is not plausible.

    nginx and Apache write ``t=`` and seconds or microseconds, Heroku writes milliseconds. The size of the
    number shows the unit.

    Args:
        header: ``t=1700000000.123``, ``1700000000123`` or ``t=1700000000123456``.
        now: The time, in seconds since the epoch.
    """
    try:
        start = float(header.strip().removeprefix("t="))
    except ValueError:
        return None
    for unit in (1.0, 1e3, 1e6):
        waited = now - start / unit
        if 0 <= waited <= MAX_QUEUE_SECONDS:
            return waited
    return None
