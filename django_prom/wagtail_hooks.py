"""Sets the route of a Wagtail page to its type. Wagtail imports this module if it is installed."""

from __future__ import annotations

from typing import Any

from wagtail import hooks

from django_prom.explicit_route import set_route


@hooks.register("before_serve_page", order=-1000)  # type: ignore[untyped-decorator]  # before hooks that answer
def set_page_route(page: Any, request: Any, args: Any, kwargs: Any) -> None:
    """Set the route of a request to the type of the page: ``/<blog.BlogPage>``."""
    set_route(request, f"/<{page._meta.label}>")
