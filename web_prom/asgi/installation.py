"""Installation of the middleware: around an ASGI application that stays the same object."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any, Protocol

from web_prom.asgi.inner_layer import add_inner_layers
from web_prom.types import ASGIApp, Receive, Scope, Send

# Starlette, FastAPI and Connexion build their middlewares at the first connection, in these methods.
_BUILDERS = frozenset({"build_middleware_stack", "_build_middleware_stack"})

_MAX_FRAMES = 8


class Wrap(Protocol):
    """Returns an application in a layer of the middleware."""

    def __call__(self, app: ASGIApp, *, scrapes: bool = True) -> ASGIApp:
        """Wrap an application.

        Args:
            app: The application.
            scrapes: Whether this layer answers scrapes.
        """


def wrap_in_place(app: Any, wrap: Wrap) -> None:
    """Put the middleware around an application. Middlewares that are added later are inside it.

    Args:
        app: The application. It stays the same object.
        wrap: Wraps an application in the middleware.

    Raises:
        TypeError: The application is a function, or its class cannot be replaced.
    """
    build = getattr(app, "build_middleware_stack", None)
    if build is not None:

        def build_measured() -> ASGIApp:
            add_inner_layers(app)
            return wrap(build())

        app.build_middleware_stack = build_measured
        if getattr(app, "middleware_stack", None) is not None:  # it has served a connection
            add_inner_layers(app)
            app.middleware_stack = wrap(app.middleware_stack)
        if _package_of_call(type(app)) in ("starlette", "fastapi"):
            return
    # Python looks __call__ up on the class. A subclass of Starlette or FastAPI may define its own.
    cls: Any = type(app)
    outermost = wrap(partial(cls.__call__, app), scrapes=build is None)

    async def __call__(self: Any, scope: Scope, receive: Receive, send: Send) -> Any:  # noqa: N807
        return await outermost(scope, receive, send)

    names = ("__module__", "__qualname__", "__doc__")
    body = {"__call__": __call__, "__slots__": (), **{name: getattr(cls, name) for name in names}}
    try:
        app.__class__ = type(cls.__name__, (cls,), body)
    except TypeError as error:
        raise TypeError(f"{app!r} cannot be changed; write app = PrometheusMiddleware(app)") from error


def wrap_starlette_stack(middleware: Any, scope: Scope, wrap: Wrap) -> bool:
    """Put a layer around the middleware stack of the Starlette application to which a middleware was added.

    Starlette and FastAPI put their own middlewares around those that are added. With the outer layer, the
    responses of their own middlewares are measured too (for example the response to an exception). Scrapes
    are answered at the place where the middleware was added.

    Args:
        middleware: The middleware that was added.
        scope: The scope of a connection, which contains the application.
        wrap: Wraps an application in the middleware.

    Returns:
        Whether there is a layer around the stack now.
    """
    app = scope.get("app")
    stack = getattr(app, "middleware_stack", None)
    if not callable(stack):
        return False
    layer: Any = stack
    while isinstance(layer, type(middleware)):
        if layer._enabled and layer.recorder.shares_families_with(middleware.recorder):
            return True
        layer = layer._app
    add_inner_layers(app)
    app.middleware_stack = wrap(stack, scrapes=False)  # type: ignore[union-attr]
    return True


def is_built_by_framework() -> bool:
    """Return whether a framework creates the middleware now, at its first connection.

    Call it in the constructor of the middleware.
    """
    frame: Any = sys._getframe(2)
    for _ in range(_MAX_FRAMES):
        if frame is None:
            return False
        if frame.f_code.co_name in _BUILDERS:
            return True
        frame = frame.f_back
    return False


class FailedApp:
    """Answers in place of an application whose middleware cannot be created.

    It fails the startup of the server with the error. If the server sends no lifespan events, each request
    raises the error.

    Args:
        error: Why the middleware cannot be created.
    """

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Fail one connection, or the startup."""
        if scope["type"] != "lifespan":
            raise self._error.with_traceback(None)
        await receive()
        await send({"type": "lifespan.startup.failed", "message": f"web-prom: {self._error}"})


def _package_of_call(cls: type[Any]) -> str:
    """Return the top package of the class that defines the ``__call__`` of a class."""
    owner = next(each for each in cls.__mro__ if "__call__" in vars(each))
    return owner.__module__.partition(".")[0]
