"""Measuring an application that a server has loaded, without a line of web-prom in the application."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from inspect import iscoroutinefunction
from typing import Any

GROUP = "web_prom.frameworks"
"""The entry points of the adapters: a framework's package, and a function that takes an application of it."""

# Where middlewares keep the application that they wrap, by the names that are usual.
_WRAPPED = ("application", "app", "wsgi_app", "wsgi_application", "wrapped_app", "_app")
_DEEPEST = 10


def instrument(application: Any) -> Any:
    """Measure an application and return what to serve in its place.

    An adapter of its framework is used where one is installed: then routes, exceptions and excluded views are
    known as if the application used the adapter itself. What a middleware around it answers is measured
    too. Any other application is measured by the middleware of WSGI or ASGI, without routes of WSGI
    frameworks that do not tell theirs.

    Call it in each worker, before its first request. An application that is measured already is returned
    as it is.

    Raises:
        WebPromError: A setting is not allowed, or the registry is used with other settings.
    """
    adapters = _adapters()
    for depth, found in enumerate(_with_wrapped(application)):
        if getattr(type(found), "__module__", "").startswith("web_prom."):
            return application
        for adapter in adapters:
            if adapter(found):
                # Middlewares around it answer requests of their own; the outermost layer counts.
                return application if depth == 0 else _wrapped(application)
    return _wrapped(application)


def _adapters() -> list[Callable[[Any], bool]]:
    """Return the adapters of the frameworks that are imported: no other can have made the application."""
    return [found.load() for found in entry_points(group=GROUP) if found.name in sys.modules]


def _with_wrapped(application: Any) -> Iterator[Any]:
    """Give an application, and those that it wraps, from the outside to the inside."""
    seen: list[Any] = []
    while callable(application) and len(seen) < _DEEPEST and all(application is not one for one in seen):
        yield application
        seen.append(application)
        fields = getattr(application, "__dict__", {})
        application = next((fields[name] for name in _WRAPPED if callable(fields.get(name))), None)


def _wrapped(application: Any) -> Any:
    if _is_asgi(application):
        from web_prom import asgi

        return asgi.PrometheusMiddleware(application)
    from web_prom import wsgi

    return wsgi.PrometheusMiddleware(application)


def _is_asgi(application: Any) -> bool:
    """Tell whether an application is called with a scope: then a call of it returns a coroutine."""
    return iscoroutinefunction(application) or iscoroutinefunction(getattr(application, "__call__", None))  # noqa: B004
