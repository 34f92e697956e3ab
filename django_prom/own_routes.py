"""Routes that the application names itself, for example by the type of a page."""

from __future__ import annotations

from typing import Any

from web_prom.metrics.recording import RECORDING_KEY
from web_prom.middleware import set_route as set_route_of


def set_route(request: Any, template: str) -> None:
    """Name the route of a request, in place of the URL pattern that it matched.

    It is for one URL pattern that stands for many kinds of pages. Call it from a view, a middleware or a
    hook, before the response is returned; the last call wins. It does nothing where the request is not
    measured. Each template counts towards PROM_MAX_LABEL_SETS.

    Args:
        request: Django's request or the one of REST framework, or the scope of a consumer of Channels.
        template: For example ``/<blog.BlogPage>``; one of a list that no client can grow.
    """
    template = str(template)
    meta = getattr(request, "META", None)
    scope = request if meta is None else getattr(request, "scope", None)
    if meta is not None and RECORDING_KEY in meta:
        set_route_of(meta, template)
    elif scope is not None:
        set_route_of(scope, template)
