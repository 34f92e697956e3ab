"""Routes that the application sets itself, for example by the type of a page."""

from __future__ import annotations

from typing import Any

from web_prom import middleware
from web_prom.metrics.recording import RECORDING_KEY


def set_route(request: Any, template: str) -> None:
    """Set the route of a request, instead of the URL pattern that it matched.

    For one URL pattern that serves many kinds of pages. Call it from a view, a middleware or a hook before
    the response is returned. The last call counts. If the request is not measured, nothing happens. Each
    template counts for PROM_MAX_LABEL_SETS.

    Args:
        request: The request of Django or of REST framework, or the scope of a consumer of Channels.
        template: The route template, for example ``/<blog.BlogPage>``. The number of templates must not
            depend on clients.
    """
    template = str(template)  # it can be a lazy translation
    meta = getattr(request, "META", None)
    scope = request if meta is None else getattr(request, "scope", None)
    if meta is not None and RECORDING_KEY in meta:
        middleware.set_route(meta, template)
    elif scope is not None:
        middleware.set_route(scope, template)
