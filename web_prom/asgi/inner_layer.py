"""Inner layers: they see what a layer around the application does not see.

- The route, if a middleware in between passes a copy of the scope on.
- The exceptions that the application answers, if a middleware in between runs it in another task.
"""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace
from typing import Any

from web_prom.asgi.exchange import ASGIExchange
from web_prom.asgi.handled_exceptions import answered_exception
from web_prom.metrics.layers import ForwardingRecording, affected_recordings
from web_prom.metrics.recorder import Recorder
from web_prom.metrics.recording import RECORDING_KEY
from web_prom.types import ASGIApp, Message, Receive, Scope, Send
from web_prom.wrapped_apps import iter_wrapped_apps

logger = logging.getLogger("web_prom")

_BODIES = ("http.response.body", "http.response.pathsend", "http.response.zerocopysend")

_PATCHED = "__web_prom_patched__"


class InnerLayer:
    """An application inside of a measured one.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Serve one connection."""
        outer = scope.get(RECORDING_KEY)
        if outer is None or outer.finished:
            return await self.app(scope, receive, send)
        return await InnerConnection(outer.recorder, outer, scope, receive, send).serve(self.app)


class InnerConnection:
    """A connection as an inner layer sees it. The outer recordings get its route and its exceptions.

    Args:
        recorder: Finds the route in the scope.
        outer: The recording of the next outer layer.
        scope: The scope of the inner layer.
        receive: The ``receive`` of the inner layer.
        send: The ``send`` of the inner layer.
    """

    def __init__(self, recorder: Recorder, outer: Any, scope: Scope, receive: Receive, send: Send) -> None:
        self._recorder = recorder
        self._outer = outer
        self._scope = scope
        self._receive = receive
        self._send = send
        self._status: str | None = None
        self._complete = False
        self._found = False

    async def serve(self, app: ASGIApp) -> Any:
        """Serve the connection with an application."""
        if self._scope["type"] == "websocket":
            if is_seen_by(self._outer, self._scope, self._recorder):
                return await app(self._scope, self._receive, self._send)
            receive: Receive = self.receive
        else:
            receive = self._receive
        try:
            return await app(self._scope, receive, self.send)
        except Exception as error:
            self._on_exception(error)
            raise
        finally:
            self.set_route()

    async def receive(self) -> Message:
        """Receive a message of a WebSocket. The next one may finish the outer recording."""
        self.set_route()
        return await self._receive()

    async def send(self, message: Message) -> None:
        """Send a message."""
        is_start = False
        try:
            kind = message["type"]
            is_start = kind == "http.response.start"
            if is_start:
                self._on_response_start(message)
            elif kind in _BODIES:
                self._complete = not message.get("more_body")
            elif self._scope["type"] == "websocket":
                self.set_route()  # the message may finish the outer recording
        except Exception:
            self._recorder.record_internal_error("follow")
        await self._send(message)
        if is_start:  # first the outer recording has looked for the route itself
            self.set_route()

    def set_route(self) -> None:
        """Set the route that the scope contains on the outer recordings that have none. Never raises."""
        outer = self._outer
        is_known = self._found or (outer.route is not None and outer.explicit_route is None)
        if is_known or outer.finished or is_seen_by(outer, self._scope, self._recorder):
            return
        found = SimpleNamespace(
            scope=self._scope,
            status=self._status,
            route=None,
            explicit_route=None,
            measured=True,
            finished=False,
        )
        try:
            self._recorder.resolve_route(found)
            if found.route is None:
                return
            self._found = True
            is_forwarding = isinstance(outer, ForwardingRecording)
            for recording in [outer] if is_forwarding else affected_recordings(outer):
                if recording.route is None:
                    recording.route = found.route
                if not found.measured:
                    recording.measured = False
        except Exception:
            self._recorder.record_internal_error("annotate")

    def _on_response_start(self, message: Message) -> None:
        status = message["status"]
        self._status = str(status)
        error = answered_exception() if status >= 500 else None
        if isinstance(error, Exception):
            for exchange in self._exchanges(error):
                exchange.add_handled_exception(error)

    def _on_exception(self, error: Exception) -> None:
        """Keep an exception that leaves the application, unless the response is complete. Never raises."""
        try:
            if self._complete:
                return
            for exchange in self._exchanges(error):
                exchange.add_handled_exception(error)
                if self._status is not None:
                    exchange.body_failed = True
        except Exception:
            self._recorder.record_internal_error("follow")

    def _exchanges(self, error: Exception) -> list[ASGIExchange]:
        """Return the unfinished requests that an exception belongs to."""
        return [
            recording
            for recording in affected_recordings(self._outer)
            if isinstance(recording, ASGIExchange)
            and not (recording.finished or recording.is_disconnect(error))
        ]


def is_seen_by(outer: Any, scope: Scope, recorder: Recorder) -> bool:
    """Tell whether an outer recording finds the route of a scope itself."""
    return outer.scope is scope and outer.recorder is recorder and not isinstance(outer, ForwardingRecording)


def add_inner_layers(app: Any) -> None:
    """Put inner layers into an application. Further calls change nothing. Never raises.

    One is around the application of each ``BaseHTTPMiddleware`` of Starlette, which runs it in another task
    and sends the response itself. One is around each router of Starlette and Litestar, if a middleware
    around it may copy the scope. Middlewares of Starlette itself do not.

    Args:
        app: The application. It may be wrapped in middlewares.
    """
    try:
        _patch_base_http_middleware()
        _wrap_routers(app)
    except Exception:
        logger.warning("routes and exceptions behind middlewares may be missing", exc_info=True)


def _patch_base_http_middleware() -> None:
    cls = getattr(sys.modules.get("starlette.middleware.base"), "BaseHTTPMiddleware", None)
    if cls is None or hasattr(cls.__call__, _PATCHED):
        return
    original = cls.__call__

    async def __call__(self: Any, scope: Scope, receive: Receive, send: Send) -> Any:  # noqa: N807
        if RECORDING_KEY in scope and not isinstance(self.app, InnerLayer):
            self.app = InnerLayer(self.app)
        return await original(self, scope, receive, send)

    setattr(__call__, _PATCHED, True)
    cls.__call__ = __call__


def _wrap_routers(app: Any) -> None:
    around: list[Any] = []
    for wrapped in iter_wrapped_apps(app, mounted=True):
        # The router of Starlette and FastAPI, or Litestar itself.
        for owner, name in (
            (getattr(wrapped, "router", None), "middleware_stack"),
            (wrapped, "asgi_handler"),
        ):
            inner = getattr(owner, name, None)
            if inner is not None:
                break
        else:
            around.append(type(wrapped))
            continue
        middlewares = [*around, *(each.cls for each in getattr(wrapped, "user_middleware", None) or ())]
        if any(map(_may_copy, middlewares)) and not isinstance(inner, InnerLayer):
            setattr(owner, name, InnerLayer(inner))


def _may_copy(middleware: Any) -> bool:
    package = getattr(middleware, "__module__", "").partition(".")[0]
    bases = {each.__name__ for each in getattr(middleware, "__mro__", ())}
    return package not in ("starlette", "fastapi", "web_prom") and "BaseHTTPMiddleware" not in bases
