"""What is recorded of a WebSocket: its messages, its end, its time; and WebSockets under ASGI."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from web_prom.asgi_exchange import Message, Receive, Scope, Send
from web_prom.disconnects import is_cancelled
from web_prom.labels import OTHER, UNMATCHED, route_is_excluded
from web_prom.recorder import Recorder

LABELS = frozenset({"code", "direction"})
"""Labels that the families of requests do not have."""

REJECTED = "_rejected"
"""The code of a connection that the application refused before there was one."""

VANISHED, FAILED = "1006", "1011"
"""The codes of one that ended without a close, and of one whose application raised."""

UNKNOWN = "_unknown"
"""The code of a connection under WSGI whose end nobody tells."""

# https://www.iana.org/assignments/websocket/websocket.xhtml#close-code-number; those from 3000 on are
# anybody's, and a client can send all of them.
_CODES = {code: str(code) for code in (*range(1000, 1004), *range(1005, 1016))}


def code_label(code: Any) -> str:
    """Return the label value of a close code: one of a list that no client can add to."""
    return _CODES.get(code, OTHER)


class Socket:
    """What is recorded of one WebSocket. One thread or task at a time uses it; several may count messages.

    Attributes:
        recorder: Who has the instruments.
        route: The route template, or None where none is known.
        named: The route that the application named itself, if it did.
        status: None: there is none as requests have it.
        around: The recording of the same connection for another registry, by a layer around this one.
        measured: Whether it counts; false for an excluded view.
        extra: Values of the extra labels.
        finished: Whether it was observed.
    """

    status: str | None = None
    named: str | None = None
    around: Any = None

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.route: str | None = None
        self.measured = True
        self.extra: tuple[str, ...] = ()
        self.finished = False
        self._counted: tuple[str | None, dict[str, Any]] | None = None
        self._gauge = recorder.plain_child_of(recorder.instruments.websockets_in_progress)
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
                recorder, instruments = self.recorder, self.recorder.instruments
                recorder.child_of(instruments.websockets, (route, code), self.extra).inc()
                recorder.child_of(instruments.websocket_duration, (route,), self.extra).observe(duration)
        except Exception:
            self.recorder.failed("finish")

    def cancel(self) -> None:
        """Forget the connection: there is none."""
        if not self.finished:
            self.finished = True
            self._gauge.dec()

    def _counters(self) -> dict[str, Any]:
        route = self._label()
        if route is None:
            return {}
        family = self.recorder.instruments.websocket_messages
        return {
            direction: self.recorder.child_of(family, (route, direction), self.extra)
            for direction in ("received", "sent")
        }

    def _label(self) -> str | None:
        """Return the route's label value, or None if the connection is not measured."""
        route = UNMATCHED if self.route is None else self.route
        excluded = route_is_excluded(route, self.recorder.config.exclude)
        return route if self.measured and not excluded else None


class Connection(Socket):
    """A WebSocket's recording, and the ``receive`` and ``send`` that its ASGI application gets.

    It ends once: with the first close or disconnect, or when the application ends without one. One task
    at a time uses it, or several of one loop.

    Attributes:
        scope: The connection's.
        extra: Values of the extra labels, from the scope and the message that accepted or refused.
    """

    def __init__(self, recorder: Recorder, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(recorder)
        self.scope = scope
        self._receive, self._send = receive, send
        self._accepted = False

    async def receive(self) -> Message:
        """Pass on what the client sent."""
        message = await self._receive()
        try:
            if message["type"] == "websocket.receive":
                self.count("received")
            elif message["type"] == "websocket.disconnect":
                self._finish(code_label(message.get("code", 1005)))
        except Exception:
            self.recorder.failed("follow")
        return message

    async def send(self, message: Message) -> None:
        """Pass on what the application sends."""
        try:
            await self._send(message)
        except OSError:  # as the specification wants it where the client is gone
            self._finish(VANISHED)
            raise
        try:
            self._note(message)
        except Exception:
            self.recorder.failed("follow")

    def end(self, error: BaseException | None = None) -> None:
        """Finish, where neither side did: the application is at its end. Never raises.

        Args:
            error: What it raised.
        """
        if not self.finished:
            # To a handshake without an answer the server answers 500.
            failed = not self._accepted if error is None else not is_cancelled(error)
            self._finish(FAILED if failed else VANISHED)

    def _note(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.send":
            self.count("sent")
        elif kind == "websocket.accept":
            self._accepted = True
            self._learn(message)
        elif kind == "websocket.close":
            self._learn(message)
            self._finish(code_label(message.get("code", 1000)) if self._accepted else REJECTED)
        elif kind == "websocket.http.response.start":
            self._learn(message)
        elif kind == "websocket.http.response.body" and not message.get("more_body"):
            self._finish(REJECTED)

    def _learn(self, message: Message | None) -> None:
        try:
            if self.route is None:
                self.recorder.annotate(self)  # type: ignore[arg-type]  # it has what that asks for
            if message is not None and self.recorder.extra_labels and not self.extra:
                self.extra = self.recorder.extra_values(self.scope, message)
        except Exception:
            self.recorder.failed("annotate")

    def _finish(self, code: str) -> None:
        if not self.finished:
            if not self._accepted:
                self._learn(None)
            self.finish(code)
