"""WSGI requests that ask for a WebSocket: each is recorded as a WebSocket or as an ordinary request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from web_prom.metrics.recorder import Recorder
from web_prom.metrics.recording import Recording
from web_prom.metrics.websocket import (
    ABNORMAL_CLOSURE,
    INTERNAL_ERROR,
    UNKNOWN,
    WebSocketRecording,
    code_label,
)
from web_prom.types import Environ, ExcInfo, Headers
from web_prom.wsgi.exchange import WSGIExchange, WSGIExchangeWithSizes
from web_prom.wsgi.websocket_libraries import is_disconnect, patch_loaded_libraries

# The response from which extra labels of a WebSocket are computed: WSGI has none.
_SWITCHING_PROTOCOLS: tuple[str, Headers] = ("101 Switching Protocols", [])


def asks_for_websocket(environ: Mapping[str, Any]) -> bool:
    """Return whether a request asks for a WebSocket. Any client can do so, at any path."""
    return "websocket" in environ["HTTP_UPGRADE"].lower() and environ.get("REQUEST_METHOD") == "GET"


def is_handover(error: BaseException) -> bool:
    """Return whether an application raises an exception only to leave the connection to its WebSocket.

    gunicorn expects a StopIteration without arguments, Werkzeug's server a ConnectionError without arguments.
    uWSGI raises an OSError in an application that receives from or sends to a WebSocket that has ended. All
    other exceptions are errors of the application, also these types with arguments.
    """
    if type(error) is OSError:
        return "websocket message" in str(error)
    return type(error) in (StopIteration, ConnectionError) and not error.args


class UpgradeRecording(Recording):
    """The recording of a WSGI request that asks for a WebSocket.

    WSGI has no WebSockets. The application takes the connection from the server. At the end it leaves by an
    exception or an empty body that the server expects. So the kind of the request is decided at its end. It
    was a WebSocket

    - if a library accepted a WebSocket (:mod:`web_prom.wsgi.websocket_libraries`), or the application
      started a response of status 101;
    - if the application started no response, sent nothing, and left without an exception or with one for
      which :func:`is_handover` is true.

    Any other request was an ordinary one: a refusal (400, 403, 426), an ordinary response, an exception. So a
    client cannot hide an error by asking for a WebSocket. Until the application starts a response, the
    request is in progress as a WebSocket.

    Args:
        recorder: The application's recorder.
        start_key: The attributes that are known at the start.
        environ: The WSGI environ.

    Attributes:
        accepted: Whether the request is known to be a WebSocket.
        environ: The WSGI environ while the route of a WebSocket that has ended is resolved; None before.
        labels_environ: As that of :class:`web_prom.wsgi.exchange.WSGIExchange`.
        route_resolvers: Route resolvers of the measured layers inside this one.
        headers_sent: Whether the server has got a part of a response.
    """

    accepted = False
    headers_sent = False
    environ: Mapping[str, Any] | None = None
    labels_environ: Environ | None = None
    _websocket: WebSocketRecording | None = None
    _close_code: str | None = None
    _default_close_code = UNKNOWN

    def __init__(self, recorder: Recorder, start_key: Any, environ: Mapping[str, Any]) -> None:
        super().__init__(recorder, start_key)
        self._environ: Mapping[str, Any] | None = environ
        self.route_resolvers: list[Callable[[Recording], None]] = []
        try:
            self._websocket = WebSocketRecording(recorder)
            self.request_start.add_at_end(-1)
            patch_loaded_libraries(self)
        except Exception:
            recorder.record_internal_error("start")

    def accept(self, default_close_code: str = UNKNOWN) -> None:
        """Record that a WebSocket was accepted. Never raises.

        Args:
            default_close_code: The label value if the application leaves and no close frame is seen.
        """
        if self._websocket is not None and not self.accepted and not self.finished:
            self.accepted = True
            self._default_close_code = default_close_code
            self._resolve_route()

    def record_close_frame(self, code: Any) -> None:
        """Record the code of a close frame, received or sent. Only the first one counts."""
        if self._close_code is None:
            self._close_code = code_label(code)

    def count_message(self, direction: str) -> None:
        """Count a message that was ``received`` or ``sent``. Never raises."""
        try:
            if self._websocket is not None and not self.finished:
                self._labelled(self._websocket).count_message(direction)
        except Exception:
            self.recorder.record_internal_error("follow")

    def become_request(self) -> None:
        """Record that this is an ordinary request, not a WebSocket."""
        websocket, self._websocket = self._websocket, None
        if websocket is not None and not self.finished:
            self.request_start.add_at_start(1)
            websocket.cancel()

    def finish(self, ended: float | None = None) -> None:
        """Record the end of the WebSocket or of the request, once; further calls do nothing. Never raises.

        Args:
            ended: ``perf_counter()`` at the end, if that is not now.
        """
        if not self.finished and self._websocket is not None:
            try:
                if self.accepted or (self.status is None and not self.headers_sent):
                    self._finish_websocket(self._websocket, ended)
                else:
                    self.become_request()
            except Exception:
                self.recorder.record_internal_error("finish")
        self._environ = self.labels_environ = None  # the environ refers to this object
        super().finish(ended)

    def ends_websocket(self, error: BaseException) -> bool:
        """Return whether an exception of the application ends a WebSocket; if so, keep its close code."""
        handover = is_handover(error)
        if self._websocket is None or self.headers_sent or not (self.accepted or handover):
            return False
        if self._close_code is None:
            if handover:
                self._close_code = self._default_close_code
            else:
                self._close_code = _code_of_exception(error)
        return True

    def _finish_websocket(self, websocket: WebSocketRecording, ended: float | None) -> None:
        self.finished = True
        if self._close_code is None:
            self._close_code = self._default_close_code
            if self.status is not None and self.status >= "500":
                self._close_code = _code_of_exception(self.last_error)
        self._errors = None
        if self.route is None:
            self.environ = self._environ
            self._resolve_route()
            self.environ = None
        if self.labels_environ is not None and not self.extra:
            self.compute_extra_labels(self.labels_environ, _SWITCHING_PROTOCOLS)
        self._labelled(websocket).finish(self._close_code, ended)

    def _resolve_route(self) -> None:
        for resolve_route in (self.recorder.resolve_route, *self.route_resolvers):
            try:
                resolve_route(self)
            except Exception:
                self.recorder.record_internal_error("annotate")

    def _labelled(self, websocket: WebSocketRecording) -> WebSocketRecording:
        """Return the WebSocket's recording, with the route and the extra labels of this one."""
        websocket.route, websocket.measured, websocket.extra = self.route, self.measured, self.extra
        return websocket


