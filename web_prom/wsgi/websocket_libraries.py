"""How WebSocket libraries for WSGI are watched: where they accept, send, receive and close.

They take the connection from the server, so no middleware sees the handshake. A few of their methods are
replaced by ones that call the original and tell the recording in the environ. Only a library that is loaded
is watched, from the first request on that asks for a WebSocket. Errors of this module never reach a library
or an application.
"""

from __future__ import annotations

import functools
import logging
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from web_prom.metrics.recording import RECORDING_KEY

logger = logging.getLogger("web_prom")

Call = Callable[..., Any]

NO_STATUS, ABNORMAL_CLOSURE = 1005, 1006

_MESSAGES = frozenset({"Message", "TextMessage", "BytesMessage"})

# uWSGI's functions get no environ. This is the upgrade that the current thread or greenlet serves.
_current: ContextVar[weakref.ref[Any] | None] = ContextVar("web_prom_upgrade", default=None)

_watched: set[str] = set()
_lock = threading.Lock()


def watch(upgrade: Any) -> None:
    """Watch each library that is loaded, as the current thread begins to serve an upgrade."""
    for name, watch_library in _LIBRARIES.items():
        if name in sys.modules and name not in _watched:
            with _lock:
                if name not in _watched:
                    _try_to_watch(name, watch_library)
    if "uwsgi" in _watched:
        _current.set(weakref.ref(upgrade))


def is_disconnect(error: BaseException) -> bool:
    """Tell whether an error says that the peer is gone, or that the worker ends."""
    library = type(error).__module__.partition(".")[0]
    return (
        isinstance(error, ConnectionError)
        or not isinstance(error, Exception)  # a greenlet is killed, or the worker exits
        or library in {"simple_websocket", "geventwebsocket"}
    )


def _try_to_watch(name: str, watch_library: Callable[[Any], None]) -> None:
    try:
        watch_library(sys.modules[name])
        _watched.add(name)
    except Exception:  # it is just being imported, or of a version with other methods
        logger.debug("the WebSockets of %s are not watched", name, exc_info=True)


def _upgrades(environ: Any) -> Iterator[Any]:
    """Give the upgrade in an environ, and those of other registries' layers around it."""
    recording = environ.get(RECORDING_KEY) if environ else None
    while recording is not None:
        if hasattr(recording, "close_frame"):
            yield recording
        recording = getattr(recording, "outer", None)


def _accept(environ: Any, default_code: int) -> list[Any]:
    """Tell that a WebSocket is accepted; return what is to be told of its frames. Never raises."""
    told: list[Any] = []
    try:
        for upgrade in _upgrades(environ):
            upgrade.accept(str(default_code))
            if told and upgrade.route is None:
                upgrade.route, upgrade.measured = told[-1].route, told[-1].measured
            told.append(upgrade)
    except Exception:
        logger.debug("a WebSocket could not be followed", exc_info=True)
    return told


def _message(told: Iterable[Any], direction: str) -> None:
    for upgrade in told:
        upgrade.message(direction)


def _close(told: Iterable[Any], code: Any) -> None:
    for upgrade in told:
        upgrade.close_frame(code)


def _replace(owner: Any, **makers: Callable[[Call], Call]) -> None:
    """Replace methods by ones that are made of the originals: all of them, or none."""
    originals = {name: getattr(owner, name) for name in makers}
    made = {name: functools.wraps(original)(makers[name](original)) for name, original in originals.items()}
    for name, method in made.items():
        setattr(owner, name, method)


def _counting(
    direction: str, told_of: Callable[..., Iterable[Any]], counts: Callable[[Any, Mapping[str, Any]], bool]
) -> Callable[[Call], Call]:
    """Return what makes of a method one that counts a message after each call.

    Args:
        direction: ``received`` or ``sent``.
        told_of: Returns the upgrades for the method's arguments.
        counts: Tells by the result and the named arguments whether a call has passed a message on.
    """

    def make(original: Call) -> Call:
        def call(*args: Any, **options: Any) -> Any:
            result = original(*args, **options)
            if counts(result, options):
                _message(told_of(*args), direction)
            return result

        return call

    return make


def _watch_simple_websocket(module: Any) -> None:
    """Watch simple-websocket, which Flask-Sock and python-engineio use."""

    def handshake(original: Call) -> Call:
        def call(self: Any, *args: Any, **options: Any) -> Any:
            result = original(self, *args, **options)
            if self.connected:
                _watch_frames(self.ws, _accept(self.environ, ABNORMAL_CLOSURE))
            return result

        return call

    _replace(module.Server, handshake=handshake)


