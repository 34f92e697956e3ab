"""The time that a request waited before a worker took it."""

from __future__ import annotations

import time

from web_prom.metrics.recording import Recorder

# A queue time beyond this is a clock or a header that lies.
MAX_QUEUE_SECONDS = 3600.0


def observe_queue(recorder: Recorder, header: str) -> None:
    """Observe the time since a request's ``X-Request-Start``, where that is measured. Never raises."""
    try:
        if recorder.queue is not None:
            waited = queue_seconds(header, time.time())
            if waited is not None:
                recorder.queue.observe(waited)
    except Exception:
        recorder.record_internal_error("queue")


def queue_seconds(header: str, now: float) -> float | None:
    """Return the seconds since a proxy's ``X-Request-Start``, or None if it tells nothing sensible.

    nginx and Apache write ``t=`` and seconds or microseconds, Heroku milliseconds; which unit it is
    shows in the size of the number.

    Args:
        header: ``t=1700000000.123``, ``1700000000123`` or ``t=1700000000123456``.
        now: The time, in seconds since the epoch.
    """
    try:
        began = float(header.strip().removeprefix("t="))
    except ValueError:
        return None
    for unit in (1.0, 1e3, 1e6):
        waited = now - began / unit
        if 0 <= waited <= MAX_QUEUE_SECONDS:
            return waited
    return None
