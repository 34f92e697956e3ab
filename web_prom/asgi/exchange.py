"""One request between an ASGI server and an application: its status, its response body and its end."""

from __future__ import annotations

from collections.abc import MutableMapping
from types import MethodType
from typing import Any

from web_prom.asgi.disconnects import (
    is_cancelled,
    is_disconnect,
    server_saw_disconnect,
)
from web_prom.asgi.handled_exceptions import answered_exception
from web_prom.asgi.routes import resolve_view
from web_prom.metrics.body_sizes import BodySizeRecording
from web_prom.metrics.labels import CLIENT_CLOSED_REQUEST, STATUS_TEXTS
from web_prom.metrics.layers import current_recording
from web_prom.metrics.recording import Recording
from web_prom.runtime.this_process import measurements
from web_prom.types import Message, Receive, Scope, Send


class ASGIExchange(Recording):
    """The recording of an ASGI request, and the ``receive`` and ``send`` of its application.

    The request is finished with the last message of the body, or when the application ends without one. A
    message is read after the server has taken it. So neither the message nor the time at which it is sent
    changes.

    Attributes:
        scope: The scope of the request.
        client_disconnected: Whether the client is known to have disconnected.
        in_context: Whether this recording is in the context variable ``current``.
        measures_sizes: Whether body sizes and the time to the first byte are measured.
    """

    scope: Scope
    client_disconnected = False
    in_context = False
    measures_sizes = False
    _receive: Receive
    _send: Send
    _handled_error_id: int | None = None

    async def receive(self) -> Message:
        """Receive a message from the client, and check whether the client disconnected."""
        # Adapters from ASGI to WSGI read the body, and then copy the context for their thread. Setting the
        # context variable at the start of each request takes longer than everything else at the start.
        self.in_context = True
        current_recording.set(self)
        message = await self._receive()
        try:
            if message["type"] == "http.disconnect":
                self.client_disconnected = True
            elif self.measures_sizes:
                self.count_request_body(message)
        except Exception:
            self.recorder.record_internal_error("follow")
        return message

    async def send(self, message: Message) -> None:
        """Send a message of the response; finish with the last one."""
        try:
            await self._send(message)
        except OSError:  # the specification asks for it after a disconnect
            self.client_disconnected = True
            raise
        try:
            kind = message["type"]
            if kind == "http.response.body":
                if self.measures_sizes:
                    self.count_response_body(message)
                if not (message.get("more_body") or self.finished):
                    self.finish()
            elif kind == "http.response.start":
                if self.status is None:
                    self.on_response_start(message)
            elif kind in ("http.response.pathsend", "http.response.zerocopysend"):
                self._on_file_sent(message)
        except Exception:
            self.recorder.record_internal_error("follow")

    def on_start(self) -> None:
        """Measure the event loop, and how long the request has waited. Never raises."""
        measurements.loop.start()
        queue_time = self.recorder.queue_time
        if queue_time is not None:
            header = _find_header(self.scope, b"x-request-start")
            if header:
                queue_time.observe_header(header)

    def on_response_start(self, message: Message) -> None:
        """Read the status from the start of the response, resolve the route and compute extra labels."""
        code = message["status"]
        status = self.status = STATUS_TEXTS.get(code) or str(code)
        if status >= "500":
            error = answered_exception()
            if error is not None and self.is_disconnect(error):
                self.status = CLIENT_CLOSED_REQUEST
            elif isinstance(error, Exception):
                self.add_handled_exception(error)
        elif self.client_disconnected or (
            (self._send.__class__ is MethodType or self._receive.__class__ is MethodType)
            and server_saw_disconnect(self._send, self._receive)
        ):
            self.client_disconnected, self.status = True, CLIENT_CLOSED_REQUEST
        try:
            if self.route is None:
                self.recorder.resolve_route(self)
            elif self.explicit_route is not None:
                resolve_view(self)
            if self.recorder.extra_labels and not self.extra:
                self.compute_extra_labels(self.scope, message)
        except Exception:
            self.recorder.record_internal_error("annotate")

    def on_exception(self, error: BaseException) -> None:
        """Record an exception that the application raised. Never raises."""
        try:
            if self.finished:
                if id(error) != self._handled_error_id and isinstance(error, Exception):
                    self.count_exception_after_finish(error)
            else:
                disconnected = is_cancelled(error) or self.is_disconnect(error)
                # A client that has disconnected gets no 500 from the server.
                started = self.status is not None or (self.client_disconnected and not disconnected)
                self.add_final_exception(error, response_started=started, client_disconnected=disconnected)
                if not started:
                    self._annotate_without_response()
        except Exception:
            self.recorder.record_internal_error("follow")

    def is_disconnect(self, error: BaseException) -> bool:
        """Return whether an exception is the disconnect of the client."""
        return self.client_disconnected and is_disconnect(error, ASGIExchange.send.__code__)

    def add_handled_exception(self, error: Exception) -> None:
        """Keep an exception that the application answers. If it is raised again, it is not counted again."""
        self.add_exception(error)
        self._handled_error_id = id(error)

    def on_end(self) -> None:
        """Finish a request whose application ended without the last message of a body. Never raises."""
        if self.status is None:
            if self.client_disconnected:
                self.status = CLIENT_CLOSED_REQUEST
            self._annotate_without_response()
        self.finish()

    def count_request_body(self, message: Message) -> None:
        """Count the bytes of a part of the request body, if sizes are measured."""

    def count_response_body(self, message: Message) -> None:
        """Count the bytes of a part of the response body, if sizes are measured."""

    def count_file(self, message: Message) -> None:
        """Count the bytes of a file that the server sends, if sizes are measured."""

    def _annotate_without_response(self) -> None:
        """Resolve the route and compute the extra labels of a request without a response."""
        try:
            resolve_view(self)
            if not self.extra:
                self.compute_extra_labels(self.scope, None)
        except Exception:
            self.recorder.record_internal_error("annotate")

    def _on_file_sent(self, message: Message) -> None:
        # https://asgi.readthedocs.io/en/latest/extensions.html: a path ends the response, a file may not.
        if self.measures_sizes:
            self.count_file(message)
        if not (message.get("more_body") or self.finished):
            self.finish()