def _watch_frames(protocol: Any, told: list[Any]) -> None:
    """Watch what a connection of wsproto sends and receives."""
    send, events = protocol.send, protocol.events

    def note(event: Any, direction: str) -> None:
        kind = type(event).__name__
        if kind == "CloseConnection":
            _close(told, event.code)
        elif kind in _MESSAGES and getattr(event, "message_finished", True):
            _message(told, direction)

    def watched_send(event: Any) -> Any:
        data = send(event)
        note(event, "sent")
        return data

    def watched_events() -> Iterator[Any]:
        for event in events():
            note(event, "received")
            yield event

    if told:
        protocol.send, protocol.events = watched_send, watched_events


def _watch_gevent_websocket(module: Any) -> None:
    """Watch gevent-websocket, which accepts before it calls the application.

    A request is taken for a WebSocket when the application uses it: a view that does not know of
    WebSockets answers as ever, and its answer is counted.
    """

    def accepting(make: Callable[[Call], Call]) -> Callable[[Call], Call]:
        def make_accepting(original: Call) -> Call:
            method = make(original)

            def call(self: Any, *args: Any, **options: Any) -> Any:
                _accept(self.environ, 1000)  # its server closes so, where the application does not
                return method(self, *args, **options)

            return call

        return make_accepting

    def told_of(socket: Any, *_: Any) -> Iterator[Any]:
        return _upgrades(socket.environ)

    def close(original: Call) -> Call:
        def call(self: Any, code: int = 1000, *args: Any, **options: Any) -> Any:
            # It closes like this, too, when it cannot read any more.
            is_lost = code == 1000 and isinstance(sys.exc_info()[1], OSError)
            _close(_accept(self.environ, 1000), ABNORMAL_CLOSURE if is_lost else code)
            return original(self, code, *args, **options)

        return call

    received = _counting("received", told_of, lambda message, _: message is not None)
    sent = _counting("sent", told_of, lambda *_: True)
    _replace(module.WebSocket, receive=accepting(received), send=accepting(sent), close=close)


def _watch_eventlet(module: Any) -> None:
    """Watch eventlet's own WebSockets."""

    def init(original: Call) -> Call:
        def call(self: Any, *args: Any, **options: Any) -> None:
            original(self, *args, **options)
            _accept(self.environ, ABNORMAL_CLOSURE)

        return call

    def told_of(socket: Any, *_: Any) -> Iterator[Any]:
        return _upgrades(socket.environ)

    def closing(original: Call) -> Call:
        def call(self: Any, *args: Any, **options: Any) -> Any:
            data = options.get("close_data")
            if data is not None:
                code = data[0]
            else:  # the handler returned; there is nothing more to read where the peer is gone
                code = NO_STATUS if self.iterator.gi_frame is not None else ABNORMAL_CLOSURE
            _close(_upgrades(self.environ), code)
            return original(self, *args, **options)

        return call

    _replace(
        module.RFC6455WebSocket,
        __init__=init,
        wait=_counting("received", told_of, lambda message, _: message is not None),
        send=_counting("sent", told_of, lambda _, options: "control_code" not in options),
        _send_closing_frame=closing,
    )


def _watch_uwsgi(module: Any) -> None:
    """Watch the functions of uWSGI, which work on the request of the current thread or greenlet."""

    def current(*_: Any) -> Iterator[Any]:
        reference = _current.get()
        upgrade = None if reference is None else reference()
        return _upgrades({RECORDING_KEY: upgrade})

    def handshake(original: Call) -> Call:
        def call(*args: Any, **options: Any) -> Any:
            result = original(*args, **options)
            for upgrade in current():
                upgrade.accept()
            return result

        return call

    received = _counting("received", current, lambda message, _: bool(message))  # empty where there is none
    sent = _counting("sent", current, lambda *_: True)
    _replace(
        module,
        websocket_handshake=handshake,
        websocket_recv=received,
        websocket_recv_nb=received,
        websocket_send=sent,
        websocket_send_binary=sent,
    )


_LIBRARIES: dict[str, Callable[[Any], None]] = {
    "simple_websocket.ws": _watch_simple_websocket,
    "geventwebsocket.websocket": _watch_gevent_websocket,
    "eventlet.websocket": _watch_eventlet,
    "uwsgi": _watch_uwsgi,
}
