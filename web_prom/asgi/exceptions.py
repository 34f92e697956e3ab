"""Exceptions that an application answers in a task of its own: Quart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Any

from web_prom.metrics.layers import current
from web_prom.metrics.recording import RECORDING_KEY

_METHODS = ("handle_request", "handle_user_exception", "handle_exception")

_MARK = "__web_prom_watched__"


def watch_exceptions(app: Any) -> None:
    """Have an application of Quart note the exceptions that views raise, whichever handler answers them.

    Quart handles a request in a task that ends before the response is sent. Nothing is changed for an
    application of another kind, or a second time.

    Args:
        app: The application.
    """
    methods = [getattr(app, name, None) for name in _METHODS]
    if not all(map(iscoroutinefunction, methods)) or hasattr(methods[0], _MARK):
        return
    handle_request: Any = methods[0]

    async def enter(*args: Any, **options: Any) -> Any:
        current.set(args[0].scope.get(RECORDING_KEY))
        return await handle_request(*args, **options)

    setattr(enter, _MARK, True)
    app.handle_request = enter
    for name, method in zip(_METHODS[1:], methods[1:], strict=True):
        setattr(app, name, _noting(method))


def _noting(handle: Any) -> Callable[..., Awaitable[Any]]:
    async def note_and_handle(*args: Any, **options: Any) -> Any:
        recording = current.get()
        if recording is not None and not recording.finished and isinstance(args[-1], Exception):
            recording.add_exception(args[-1])
        return await handle(*args, **options)

    return note_and_handle
