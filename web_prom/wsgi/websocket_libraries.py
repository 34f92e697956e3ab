"""Patches of WebSocket libraries for WSGI: they report accepted WebSockets, messages and close frames.

These libraries take the connection from the server, so a middleware does not see the handshake. A few of
their methods are replaced by ones that call the original and then report to the recording in the environ. A
library is patched only if it is loaded, at the first request that asks for a WebSocket. An error in this
module never reaches a library or an application.
"""

from __future__ import annotations

import functools
import logging
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Protocol, TypeAlias

from web_prom.metrics.recording import RECORDING_KEY

logger = logging.getLogger("web_prom")

Method: TypeAlias = Callable[..., Any]
Patch: TypeAlias = Callable[[Method], Method]
"""Returns the replacement of a method."""

NORMAL_CLOSURE, NO_STATUS, ABNORMAL_CLOSURE = 1000, 1005, 1006

_MESSAGES = frozenset({"Message", "TextMessage", "BytesMessage"})

# uWSGI's functions get no environ. So this has the upgrade that the current thread or greenlet serves.
_current: ContextVar[weakref.ref[Any] | None] = ContextVar("web_prom_upgrade", default=None)

_patched: set[str] = set()
_lock = threading.Lock()


class Upgrade(Protocol):
    """What a patched library reports to: :class:`web_prom.wsgi.upgrades.UpgradeRecording`."""

    route: str | None
    measured: bool

    def accept(self, default_close_code: str = ..., /) -> None:
        """Record that a WebSocket was accepted."""

    def record_close_frame(self, code: Any, /) -> None:
        """Record the code of a close frame."""

    def count_message(self, direction: str, /) -> None:
        """Count a message that was ``received`` or ``sent``."""


def patch_loaded_libraries(upgrade: Upgrade) -> None:
    """Patch each library that is loaded. Call it when the current thread starts to serve an upgrade."""
    for name, patch_library in _LIBRARIES.items():
        if name in sys.modules and name not in _patched:
            with _lock:
                if name not in _patched:
                    _try_to_patch(name, patch_library)
    if "uwsgi" in _patched:
        _current.set(weakref.ref(upgrade))


def is_disconnect(error: BaseException) -> bool:
    """Return whether an exception means that the peer has disconnected, or that the worker is exiting."""
    library = type(error).__module__.partition(".")[0]
    return (
        isinstance(error, ConnectionError)
        or not isinstance(error, Exception)  # a greenlet is killed, or the worker exits
        or library in {"simple_websocket", "geventwebsocket"}
    )


def _try_to_patch(name: str, patch_library: Callable[[Any], None]) -> None:
    try:
        patch_library(sys.modules[name])
        _patched.add(name)
    except Exception:  # the module is not completely imported yet, or its version has other methods
        logger.debug("the WebSockets of %s are not measured", name, exc_info=True)


def _upgrades_of(environ: Any) -> Iterator[Upgrade]:
    """Yield the upgrade in an environ, and those of outer layers with other registries."""
    recording = environ.get(RECORDING_KEY) if environ else None
    while recording is not None:
        if hasattr(recording, "record_close_frame"):
            yield recording
        recording = getattr(recording, "outer", None)


def _accept(environ: Any, default_close_code: int) -> list[Upgrade]:
    """Record that a WebSocket was accepted; return the upgrades that get its messages. Never raises."""
    accepted: list[Upgrade] = []
    try:
        for upgrade in _upgrades_of(environ):
            upgrade.accept(str(default_close_code))
            if accepted and upgrade.route is None:
                upgrade.route, upgrade.measured = accepted[-1].route, accepted[-1].measured
            accepted.append(upgrade)
    except Exception:
        logger.debug("an accepted WebSocket could not be recorded", exc_info=True)
    return accepted


def _count_message(upgrades: Iterable[Upgrade], direction: str) -> None:
    for upgrade in upgrades:
        upgrade.count_message(direction)


def _record_close_frame(upgrades: Iterable[Upgrade], code: Any) -> None:
    for upgrade in upgrades:
        upgrade.record_close_frame(code)


def _replace_methods(owner: Any, **patches: Patch) -> None:
    """Replace methods of a class or functions of a module: all of them, or none if one is missing."""
    originals = {name: getattr(owner, name) for name in patches}
    replacements = {
        name: functools.wraps(original)(patches[name](original)) for name, original in originals.items()
    }
    for name, method in replacements.items():
        setattr(owner, name, method)


def _counting(
    direction: str,
    get_upgrades: Callable[..., Iterable[Upgrade]],
    has_message: Callable[[Any, Mapping[str, Any]], bool],
) -> Patch:
    """Return a patch that counts a message after each call of a method.

    Args:
        direction: ``received`` or ``sent``.
        get_upgrades: Returns the upgrades for the positional arguments of the method.
        has_message: Returns whether a call received or sent a message, from its result and its keyword
            arguments.
    """

    def patch(original: Method) -> Method:
        def call(*args: Any, **options: Any) -> Any:
            result = original(*args, **options)
            if has_message(result, options):
                _count_message(get_upgrades(*args), direction)
            return result

        return call

    return patch


