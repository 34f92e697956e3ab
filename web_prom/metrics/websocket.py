"""The recording of one WebSocket: its route, its close code, its duration and its messages."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from web_prom.metrics.labels import OTHER, UNMATCHED
from web_prom.metrics.recorder import Recorder
from web_prom.metrics.routes import route_is_excluded
from web_prom.metrics.uncopied import Uncopied

WEBSOCKET_LABELS = frozenset({"code", "direction"})
"""Label names of the WebSocket families that the families of requests do not have."""

REJECTED = "_rejected"
"""The code of a connection that the application rejected during the handshake."""

ABNORMAL_CLOSURE, INTERNAL_ERROR = "1006", "1011"
"""The codes of a connection that ended without a close frame, and of one whose application raised."""

UNKNOWN = "_unknown"
"""The code of a connection under WSGI whose end cannot be observed."""

# https://www.iana.org/assignments/websocket/websocket.xhtml#close-code-number. Codes from 3000 on are free
# for applications, and a client can send any of them.
_CODES = {code: str(code) for code in (*range(1000, 1004), *range(1005, 1016))}


def code_label(code: Any) -> str:
    """Return the label value of a close code. The number of values is bounded."""
    return _CODES.get(code, OTHER)


class WebSocketRecording(Uncopied):
    """The state of one open WebSocket.

    One thread or task at a time uses it. Messages may be counted by several.

    Attributes:
        recorder: The recorder of the application.
        route: The route template, or None if it is not known.
        explicit_route: The route that the application set itself, or None.
        status: Always None: a WebSocket has no status.
        outer: The recording of the same connection in an outer layer with another registry, or None.
        measured: Whether the connection is counted. False for an excluded view.
        extra: The values of the extra labels.
        finished: Whether the connection was observed.
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
        self._message_counters: tuple[str | None, dict[str, Any]] | None = None
        self._gauge = recorder.constant_child(recorder.families.websockets_in_progress)
        self._gauge.inc()
        self._started = perf_counter()

    def count_message(self, direction: str) -> None:
        """Count a message that was ``received`` or ``sent``."""
        kept = self._message_counters
        if kept is None or kept[0] != self.route:
            kept = self._message_counters = (self.route, self._find_message_counters())
        counter = kept[1].get(direction)
        if counter is not None:
            counter.inc()

    def finish(self, code: str, ended: float | None = None) -> None:
        """Observe the connection, once. Further calls do nothing. Never raises.

        Args:
            code: The label value of its close code.
            ended: ``perf_counter()`` at the end of the connection, if that is not now.
        """
        if self.finished:
            return
        self.finished = True
        try:
            duration = (perf_counter() if ended is None else ended) - self._started
            self._gauge.dec()
            route = self._route_label()
            if route is not None:
                recorder, families = self.recorder, self.recorder.families
                attributes = {"route": route, "code": code}
                recorder.child_for(families.websockets, attributes, self.extra).inc()
                recorder.child_for(families.websocket_duration, attributes, self.extra).observe(duration)
        except Exception:
            self.recorder.record_internal_error("finish")

    def cancel(self) -> None:
        """Drop the recording: the request did not become a WebSocket."""
        if not self.finished:
            self.finished = True
            self._gauge.dec()

    def _find_message_counters(self) -> dict[str, Any]:
        route = self._route_label()
        if route is None:
            return {}
        family = self.recorder.families.websocket_messages
        return {
            direction: self.recorder.child_for(family, {"route": route, "direction": direction}, self.extra)
            for direction in ("received", "sent")
        }

    def _route_label(self) -> str | None:
        """Return the label value of the route, or None if the connection is not measured."""
        route = UNMATCHED if self.route is None else self.route
        excluded = route_is_excluded(route, self.recorder.config.exclude)
        return route if self.measured and not excluded else None
