"""The route of a page of Wagtail is its type. Wagtail imports this module if it is installed."""

from __future__ import annotations

from typing import Any

from wagtail import hooks

from django_prom.own_routes import set_route


@hooks.register("before_serve_page", order=-1000)  # type: ignore[untyped-decorator]  # before one that answers
def name_route(page: Any, request: Any, args: Any, kwargs: Any) -> None:
    """Name the route of a request by the type of the page: ``/<blog.BlogPage>``."""
    set_route(request, f"/<{page._meta.label}>")
