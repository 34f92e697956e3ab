"""Clients that went away: the status of their requests, and which exceptions they cause."""

from __future__ import annotations

from asyncio import CancelledError, current_task
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

CLIENT_CLOSED_REQUEST = "499"
"""The status of a request whose client went away before the response began."""

# What frameworks raise for it; they have no common base, and the core imports none of them.
_NAMES = frozenset({"ClientDisconnect", "ClientDisconnected", "WebSocketDisconnect"})

# How the object that `send` or `receive` is a method of says that the client is gone. By package.
_SERVERS: Mapping[str, Callable[[Any], Any]] = {
    "uvicorn": attrgetter("disconnected"),
    "hypercorn": attrgetter("closed"),
    "gunicorn": attrgetter("protocol._conn_lost_handled"),
}


def is_gone(*calls: Any) -> bool:
    """Tell whether the server knows that the client of a request is gone. Never raises.

    A server tells an application only if the application asks, by ``receive()``. To ask in its place is not
    sound: a message that is received here is lost to the application, and a ``receive()`` that is cancelled
    has effects in some servers. So the server's object is looked at. Under a server that is not known here,
    or in another release with other attributes, the answer is False.

    Args:
        calls: The server's ``send`` and ``receive``.
    """
    for call in calls:
        owner = getattr(call, "__self__", None)
        look = _SERVERS.get(type(owner).__module__.partition(".")[0])
        try:
            if look is not None and look(owner) is True:
                return True
        except AttributeError:
            continue
    return False


def is_cancelled(error: BaseException) -> bool:
    """Tell whether the server cancelled the request, and not the application something of its own."""
    if isinstance(error, GeneratorExit):  # the loop ended before the request did
        return True
    if not isinstance(error, CancelledError):
        kind = type(error)
        return kind.__name__ == "Cancelled" and kind.__module__.partition(".")[0] == "trio"
    try:
        task = current_task()
    except RuntimeError:  # a thread of its own, for synchronous middleware
        return True
    cancelling = getattr(task, "cancelling", None)  # from Python 3.11 on
    return cancelling is None or cancelling() > 0


def is_disconnect(error: BaseException) -> bool:
    """Tell whether an exception says that the client is gone; asked where it is known to be."""
    several = getattr(error, "exceptions", None)  # a group of exceptions, from Python 3.11 on
    if isinstance(several, tuple):
        return all(isinstance(one, BaseException) and is_disconnect(one) for one in several)
    return isinstance(error, OSError | CancelledError) or any(
        kind.__name__ in _NAMES for kind in type(error).__mro__
    )
