"""Route templates: their notation, and which routes and views are excluded from the metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

View = TypeVar("View", bound=Callable[..., Any])

_MARK = "__web_prom_excluded__"


def exclude(view: View) -> View:
    """Exclude a view from all metrics. Decorates functions, the classes of methods, and async views.

    The view itself is returned, not a wrapper, so its calls are not slower.
    """
    setattr(view, _MARK, True)
    return view


def is_excluded(view: Any) -> bool:
    """Tell whether a view, or the class from which a framework made the view, is marked as excluded."""
    view_class = getattr(view, "view_class", None) or getattr(view, "cls", None)
    return bool(getattr(view, _MARK, False) or getattr(view_class, _MARK, False))


def route_is_excluded(route: str, patterns: Sequence[str]) -> bool:
    """Tell whether a route template is one of ``patterns``, or is below a pattern that ends in ``/*``."""
    return any(
        route == pattern or (pattern.endswith("/*") and route.startswith(pattern[:-1]))
        for pattern in patterns
    )


def absolute_route(template: str) -> str:
    """Return a route template with a slash at its start."""
    return template if template.startswith("/") else f"/{template}"
