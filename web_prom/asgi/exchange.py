"""One request between an ASGI server and an application: its status, its body, its end."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from types import MethodType
from typing import Any

from web_prom.asgi.disconnects import CLIENT_CLOSED_REQUEST, is_cancelled, is_disconnect, is_gone
from web_prom.metrics.body_sizes import Measures
from web_prom.metrics.layers import current
from web_prom.metrics.queue_time import observe_queue
from web_prom.metrics.recording import Recording
from web_prom.types import Message, Receive, Scope, Send

_STATUSES = {code: str(code) for code in range(100, 600)}


class ASGIExchange(Recording):
    """A request's recording, and the ``receive`` and ``send`` that its application gets.

    It ends with the last message of the body, or when the application ends without one. What it has to
    know it looks at when the server has taken a message: neither a message nor its time changes.

    Attributes:
        scope: The request's.
        client_disconnected: Whether the client is known to have gone away.
        entered: Whether the recording is in the context of the application.
    """

    scope: Scope
    client_disconnected = False
    entered = False
    measures = False
    _receive: Receive
    _send: Send
    _noted: int | None = None

    async def receive(self) -> Message:
        """Pass on what the client sent; keep whether it went away."""
        # Adapters from ASGI to WSGI read the body, and then copy the context for their thread. To put the
        # recording into the context of each request takes longer than all else that is done at its start.
        self.entered = True
        current.set(self)
        message = await self._receive()
        try:
            if message["type"] == "http.disconnect":
                self.client_disconnected = True
            elif self.measures:
                self.count_received(message)
        except Exception:
            self.recorder.record_internal_error("follow")
        return message

    async def send(self, message: Message) -> None:
        """Pass a part of the response on; finish with the last one."""
        try:
            await self._send(message)
        except OSError:  # as the specification wants it where the client is gone
            self.client_disconnected = True
            raise
        try:
            kind = message["type"]
            if kind == "http.response.body":
                if self.measures:
                    self.count_sent(message)
                if not (message.get("more_body") or self.finished):
                    self.finish()
            elif kind == "http.response.start":
                if self.status is None:
                    self.start(message)
            elif kind in ("http.response.pathsend", "http.response.zerocopysend"):
                self._sent_as_file(message)
        except Exception:
            self.recorder.record_internal_error("follow")

    def start(self, message: Message) -> None:
        """Take the status from the start of the response, and what is to be known by then."""
        code = message["status"]
        self.status = CLIENT_CLOSED_REQUEST if self.client_disconnected else _STATUSES.get(code) or str(code)
        methods = self._send.__class__ is MethodType or self._receive.__class__ is MethodType
        # An error of the application stays one, whether or not somebody waits for it.
        if methods and self.status < "500" and is_gone(self._send, self._receive):
            self.client_disconnected, self.status = True, CLIENT_CLOSED_REQUEST
        if self.status >= "500":
            # Frameworks answer in the place where they caught what the application raised.
            error = sys.exc_info()[1]
            if isinstance(error, Exception):
                self.add_exception(error)
                self._noted = id(error)
        try:  # as _learn(), without the call
            if self.route is None:
                self.recorder.resolve_route(self)
            if self.recorder.extra_labels and not self.extra:
                self.compute_extra_labels(self.scope, message)
        except Exception:
            self.recorder.record_internal_error("annotate")

    def abort(self, error: BaseException) -> None:
        """Note that the application raised. Never raises."""
        try:
            if self.finished:
                if id(error) != self._noted and isinstance(error, Exception):
                    self.count_exception_after_finish(error)
            elif is_cancelled(error) or (self.client_disconnected and is_disconnect(error)):
                if self.status is None:
                    self.status = CLIENT_CLOSED_REQUEST
                    self._learn()
            else:
                self.add_exception(error)
                if self.status is not None or self.client_disconnected:
                    self.body_failed = True
                else:
                    self.status = "500"  # the server's own answer
                    self._learn()
        except Exception:
            self.recorder.record_internal_error("follow")

    def end(self) -> None:
        """Finish, where no last message did: the application is at its end. Never raises."""
        if self.status is None:
            if self.client_disconnected:
                self.status = CLIENT_CLOSED_REQUEST
            self._learn()
        self.finish()

    def prepare(self) -> None:
        """Measure what only some configurations ask for, as the request begins. Never raises."""
        if self.recorder.queue is not None:
            observe_queue(self.recorder, _header(self.scope, b"x-request-start"))

    def count_received(self, message: Message) -> None:
        """Measure a part of the request."""

    def count_sent(self, message: Message) -> None:
        """Measure a part of the response."""

    def count_file(self, length: str) -> None:
        """Measure a file that the server sends by itself."""

    def _learn(self) -> None:
        """Ask for the route of a request that has no response."""
        try:
            if self.route is None:
                self.recorder.resolve_route(self)
        except Exception:
            self.recorder.record_internal_error("annotate")

    def _sent_as_file(self, message: Message) -> None:
        # https://asgi.readthedocs.io/en/latest/extensions.html: a path ends the response, a file may not.
        if self.measures:
            self.count_file(str(message.get("count", "")))
        if not (message.get("more_body") or self.finished):
            self.finish()


class MeasuredASGIExchange(Measures, ASGIExchange):
    """An exchange that also measures bytes and the time to the first of them."""

    measures = True
    _bodiless = False
    _length = ""

    def start(self, message: Message) -> None:
        """Also keep the length that is announced."""
        super().start(message)
        self._bodiless = self.scope.get("method") == "HEAD" or message["status"] in (204, 304)
        self._length = _header(message, b"content-length")

    def count_received(self, message: Message) -> None:
        """Count the bytes of a part of the request."""
        self.request_size += len(message.get("body", b""))

    def count_sent(self, message: Message) -> None:
        """Count the bytes of a part of the response."""
        if not (self._bodiless or self.finished):
            self.count(message.get("body", b""))

    def count_file(self, length: str) -> None:
        """Count the bytes of a file, or of the part of it that is sent."""
        if not (self._bodiless or self.finished):
            super().count_file(length or self._length)


def _header(message: MutableMapping[str, Any], name: bytes) -> str:
    """Return the value of a header of a scope or of a message, or nothing."""
    for key, value in message.get("headers") or ():
        if key.lower() == name:
            return str(value, "latin-1")
    return ""
