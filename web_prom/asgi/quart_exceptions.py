"""Exceptions of Quart applications: recorded before an error handler answers them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Any

from web_prom.metrics.layers import current_recording
from web_prom.metrics.recording import RECORDING_KEY

_METHODS = ("handle_request", "handle_user_exception", "handle_exception")

_PATCHED = "__web_prom_patched__"


def record_quart_exceptions(app: Any) -> None:
    """Patch a Quart application so that exceptions of views are recorded, also those with an error handler.

    Quart handles a request in a task that ends before the response is sent. So the middleware does not see
    these exceptions. An application of another framework is not changed. A second call for the same
    application does nothing.

    Args:
        app: The application.
    """
    methods = [getattr(app, name, None) for name in _METHODS]
    if not all(map(iscoroutinefunction, methods)) or hasattr(methods[0], _PATCHED):
        return
    handle_request: Any = methods[0]

    async def handle_with_recording(*args: Any, **options: Any) -> Any:
        current_recording.set(args[0].scope.get(RECORDING_KEY))
        return await handle_request(*args, **options)

    setattr(handle_with_recording, _PATCHED, True)
    app.handle_request = handle_with_recording
    for name, method in zip(_METHODS[1:], methods[1:], strict=True):
        setattr(app, name, _recorded(method))


def _recorded(handle: Any) -> Callable[..., Awaitable[Any]]:
    """Return an exception handler that records the exception first."""

    async def record_and_handle(*args: Any, **options: Any) -> Any:
        recording = current_recording.get()
        if recording is not None and not recording.finished and isinstance(args[-1], Exception):
            recording.add_exception(args[-1])
        return await handle(*args, **options)

    return record_and_handle
