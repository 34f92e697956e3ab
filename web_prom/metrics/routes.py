"""The mark on a view that is not to be measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

View = TypeVar("View", bound=Callable[..., Any])

_MARK = "__web_prom_excluded__"


def exclude(view: View) -> View:
    """Leave a view out of all metrics. Decorates functions, methods' classes and async views alike.

    The view itself is returned, not a wrapper: it costs nothing when it is called.
    """
    setattr(view, _MARK, True)
    return view


def is_excluded(view: Any) -> bool:
    """Tell whether a view, or the class that a framework made the view from, bears the mark."""
    made_from = getattr(view, "view_class", None) or getattr(view, "cls", None)
    return bool(getattr(view, _MARK, False) or getattr(made_from, _MARK, False))
