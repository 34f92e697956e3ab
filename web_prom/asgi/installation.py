"""The place of a middleware in an ASGI application, and errors that come after the start."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from web_prom.asgi.exchange import ASGIApp, Receive, Scope, Send

# Starlette and FastAPI, and Connexion, make their middlewares when the first connection comes.
_BUILDERS = frozenset({"build_middleware_stack", "_build_middleware_stack"})

# How many calls, or middlewares, are looked through.
_CALLS, _DEPTH = 8, 100

Wrap = Callable[..., ASGIApp]


def surround(app: Any, wrap: Wrap) -> None:
    """Put a middleware around an application, whatever is added to the application later.

    Args:
        app: The application. It stays the same object.
        wrap: Called with an ASGI application; returns it in the middleware. Called with ``scrapes=False``
            where another layer of the middleware answers the scrapes.

    Raises:
        TypeError: The application is a function, or does not allow it.
    """
    build = getattr(app, "build_middleware_stack", None)
    if build is not None:
        app.build_middleware_stack = lambda: wrap(build())
        if getattr(app, "middleware_stack", None) is not None:  # it has served a connection
            app.middleware_stack = wrap(app.middleware_stack)
        if _home(type(app)) in ("starlette", "fastapi"):
            return
    # The class is asked for __call__, not the object. A subclass of Starlette or FastAPI may answer there.
    kind: Any = type(app)
    outermost = wrap(partial(kind.__call__, app), scrapes=build is None)

    async def __call__(self: Any, scope: Scope, receive: Receive, send: Send) -> Any:  # noqa: N807
        return await outermost(scope, receive, send)

    names = ("__module__", "__qualname__", "__doc__")
    body = {"__call__": __call__, "__slots__": (), **{name: getattr(kind, name) for name in names}}
    try:
        app.__class__ = type(kind.__name__, (kind,), body)
    except TypeError as error:
        raise TypeError(f"{app!r} cannot be changed; write app = PrometheusMiddleware(app)") from error


def move_outermost(middleware: Any, scope: Scope, wrap: Wrap) -> None:
    """Put a layer of a middleware around the whole stack of Starlette that the middleware is part of.

    Starlette and FastAPI put their own middlewares around those that are added. What these answer, for
    example an exception, is then measured too. Scrapes are answered where the middleware stands.

    Args:
        middleware: The middleware.
        scope: That of a connection, where the application is found.
        wrap: As :func:`surround`.
    """
    app = scope.get("app")
    stack = getattr(app, "middleware_stack", None)
    if stack is None or (
        isinstance(stack, type(middleware)) and stack.recorder.counts_with(middleware.recorder)
    ):
        return
    layer = stack
    for _ in range(_DEPTH):
        layer = getattr(layer, "app", None) or getattr(layer, "_app", None)
        if layer is middleware:
            app.middleware_stack = wrap(stack, scrapes=False)  # type: ignore[union-attr]
            return


def is_built_late() -> bool:
    """Tell whether the caller's caller is made when a server serves, and not when the application is made."""
    frame: Any = sys._getframe(2)
    for _ in range(_CALLS):
        if frame is None:
            return False
        if frame.f_code.co_name in _BUILDERS:
            return True
        frame = frame.f_back
    return False


class Refusal:
    """Answers in the place of an application whose middleware cannot be made.

    The start of the server fails with the error. A server that does not ask at its start gets the error
    with each request.

    Args:
        error: Why the middleware cannot be made.
    """

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse one connection, or the start."""
        if scope["type"] != "lifespan":
            raise self._error.with_traceback(None)
        await receive()
        await send({"type": "lifespan.startup.failed", "message": f"web-prom: {self._error}"})


def _home(kind: type[Any]) -> str:
    """Return the package of the class that a class has its ``__call__`` from."""
    owner = next(each for each in kind.__mro__ if "__call__" in vars(each))
    return owner.__module__.partition(".")[0]
