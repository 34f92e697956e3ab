"""WSGI requests that ask for a WebSocket: each becomes a WebSocket or an ordinary request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from web_prom.metrics.recording import Recording
from web_prom.metrics.websocket import (
    ABNORMAL_CLOSURE,
    INTERNAL_ERROR,
    UNKNOWN,
    WebSocketRecording,
    code_label,
)
from web_prom.types import Environ
from web_prom.wsgi.exchange import Exchange
from web_prom.wsgi.measured_exchange import MeasuredExchange
from web_prom.wsgi.websocket_libraries import is_disconnect, watch

# What stands for the response where extra labels are computed from an environ and a response.
_SWITCHED: tuple[str, list[tuple[str, str]]] = ("101 Switching Protocols", [])


def asks_for_websocket(environ: Mapping[str, Any]) -> bool:
    """Tell whether a request asks for a WebSocket. Any client may do so, at any path."""
    return "websocket" in environ["HTTP_UPGRADE"].lower() and environ.get("REQUEST_METHOD") == "GET"


def hands_over(error: BaseException) -> bool:
    """Tell whether an application raises this to leave the connection to its WebSocket.

    gunicorn knows a bare StopIteration, Werkzeug's server a bare ConnectionError. uWSGI raises an OSError in
    an application that receives from a WebSocket, or sends to one, that has ended. All other errors, those
    with arguments among them, are the application's own.
    """
    if type(error) is OSError:
        return "websocket message" in str(error)
    return type(error) in (StopIteration, ConnectionError) and not error.args


class Upgrade(Recording):
    """The recording of a WSGI request that asks for a WebSocket.

    WSGI knows no WebSockets: the application takes the connection from the server, and leaves later in a
    way that the server knows. So it is decided at the end what the request was. It was a WebSocket

    - if the application's library accepted one (:mod:`web_prom.wsgi.websocket_libraries`), or the application
      started a response of status 101;
    - if the application started no response, sent nothing, and left without an error or with one that
      :func:`hands_over` knows.

    In any other case it was an ordinary request: a refusal (400, 403, 426), an ordinary answer, an exception.
    So a client cannot hide an error by asking for a WebSocket. Until the application starts a response, the
    request is in progress as a WebSocket.

    Args:
        recorder: Who observes it.
        start_key: How it begins.
        environ: The WSGI environ.
        labelled: Whether extra labels are computed from the environ, because there is no adapter.

    Attributes:
        accepted: Whether it is known that there is a WebSocket.
        environ: The WSGI environ, while adapters are asked for the route of a WebSocket that has ended.
        route_resolvers: Adapters of measured layers inside of this one, which are asked for the route too.
        sent: Whether the server has a part of a response.
    """

    accepted = False
    sent = False
    environ: Mapping[str, Any] | None = None
    _socket: WebSocketRecording | None = None
    _code: str | None = None
    _default_code = UNKNOWN

    def __init__(
        self, recorder: Any, start_key: Any, environ: Mapping[str, Any], *, labelled: bool = False
    ) -> None:
        super().__init__(recorder, start_key)
        self._environ: Mapping[str, Any] | None = environ
        self._labelled = labelled
        self.route_resolvers: list[Callable[[Recording], None]] = []
        try:
            self._socket = WebSocketRecording(recorder)
            self.request_start.dec_in_progress(-1)
            watch(self)
        except Exception:
            recorder.record_internal_error("start")

    def accept(self, default_code: str = UNKNOWN) -> None:
        """Note that there is a WebSocket. Never raises.

        Args:
            default_code: The label value where the application leaves and no close frame is known.
        """
        if self._socket is not None and not self.accepted and not self.finished:
            self.accepted = True
            self._default_code = default_code
            self._find_route()

    def close_frame(self, code: Any) -> None:
        """Note the code of a close frame, received or sent; the first counts."""
        if self._code is None:
            self._code = code_label(code)

    def message(self, direction: str) -> None:
        """Count a message that was ``received`` or ``sent``. Never raises."""
        try:
            if self._socket is not None and not self.finished:
                self._label(self._socket).count(direction)
        except Exception:
            self.recorder.record_internal_error("follow")

    def answer(self) -> None:
        """Note that the application answers as if nobody had asked for a WebSocket."""
        socket, self._socket = self._socket, None
        if socket is not None and not self.finished:
            self.request_start.inc_in_progress(1)
            socket.cancel()

    def finish(self, ended: float | None = None) -> None:
        """Observe the WebSocket or the request, once; further calls do nothing. Never raises."""
        if not self.finished and self._socket is not None:
            try:
                if self.accepted or (self.status is None and not self.sent):
                    self._finish_websocket(self._socket, ended)
                else:
                    self.answer()
            except Exception:
                self.recorder.record_internal_error("finish")
        self._environ = None  # it refers to this
        super().finish(ended)

    def left(self, error: BaseException) -> bool:
        """Note that the application raised; tell whether that was the end of a WebSocket."""
        leaves = hands_over(error)
        if self._socket is None or self.sent or not (self.accepted or leaves):
            return False
        if self._code is None:
            self._code = (
                self._default_code if leaves else ABNORMAL_CLOSURE if is_disconnect(error) else INTERNAL_ERROR
            )
        return True

    def _finish_websocket(self, socket: WebSocketRecording, ended: float | None) -> None:
        self.finished = True
        if self._code is None:
            self._code = self._default_code
            if self.status is not None and self.status >= "500":
                error = self._errors[-1] if self._errors else None
                self._code = INTERNAL_ERROR if error is None or not is_disconnect(error) else ABNORMAL_CLOSURE
        self._errors = None
        if self.route is None:
            self.environ = self._environ
            self._find_route()
            self.environ = None
        if self._labelled and not self.extra:
            self.compute_extra_labels(self._environ, _SWITCHED)
        self._label(socket).finish(self._code, ended)

    def _find_route(self) -> None:
        for resolve in (self.recorder.resolve_route, *self.route_resolvers):
            try:
                resolve(self)
            except Exception:
                self.recorder.record_internal_error("annotate")

    def _label(self, socket: WebSocketRecording) -> WebSocketRecording:
        socket.route, socket.measured, socket.extra = self.route, self.measured, self.extra
        return socket


class UpgradeExchange(Upgrade, Exchange):
    """The same between a server and an application: it sees the start of a response, the body and errors."""

    def start_response(self, status: str, headers: list[Any], exc_info: Any = None) -> Callable[[bytes], Any]:
        """Pass the start of the response on; it tells what the request is, unless a library has told."""
        write = super().start_response(status, headers, exc_info)
        if not self.accepted:
            if self.status == "101":
                self.accept()
            else:
                self.answer()
        return write

    def abort(self, error: BaseException) -> None:
        """Note that the application or its body raised."""
        if not self.left(error):
            super().abort(error)

    def follow(self, body: Any, environ: Environ) -> Iterable[bytes]:
        """Return a body that finishes with itself; an empty one as it is, as servers may look for it."""
        if self._socket is not None and _is_nothing(body):
            self.finish()
            return cast("Iterable[bytes]", body)
        return super().follow(body, environ)

    def __iter__(self) -> Iterator[bytes]:
        for chunk in super().__iter__():
            if chunk:
                self.sent = True
            yield chunk


class MeasuredUpgradeExchange(UpgradeExchange, MeasuredExchange):
    """The same, where bytes and the time to the first of them are measured."""


def _is_nothing(body: Any) -> bool:
    """Tell whether a body is empty, or an object by which a server knows that the connection is taken."""
    return len(body) == 0 if hasattr(body, "__len__") else not hasattr(body, "__iter__")
