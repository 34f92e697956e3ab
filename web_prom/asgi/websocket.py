"""One WebSocket between an ASGI server and an application: its messages and its end."""

from __future__ import annotations

from web_prom.asgi.disconnects import is_cancelled
from web_prom.asgi.routes import resolve_view
from web_prom.metrics.recorder import Recorder
from web_prom.metrics.websocket import (
    ABNORMAL_CLOSURE,
    INTERNAL_ERROR,
    REJECTED,
    WebSocketRecording,
    code_label,
)
from web_prom.types import Message, Receive, Scope, Send


class WebSocketExchange(WebSocketRecording):
    """The recording of an ASGI WebSocket, and the ``receive`` and ``send`` of its application.

    It is finished once: with the first close or disconnect, or when the application ends without one. Use it
    from one task at a time, or from several tasks of one event loop.

    Args:
        recorder: The application's recorder.
        scope: The scope of the connection.
        receive: The server's ``receive``.
        send: The server's ``send``.

    Attributes:
        scope: The scope of the connection.
        extra: Values of the extra labels, from the scope and the message that accepted or refused, or None if
            there was no such message.
    """

    def __init__(self, recorder: Recorder, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(recorder)
        self.scope = scope
        self._receive, self._send = receive, send
        self._accepted = False

    async def receive(self) -> Message:
        """Receive a message from the client, and record it."""
        message = await self._receive()
        try:
            if message["type"] == "websocket.receive":
                self.count_message("received")
            elif message["type"] == "websocket.disconnect":
                self._finish(code_label(message.get("code", 1005)))
        except Exception:
            self.recorder.record_internal_error("follow")
        return message

    async def send(self, message: Message) -> None:
        """Send a message of the application, and record it."""
        try:
            await self._send(message)
        except OSError:  # the specification asks for it after a disconnect
            self._finish(ABNORMAL_CLOSURE)
            raise
        try:
            self._on_sent(message)
        except Exception:
            self.recorder.record_internal_error("follow")

    def on_end(self, error: BaseException | None = None) -> None:
        """Finish a WebSocket that neither side closed before the application ended. Never raises.

        Args:
            error: The exception that the application raised, if any.
        """
        if not self.finished:
            # If the application ends without an answer to the handshake, the server answers 500.
            failed = not self._accepted if error is None else not is_cancelled(error)
            self._finish(INTERNAL_ERROR if failed else ABNORMAL_CLOSURE)

    def _on_sent(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.send":
            self.count_message("sent")
        elif kind == "websocket.accept":
            self._accepted = True
            self._set_labels(message)
        elif kind == "websocket.close":
            self._set_labels(message)
            self._finish(code_label(message.get("code", 1000)) if self._accepted else REJECTED)
        elif kind == "websocket.http.response.start":
            self._set_labels(message)
        elif kind == "websocket.http.response.body" and not message.get("more_body"):
            self._finish(REJECTED)

    def _set_labels(self, message: Message | None) -> None:
        """Resolve the route and compute the extra labels.

        Args:
            message: The answer to the handshake, or None if the WebSocket ended without one.
        """
        try:
            resolve_view(self)
            if self.recorder.extra_labels and not self.extra:
                self.extra = self.recorder.compute_extra_values(self.scope, message)
        except Exception:
            self.recorder.record_internal_error("annotate")

    def _finish(self, code: str) -> None:
        if not self.finished:
            if not self._accepted:
                self._set_labels(None)
            self.finish(code)