class UpgradeExchange(UpgradeRecording, WSGIExchange):
    """The exchange of a WSGI request that asks for a WebSocket."""

    def start_response(
        self, status: str, headers: Headers, exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], object]:
        """Start the response. Unless a library accepted a WebSocket, the status decides what this is."""
        write = super().start_response(status, headers, exc_info)
        if not self.accepted:
            if self.status == "101":
                self.accept()
            else:
                self.become_request()
        return write

    def on_exception(self, error: BaseException) -> None:
        """Record an exception of the application or of its body, unless it ends a WebSocket."""
        if not self.ends_websocket(error):
            super().on_exception(error)

    def wrap_body(self, body: Any, environ: Environ) -> Iterable[bytes]:
        """Return a response body that finishes the request when it ends.

        An empty body is returned unchanged: the server may compare it with an object of its own.
        """
        if self._websocket is not None and _is_empty(body):
            self.finish()
            return cast("Iterable[bytes]", body)
        return super().wrap_body(body, environ)

    def __iter__(self) -> Iterator[bytes]:
        for chunk in super().__iter__():
            if chunk:
                self.headers_sent = True
            yield chunk


class UpgradeExchangeWithSizes(UpgradeExchange, WSGIExchangeWithSizes):
    """An upgrade exchange that also measures body sizes and the time to the first byte."""


def _code_of_exception(error: BaseException | None) -> str:
    """Return the close code of a WebSocket whose application raised an exception."""
    return INTERNAL_ERROR if error is None or not is_disconnect(error) else ABNORMAL_CLOSURE


def _is_empty(body: Any) -> bool:
    """Return whether a body is empty, or an object that tells the server that the connection is taken."""
    return len(body) == 0 if hasattr(body, "__len__") else not hasattr(body, "__iter__")
