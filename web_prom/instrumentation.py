"""Measuring an application that a server has loaded, without a line of web-prom in the application."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from inspect import getattr_static, iscoroutinefunction
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any

GROUP = "web_prom.frameworks"
"""The entry points of the adapters.

The name is a framework's package. The value is a function that takes an application, and whether the server
calls it as ASGI. It returns None for an application that is not its framework's, False for one that uses
web-prom itself, and True for one that it has just prepared to be measured.
"""

Adapter = Callable[[Any, bool], bool | None]

# Where a middleware keeps the application that it wraps, and a bound method or a decorated function its own.
_WRAPPED = (
    *("app", "application", "wsgi", "wsgi_app", "wsgi_application", "wrapped_app", "_app", "_application"),
    *("__self__", "__wrapped__"),
)
# Where a dispatcher keeps several: werkzeug's DispatcherMiddleware, and ProtocolTypeRouter of channels.
_MAPPINGS = ("mounts", "application_mapping")
_MOST = 100

logger = logging.getLogger("web_prom")


def instrument(application: Any, *, asgi: bool) -> Any:
    """Measure an application and return what to serve in its place.

    The adapter of a framework is used for each application of its framework that is found. Routes and
    exceptions are then as complete as in an application that uses the adapter itself. If other layers are
    around such an application, the outermost layer is measured. Any other application is measured without
    the routes that its framework does not tell.

    Call it in each worker, before the first request. An application that uses web-prom itself is returned as
    it is.

    Args:
        application: What the server has loaded.
        asgi: Whether the server calls it as ASGI, not as WSGI.

    Raises:
        WebPromError: A setting is not allowed, or the registry is used with other settings.
    """
    layers = list(_layers(application))
    if any(_is_own(layer) for layer in layers):
        return application
    adapters = _adapters()
    answers = [_prepare(layer, adapters, asgi) for layer in layers]
    # Two layers of one registry must have the same settings: only the application knows its own.
    return application if answers[0] or False in answers else _wrapped(application, asgi)


def is_asgi(application: Any) -> bool:
    """Tell whether an application is asynchronous, as uvicorn does."""
    return iscoroutinefunction(application) or iscoroutinefunction(getattr(application, "__call__", None))  # noqa: B004


def _adapters() -> list[Adapter]:
    """Return the adapters of the frameworks that are imported: no other can have made the application."""
    adapters = []
    for found in entry_points(group=GROUP):
        if found.name in sys.modules:
            try:
                adapters.append(found.load())
            except ImportError:
                logger.warning("the routes of %s are not known: its adapter fails", found.name, exc_info=True)
    return adapters


def _prepare(layer: Any, adapters: list[Adapter], asgi: bool) -> bool | None:
    answers = (adapter(layer, asgi) for adapter in adapters)
    return next((answer for answer in answers if answer is not None), None)


def _layers(application: Any) -> Iterator[Any]:
    """Give an application and those that it wraps, the outermost first, each once."""
    waiting = [application]
    seen: list[Any] = []
    while waiting and len(seen) < _MOST:
        layer = waiting.pop(0)
        if any(layer is one for one in seen):
            continue
        seen.append(layer)
        yield layer
        waiting += filter(callable, (_kept(layer, name) for name in _WRAPPED))
        for mapping in (_kept(layer, name) for name in _MAPPINGS):
            waiting += filter(callable, mapping.values() if isinstance(mapping, dict) else ())


def _is_own(layer: Any) -> bool:
    # Starlette and FastAPI make the middlewares that were added to them when they serve.
    added = _kept(layer, "user_middleware")
    kinds = [getattr(entry, "cls", None) for entry in added] if isinstance(added, list) else []
    return any(getattr(kind, "__module__", "").startswith("web_prom.") for kind in (type(layer), *kinds))


def _kept(layer: Any, name: str) -> Any:
    """Return what an object keeps in a field. No property and no ``__getattr__`` of the object is called."""
    found = getattr_static(layer, name, None)
    is_slot = isinstance(found, MemberDescriptorType | GetSetDescriptorType)
    return getattr(layer, name, None) if is_slot else found


def _wrapped(application: Any, asgi: bool) -> Any:
    if asgi:
        from web_prom.asgi import PrometheusMiddleware

        return PrometheusMiddleware(application)
    from web_prom import wsgi

    return wsgi.PrometheusMiddleware(application)
