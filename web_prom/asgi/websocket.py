"""One WebSocket between an ASGI server and an application: its messages and its end."""

from __future__ import annotations

from web_prom.asgi.disconnects import is_cancelled
from web_prom.metrics.recording import Recorder
from web_prom.metrics.websocket import (
    ABNORMAL_CLOSURE,
    INTERNAL_ERROR,
    REJECTED,
    WebSocketRecording,
    code_label,
)
from web_prom.types import Message, Receive, Scope, Send


class WebSocketExchange(WebSocketRecording):
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
            self.recorder.record_internal_error("follow")
        return message

    async def send(self, message: Message) -> None:
        """Pass on what the application sends."""
        try:
            await self._send(message)
        except OSError:  # as the specification wants it where the client is gone
            self._finish(ABNORMAL_CLOSURE)
            raise
        try:
            self._note(message)
        except Exception:
            self.recorder.record_internal_error("follow")

    def end(self, error: BaseException | None = None) -> None:
        """Finish, where neither side did: the application is at its end. Never raises.

        Args:
            error: What it raised.
        """
        if not self.finished:
            # To a handshake without an answer the server answers 500.
            failed = not self._accepted if error is None else not is_cancelled(error)
            self._finish(INTERNAL_ERROR if failed else ABNORMAL_CLOSURE)

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
                self.recorder.resolve_route(self)  # type: ignore[arg-type]  # it has what that asks for
            if message is not None and self.recorder.extra_labels and not self.extra:
                self.extra = self.recorder.extra_values(self.scope, message)
        except Exception:
            self.recorder.record_internal_error("annotate")

    def _finish(self, code: str) -> None:
        if not self.finished:
            if not self._accepted:
                self._learn(None)
            self.finish(code)