def _patch_simple_websocket(module: Any) -> None:
    """Patch simple-websocket, which Flask-Sock and python-engineio use."""

    def handshake(original: Method) -> Method:
        def call(self: Any, *args: Any, **options: Any) -> Any:
            result = original(self, *args, **options)
            if self.connected:
                _patch_connection(self.ws, _accept(self.environ, ABNORMAL_CLOSURE))
            return result

        return call

    _replace_methods(module.Server, handshake=handshake)


def _patch_connection(connection: Any, upgrades: list[Upgrade]) -> None:
    """Patch one connection of wsproto, so that it reports the events that it sends and receives."""
    send, events = connection.send, connection.events

    def report(event: Any, direction: str) -> None:
        kind = type(event).__name__
        if kind == "CloseConnection":
            _record_close_frame(upgrades, event.code)
        elif kind in _MESSAGES and getattr(event, "message_finished", True):
            _count_message(upgrades, direction)

    def send_and_report(event: Any) -> Any:
        data = send(event)
        report(event, "sent")
        return data

    def events_and_report() -> Iterator[Any]:
        for event in events():
            report(event, "received")
            yield event

    if upgrades:
        connection.send, connection.events = send_and_report, events_and_report


def _patch_gevent_websocket(module: Any) -> None:
    """Patch gevent-websocket.

    Its server accepts each WebSocket before it calls the application. So a request counts as a WebSocket only
    when the application uses it. If a view ignores the WebSocket and returns a response, the response counts.
    """

    def accepting(patch: Patch) -> Patch:
        def patch_accepting(original: Method) -> Method:
            method = patch(original)

            def call(self: Any, *args: Any, **options: Any) -> Any:
                # If the application does not close the WebSocket, the server closes it with this code.
                _accept(self.environ, NORMAL_CLOSURE)
                return method(self, *args, **options)

            return call

        return patch_accepting

    def get_upgrades(websocket: Any, *_: Any) -> Iterator[Upgrade]:
        return _upgrades_of(websocket.environ)

    def close(original: Method) -> Method:
        def call(self: Any, code: int = NORMAL_CLOSURE, *args: Any, **options: Any) -> Any:
            # The library also closes with this code when it can no longer read from the connection.
            is_lost = code == NORMAL_CLOSURE and isinstance(sys.exc_info()[1], OSError)
            upgrades = _accept(self.environ, NORMAL_CLOSURE)
            _record_close_frame(upgrades, ABNORMAL_CLOSURE if is_lost else code)
            return original(self, code, *args, **options)

        return call

    received = _counting("received", get_upgrades, lambda message, _: message is not None)
    sent = _counting("sent", get_upgrades, lambda *_: True)
    _replace_methods(module.WebSocket, receive=accepting(received), send=accepting(sent), close=close)


def _patch_eventlet(module: Any) -> None:
    """Patch eventlet's own WebSockets."""

    def init(original: Method) -> Method:
        def call(self: Any, *args: Any, **options: Any) -> None:
            original(self, *args, **options)
            _accept(self.environ, ABNORMAL_CLOSURE)

        return call

    def get_upgrades(websocket: Any, *_: Any) -> Iterator[Upgrade]:
        return _upgrades_of(websocket.environ)

    def send_closing_frame(original: Method) -> Method:
        def call(self: Any, *args: Any, **options: Any) -> Any:
            data = options.get("close_data")
            if data is not None:
                code = data[0]
            else:  # the handler has returned; if the peer has disconnected, the iterator has ended
                code = NO_STATUS if self.iterator.gi_frame is not None else ABNORMAL_CLOSURE
            _record_close_frame(_upgrades_of(self.environ), code)
            return original(self, *args, **options)

        return call

    _replace_methods(
        module.RFC6455WebSocket,
        __init__=init,
        wait=_counting("received", get_upgrades, lambda message, _: message is not None),
        send=_counting("sent", get_upgrades, lambda _, options: "control_code" not in options),
        _send_closing_frame=send_closing_frame,
    )


def _patch_uwsgi(module: Any) -> None:
    """Patch uWSGI's functions, which serve the request of the current thread or greenlet."""

    def current_upgrades(*_: Any) -> Iterator[Upgrade]:
        reference = _current.get()
        upgrade = None if reference is None else reference()
        return _upgrades_of({RECORDING_KEY: upgrade})

    def handshake(original: Method) -> Method:
        def call(*args: Any, **options: Any) -> Any:
            result = original(*args, **options)
            for upgrade in current_upgrades():
                upgrade.accept()
            return result

        return call

    received = _counting("received", current_upgrades, lambda message, _: bool(message))  # empty: no message
    sent = _counting("sent", current_upgrades, lambda *_: True)
    _replace_methods(
        module,
        websocket_handshake=handshake,
        websocket_recv=received,
        websocket_recv_nb=received,
        websocket_send=sent,
        websocket_send_binary=sent,
    )


_LIBRARIES: dict[str, Callable[[Any], None]] = {
    "simple_websocket.ws": _patch_simple_websocket,
    "geventwebsocket.websocket": _patch_gevent_websocket,
    "eventlet.websocket": _patch_eventlet,
    "uwsgi": _patch_uwsgi,
}
