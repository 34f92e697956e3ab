"""Instrumentation of an application that a server has loaded, without a change in the application."""

from __future__ import annotations

import logging
import sys
from importlib.metadata import entry_points
from inspect import iscoroutinefunction
from typing import Any, Protocol

from web_prom.wrapped_apps import iter_wrapped_apps, read_static

ENTRY_POINT_GROUP = "web_prom.frameworks"
"""The group of the entry points of the adapters.

An entry point's name is the package of a framework. Its value is an :class:`Adapter`.
"""

logger = logging.getLogger("web_prom")


class Adapter(Protocol):
    """Instruments the applications of one framework."""

    def __call__(self, application: Any, asgi: bool, /) -> bool | None:
        """Instrument an application.

        Args:
            application: Any application, of this framework or of another one.
            asgi: Whether the server calls it as ASGI, not as WSGI.

        Returns:
            True if the application is now instrumented. False if it already uses web-prom itself. None if the
            application is not one of this framework.
        """


def instrument(application: Any, *, asgi: bool) -> Any:
    """Instrument an application and return the application to serve in its place.

    For each application of a known framework, the adapter of that framework is used. Routes and exceptions
    are then as complete as in an application that uses the adapter itself. If other layers wrap that
    application, the outermost layer is measured. Any other application is measured with the routes that the
    environ or the scope contains.

    Call it in each worker, before the first request. An application that uses web-prom itself is returned
    unchanged.

    Args:
        application: The application that the server has loaded.
        asgi: Whether the server calls it as ASGI, not as WSGI.

    Raises:
        WebPromError: A setting is not allowed, or the registry is used with other settings.
    """
    layers = list(iter_wrapped_apps(application, mounted=True))
    if any(_uses_web_prom(layer) for layer in layers):
        return application
    adapters = _load_adapters()
    results = [_instrument_layer(layer, adapters, asgi) for layer in layers]
    # Two layers on one registry need the same settings. Only the application knows the settings it uses.
    return application if results[0] or False in results else _wrap(application, asgi)


def is_asgi(application: Any) -> bool:
    """Return whether an application is asynchronous, by the rule that uvicorn uses."""
    return iscoroutinefunction(application) or iscoroutinefunction(getattr(application, "__call__", None))  # noqa: B004


def _load_adapters() -> list[Adapter]:
    """Return the adapters of the frameworks that are imported. Other frameworks cannot be in use."""
    adapters: list[Adapter] = []
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        if entry_point.name in sys.modules:
            try:
                adapters.append(entry_point.load())
            except ImportError:
                logger.warning(
                    "the adapter of %s cannot be imported; its routes are unknown",
                    entry_point.name,
                    exc_info=True,
                )
    return adapters


def _instrument_layer(layer: Any, adapters: list[Adapter], asgi: bool) -> bool | None:
    """Return the result of the first adapter whose framework a layer is of, or None."""
    results = (adapter(layer, asgi) for adapter in adapters)
    return next((result for result in results if result is not None), None)


def _uses_web_prom(layer: Any) -> bool:
    """Return whether a layer is a middleware of web-prom, or has one in its list of middlewares."""
    # Starlette and FastAPI create the middlewares in this list later, when they serve.
    added = read_static(layer, "user_middleware")
    classes = [getattr(entry, "cls", None) for entry in added] if isinstance(added, list) else []
    return any(getattr(cls, "__module__", "").startswith("web_prom.") for cls in (type(layer), *classes))


def _wrap(application: Any, asgi: bool) -> Any:
    """Return an application in the middleware of its protocol."""
    if asgi:
        from web_prom.asgi import PrometheusMiddleware

        return PrometheusMiddleware(application)
    from web_prom import wsgi

    return wsgi.PrometheusMiddleware(application)
