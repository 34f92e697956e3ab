"""Route templates: their notation, and which routes and views are excluded from the metrics."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any, TypeVar

View = TypeVar("View", bound=Callable[..., Any])

_MARK = "__web_prom_excluded__"

# The methods of a class from which a framework makes a view. They serve the requests of all HTTP methods.
_DISPATCHERS = ("dispatch_request", "dispatch")  # Flask; Django and Starlette
_HTTP_METHODS = ("get", "post", "put", "patch", "delete", "head", "options", "trace")


class _EveryMethod:
    def __contains__(self, method: object) -> bool:
        return True


EVERY_METHOD: Container[str] = _EveryMethod()
"""Contains all HTTP methods."""


def exclude(view: View) -> View:
    """Exclude a view from all metrics.

    Decorates functions, async views, methods, and the classes of methods. The subclasses of an excluded class
    are excluded too. A method of a class-based view with the name of an HTTP method excludes the requests of
    that HTTP method. Under Litestar it also decorates handlers and Controllers.

    The view itself is returned, not a wrapper, so its calls are not slower.

    Raises:
        TypeError: The object cannot be marked, for example a built-in function.
    """
    try:
        # A bound method and a staticmethod cannot be marked, or not so that the mark is found.
        setattr(getattr(view, "__func__", view), _MARK, True)
    except (AttributeError, TypeError):
        raise TypeError(
            f"{view!r} cannot be excluded; allowed: a function, a method, or the class of a view"
        ) from None
    return view


def is_excluded(view: Any) -> bool:
    """Tell whether a view is marked as excluded, or the class from which a framework made it.

    A method of an object of a marked class is excluded too.
    """
    return _is_marked(view) or _is_marked(_class_of(view)) or _is_marked(getattr(view, "__self__", None))


def excluded_methods(view: Any) -> Container[str]:
    """Return the HTTP methods whose requests to a view are not measured. It is false if there are none."""
    view_class = view if isinstance(view, type) else _class_of(view)
    if is_excluded(view) or any(_is_marked(getattr(view_class, name, None)) for name in _DISPATCHERS):
        return EVERY_METHOD
    if view_class is None:
        return frozenset()
    actions = getattr(view, "actions", None)  # of a view set of Django REST framework
    names = {name: name for name in _HTTP_METHODS} | (actions if isinstance(actions, dict) else {})
    handlers = {method: getattr(view_class, name, None) for method, name in names.items()}
    handlers["head"] = handlers["head"] or handlers["get"]
    return frozenset(method.upper() for method, handler in handlers.items() if _is_marked(handler))


def _class_of(view: Any) -> Any:
    return getattr(view, "view_class", None) or getattr(view, "cls", None)


def _is_marked(view: Any) -> bool:
    return bool(getattr(view, _MARK, False))


def route_is_excluded(route: str, patterns: Sequence[str]) -> bool:
    """Tell whether a route template is one of ``patterns``, or is below a pattern that ends in ``/*``."""
    return any(
        route == pattern or (pattern.endswith("/*") and route.startswith(pattern[:-1]))
        for pattern in patterns
    )


def absolute_route(template: str) -> str:
    """Return a route template with a slash at its start."""
    return template if template.startswith("/") else f"/{template}"
