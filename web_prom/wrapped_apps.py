"""The applications that an application wraps: where middlewares, adapters and decorators keep them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import getattr_static
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any

_ATTRIBUTES = (
    *("app", "_app", "application", "_application", "wrapped_app"),
    *("wsgi", "wsgi_app", "wsgi_application", "asgi_app"),
    *("__self__", "__wrapped__"),  # of a bound method and of a decorated function
)
# werkzeug's DispatcherMiddleware, and ProtocolTypeRouter of channels.
_MAPPINGS = ("mounts", "application_mapping")
_MAX_APPS = 100


def read_static(app: Any, name: str) -> Any:
    """Return an attribute of an object, or None. Calls no property and no ``__getattr__``."""
    found = getattr_static(app, name, None)
    is_slot = isinstance(found, MemberDescriptorType | GetSetDescriptorType)
    return getattr(app, name, None) if is_slot else found


def iter_wrapped_apps(
    app: Any, *, read: Callable[[Any, str], Any] = read_static, mounted: bool = False
) -> Iterator[Any]:
    """Yield an application and those that it wraps, each once, the outermost first.

    Args:
        app: The application.
        read: Returns an attribute of an application by its name, or None.
        mounted: Whether to include the applications that a dispatcher calls for a part of its paths.
    """
    waiting = [app]
    seen: list[Any] = []
    while waiting and len(seen) < _MAX_APPS:
        current = waiting.pop(0)
        if any(current is one for one in seen):
            continue
        seen.append(current)
        yield current
        waiting += filter(callable, (read(current, name) for name in _ATTRIBUTES))
        if mounted:
            for mapping in (read(current, name) for name in _MAPPINGS):
                waiting += filter(callable, mapping.values() if isinstance(mapping, dict) else ())
