"""The time that a request waited between the proxy and the worker."""

from __future__ import annotations

import time

from web_prom.metrics.recorder import Recorder

# A longer time means that a clock or the header is wrong.
MAX_QUEUE_SECONDS = 3600.0


def observe_queue_time(recorder: Recorder, header: str) -> None:
    """Observe the time since a request's ``X-Request-Start``, if that is measured. Never raises."""
    try:
        if recorder.queue_time is not None:
            waited = queue_seconds(header, time.time())
            if waited is not None:
                recorder.queue_time.observe(waited)
    except Exception:
        recorder.record_internal_error("queue")


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
