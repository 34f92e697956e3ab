"""What is recorded of one WebSocket: its route, its close code, its time and its messages."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from web_prom.metrics.labels import OTHER, UNMATCHED, route_is_excluded
from web_prom.metrics.recording import Recorder

LABELS = frozenset({"code", "direction"})
"""Labels that the families of requests do not have."""

REJECTED = "_rejected"
"""The code of a connection that the application refused before there was one."""

ABNORMAL_CLOSURE, INTERNAL_ERROR = "1006", "1011"
"""The codes of one that ended without a close, and of one whose application raised."""

UNKNOWN = "_unknown"
"""The code of a connection under WSGI whose end nobody tells."""

# https://www.iana.org/assignments/websocket/websocket.xhtml#close-code-number; those from 3000 on are
# anybody's, and a client can send all of them.
_CODES = {code: str(code) for code in (*range(1000, 1004), *range(1005, 1016))}


def code_label(code: Any) -> str:
    """Return the label value of a close code: one of a list that no client can add to."""
    return _CODES.get(code, OTHER)


class WebSocketRecording:
    """What is recorded of one WebSocket. One thread or task at a time uses it; several may count messages.

    Attributes:
        recorder: Who has the instruments.
        route: The route template, or None where none is known.
        explicit_route: The route that the application named itself, if it did.
        status: None: there is none as requests have it.
        outer: The recording of the same connection for another registry, by a layer around this one.
        measured: Whether it counts; false for an excluded view.
        extra: Values of the extra labels.
        finished: Whether it was observed.
    """

    status: str | None = None
    explicit_route: str | None = None
    outer: Any = None

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.route: str | None = None
        self.measured = True
        self.extra: tuple[str, ...] = ()
        self.finished = False
        self._counted: tuple[str | None, dict[str, Any]] | None = None
        self._gauge = recorder.plain_child_of(recorder.families.websockets_in_progress)
        self._gauge.inc()
        self._started = perf_counter()

    def count(self, direction: str) -> None:
        """Count a message that was ``received`` or ``sent``."""
        counted = self._counted
        if counted is None or counted[0] != self.route:
            counted = self._counted = (self.route, self._counters())
        counter = counted[1].get(direction)
        if counter is not None:
            counter.inc()

    def finish(self, code: str, ended: float | None = None) -> None:
        """Observe the connection, once; further calls do nothing. Never raises.

        Args:
            code: The label value of its close code.
            ended: ``perf_counter()`` at its end, if that is not now.
        """
        if self.finished:
            return
        self.finished = True
        try:
            duration = (perf_counter() if ended is None else ended) - self._started
            self._gauge.dec()
            route = self._label()
            if route is not None:
                recorder, families = self.recorder, self.recorder.families
                recorder.child_of(families.websockets, (route, code), self.extra).inc()
                recorder.child_of(families.websocket_duration, (route,), self.extra).observe(duration)
        except Exception:
            self.recorder.record_internal_error("finish")

    def cancel(self) -> None:
        """Forget the connection: there is none."""
        if not self.finished:
            self.finished = True
            self._gauge.dec()

    def _counters(self) -> dict[str, Any]:
        route = self._label()
        if route is None:
            return {}
        family = self.recorder.families.websocket_messages
        return {
            direction: self.recorder.child_of(family, (route, direction), self.extra)
            for direction in ("received", "sent")
        }

    def _label(self) -> str | None:
        """Return the route's label value, or None if the connection is not measured."""
        route = UNMATCHED if self.route is None else self.route
        excluded = route_is_excluded(route, self.recorder.config.exclude)
        return route if self.measured and not excluded else None
