"""Django's signals: when a request began, what raised in it, and that it is over."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from time import perf_counter
from typing import Any

from django.core.signals import got_request_exception, request_finished, request_started

from web_prom.metrics.body_sizes import CountingInput
from web_prom.metrics.recording import RECORDING_KEY, Recording

STARTED = "web_prom.started"
"""Where the start of a request is in its WSGI environ or ASGI scope: ``perf_counter()``, in seconds."""

replaceable: ContextVar[tuple[Recording, Any] | None] = ContextVar("web_prom_replaceable", default=None)
"""The recording of a request whose response another middleware may put aside without closing it.

The second item is the value of the outer request, where a view makes a request with a test client.
"""


class EarlyInput(CountingInput):
    """A request's stream, counted from before the middleware has the request."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream, _Read())

    def hand_over(self, recording: Any) -> None:
        """Go on counting for a recording."""
        recording.request_size = self._recording.request_size
        self._recording = recording


class _Read:
    """What was read of a stream before there is a recording, in bytes."""

    def __init__(self) -> None:
        self.request_size = 0


def connect() -> None:
    """Connect what every project needs; any number of times.

    Django calls receivers one after the other, each with its own cost, and under ASGI calls those that
    are not async in a thread that it needs for its own anyway: ours are few, short and not async.
    """
    request_started.connect(_stamp, dispatch_uid=f"{__name__}.started")
    got_request_exception.connect(_note_current, dispatch_uid=f"{__name__}.exception")


def count_input(wanted: bool) -> None:
    """Count the bytes read of request bodies, or no longer."""
    uid = f"{__name__}.input"
    if wanted:
        request_started.connect(_count_input, dispatch_uid=uid)
    else:
        request_started.disconnect(dispatch_uid=uid)


def finish_replaced() -> None:
    """Finish requests whose response another middleware put aside; needed where one stands above ours."""
    request_finished.connect(_finish, dispatch_uid=f"{__name__}.finished")


def watch_replaced(recording: Recording) -> None:
    """Have a recording finished by the end of its request, even if nobody closes its response."""
    outer = replaceable.get()
    is_inside = outer is not None and outer[0].status is None and not outer[0].finished
    replaceable.set((recording, outer if is_inside else None))


def _stamp(environ: dict[str, Any] | None = None, scope: dict[str, Any] | None = None, **_: Any) -> None:
    # The middleware sees the request later: after other receivers, which may reconnect to a database.
    place = scope if environ is None else environ
    if place is not None:
        place[STARTED] = perf_counter()


def _count_input(environ: dict[str, Any] | None = None, **_: Any) -> None:
    # Django's request takes the stream's methods when it is made: the middleware would come too late.
    if environ is not None and "wsgi.input" in environ:
        environ["wsgi.input"] = EarlyInput(environ["wsgi.input"])


def note(request: Any, error: BaseException | None) -> None:
    """Remember an exception with the recording of its request, if that has one that is not finished."""
    recording = getattr(request, "META", {}).get(RECORDING_KEY)
    if recording is None or recording.finished or error is None:
        return
    recording.add_exception(error)
    if recording.status is not None:
        # Our part was over: a middleware above raised, and Django answers in the place of all.
        recording.status = "500"


def _note_current(request: Any = None, **_: Any) -> None:
    note(request, sys.exc_info()[1])


def _finish(**_: Any) -> None:
    found = replaceable.get()
    # Closing any response sends this signal: a view may close one that it does not answer with.
    if found is not None and found[0].status is not None:
        replaceable.set(found[1])
        found[0].finish()
