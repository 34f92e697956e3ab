"""Receivers of Django's signals: the start, the exceptions and the end of a request."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from time import perf_counter
from typing import Any

from django.core.signals import got_request_exception, request_finished, request_started

from web_prom.metrics.body_sizes import CountingInput, CountsRequestBytes
from web_prom.metrics.recording import RECORDING_KEY, Recording

STARTED_KEY = "web_prom.started"
"""The key of the start of a request in its WSGI environ or ASGI scope: ``perf_counter()``, in seconds."""

replaceable: ContextVar[tuple[Recording, Any] | None] = ContextVar("web_prom_replaceable", default=None)
"""The recording of a request whose response another middleware can replace without closing it.

The second item is the value of the outer request, if a view makes a request with a test client.
"""


class EarlyInput(CountingInput):
    """The input stream of a request. It counts bytes before the middleware has created the recording."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream, _ReadBytes())

    def set_recording(self, recording: CountsRequestBytes) -> None:
        """Add the counted bytes to a recording, and all further bytes too."""
        recording.request_size = self._recording.request_size
        self._recording = recording


class _ReadBytes:
    """The number of bytes that were read from a stream before there is a recording."""

    def __init__(self) -> None:
        self.request_size = 0


def connect() -> None:
    """Connect the receivers that every project needs. Further calls change nothing.

    Each receiver makes every request slower, so there are few and they are short. Under ASGI, Django calls
    receivers that are not asynchronous in a thread, which it needs for its own receivers in any case.
    """
    request_started.connect(_store_start_time, dispatch_uid=f"{__name__}.started")
    got_request_exception.connect(_add_current_exception, dispatch_uid=f"{__name__}.exception")


def set_input_counting(enabled: bool) -> None:
    """Start or stop counting the bytes that are read of request bodies."""
    uid = f"{__name__}.input"
    if enabled:
        request_started.connect(_count_input, dispatch_uid=uid)
    else:
        request_started.disconnect(dispatch_uid=uid)


def connect_request_finished() -> None:
    """Connect a receiver that finishes requests whose response a middleware above replaced."""
    request_finished.connect(_finish_replaceable, dispatch_uid=f"{__name__}.finished")


def finish_with_request(recording: Recording) -> None:
    """Finish a recording at request_finished, even if its response is never closed."""
    outer = replaceable.get()
    is_inner = outer is not None and outer[0].status is None and not outer[0].finished
    replaceable.set((recording, outer if is_inner else None))


def add_exception(request: Any, error: BaseException | None) -> None:
    """Add an exception to the recording of a request, if there is one that is not finished."""
    recording = getattr(request, "META", {}).get(RECORDING_KEY)
    if recording is None or recording.finished or error is None:
        return
    recording.add_exception(error)
    if recording.status is not None:
        # The middleware has returned its response. A middleware above it raised, so Django answers 500.
        recording.status = "500"


def _store_start_time(
    environ: dict[str, Any] | None = None, scope: dict[str, Any] | None = None, **_: Any
) -> None:
    # The middleware is called after all receivers of the signal, and a receiver can reconnect to a database.
    mapping = scope if environ is None else environ
    if mapping is not None:
        mapping[STARTED_KEY] = perf_counter()


def _count_input(environ: dict[str, Any] | None = None, **_: Any) -> None:
    # Django's request takes the methods of the stream when it is created, before the middleware is called.
    if environ is not None and "wsgi.input" in environ:
        environ["wsgi.input"] = EarlyInput(environ["wsgi.input"])


def _add_current_exception(request: Any = None, **_: Any) -> None:
    add_exception(request, sys.exc_info()[1])


def _finish_replaceable(**_: Any) -> None:
    found = replaceable.get()
    # The close of any response sends this signal, also of one that a view creates and does not return.
    if found is not None and found[0].status is not None:
        replaceable.set(found[1])
        found[0].finish()