class ASGIExchangeWithSizes(BodySizeRecording, ASGIExchange):
    """An ASGI exchange that also measures body sizes and the time to the first byte."""

    measures_sizes = True
    _size_is_known = False
    _content_length = ""

    def on_response_start(self, message: Message) -> None:
        """Read the start of the response, and its Content-Length."""
        super().on_response_start(message)
        self._size_is_known = self.scope.get("method") == "HEAD" or message["status"] in (204, 304)
        self._content_length = _find_header(message, b"content-length")

    def count_request_body(self, message: Message) -> None:
        """Count the bytes of a part of the request body."""
        self.request_size += len(message.get("body", b""))

    def count_response_body(self, message: Message) -> None:
        """Count the bytes of a part of the response body."""
        if not (self._size_is_known or self.finished):
            self.add_response_bytes(len(message.get("body", b"")))

    def count_file(self, message: Message) -> None:
        """Count the bytes of a file, or of the part of it that is sent.

        Without a length, the part extends to the end of the file. Then the announced length of the whole
        response counts.
        """
        if self._size_is_known or self.finished:
            return
        length = str(message.get("count", ""))
        if length.isdecimal():
            self.add_response_bytes(int(length))
        else:
            self._size_is_known = True
            self.set_file_size(self._content_length)


def _find_header(message: MutableMapping[str, Any], name: bytes) -> str:
    """Return the value of a header of a scope or of a message, or an empty string."""
    length = len(name)
    for key, value in message.get("headers") or ():
        if len(key) == length and key.lower() == name:
            return str(value, "latin-1")
    return ""
