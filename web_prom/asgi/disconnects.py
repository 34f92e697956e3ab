"""Clients that disconnect, and requests that the server cancels: how they are recognised."""

from __future__ import annotations

from asyncio import CancelledError, current_task
from collections.abc import Callable, Mapping
from operator import attrgetter
from types import CodeType
from typing import Any

_DISCONNECTS = (BrokenPipeError, ConnectionResetError, ConnectionAbortedError, CancelledError)

# Frameworks raise these when the client disconnects. They have no common base, and no framework is imported
# here.
_DISCONNECT_NAMES = frozenset({"ClientDisconnect", "ClientDisconnected", "WebSocketDisconnect"})

# By server package: the attribute that says that the client has disconnected. `send` and `receive` are
# methods of the object that has this attribute.
_SERVERS: Mapping[str, Callable[[Any], Any]] = {
    "uvicorn": attrgetter("disconnected"),
    "hypercorn": attrgetter("closed"),
    "gunicorn": attrgetter("protocol._conn_lost_handled"),
}


def server_saw_disconnect(*calls: Any) -> bool:
    """Return whether the server has seen that the client of a request disconnected. Never raises.

    A server reports a disconnect only to an application that calls ``receive()``. A call in place of the
    application is not safe: a message that is received here is lost for the application, and some servers
    react to a cancelled ``receive()``. So an attribute of the server's object is read. The result is False if
    the server is unknown, or if its release has other attributes.

    Args:
        calls: The server's ``send`` and ``receive``.
    """
    for call in calls:
        owner = getattr(call, "__self__", None)
        get_disconnected = _SERVERS.get(type(owner).__module__.partition(".")[0])
        try:
            if get_disconnected is not None and get_disconnected(owner) is True:
                return True
        except AttributeError:
            continue
    return False


def is_cancelled(error: BaseException) -> bool:
    """Return whether an exception means that the server cancelled the request.

    It is False if the application cancelled a task of its own.
    """
    if isinstance(error, GeneratorExit):  # the loop ended before the request did
        return True
    if not isinstance(error, CancelledError):
        cls = type(error)
        return cls.__name__ == "Cancelled" and cls.__module__.partition(".")[0] == "trio"
    try:
        task = current_task()
    except RuntimeError:  # a thread for synchronous middleware
        return True
    cancelling = getattr(task, "cancelling", None)  # Python 3.11 and newer
    return cancelling is None or cancelling() > 0


def is_disconnect(error: BaseException, send: CodeType) -> bool:
    """Return whether a disconnect of the client caused an exception. Ask only after a disconnect.

    Other errors of the operating system are those of the application: of a database, of a file, a timeout.

    Args:
        error: The exception.
        send: The code of the function that sends to the client. An ``OSError`` from it is a disconnect.
    """
    group = getattr(error, "exceptions", None)  # of an exception group, Python 3.11 and newer
    if isinstance(group, tuple):
        return all(isinstance(one, BaseException) and is_disconnect(one, send) for one in group)
    return (
        isinstance(error, _DISCONNECTS)
        or any(cls.__name__ in _DISCONNECT_NAMES for cls in type(error).__mro__)
        or (isinstance(error, OSError) and _passed(error, send))
    )


def _passed(error: BaseException, code: CodeType) -> bool:
    """Return whether a function with this code raised an exception, or let it through."""
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code is code:
            return True
        traceback = traceback.tb_next
    return False
