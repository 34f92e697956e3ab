"""A look at the first requests of an application: are they measured, and who answers exceptions?"""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from typing import Any

from flask import Flask, request

from web_prom.metrics.layers import find_outer
from web_prom.metrics.recording import RECORDING_KEY

logger = logging.getLogger("web_prom")

# A test client at start, or a health check, may take another path to the application than its server.
_LOOKS = 100


def watch_first_requests(app: Flask, prepare: Callable[[], None]) -> None:
    """Call ``prepare`` as the first request is dispatched, and warn of the first one that is not measured.

    ``app.full_dispatch_request`` is replaced until then, at most for a hundred requests; later ones cost
    nothing. Safe with many threads: they may prepare and warn twice.

    Args:
        app: The application.
        prepare: What is to be done when all other extensions have been initialised; it may be called again.
    """
    before = vars(app).get("full_dispatch_request")
    dispatch = app.full_dispatch_request
    looks = 0

    def look_and_dispatch(*args: Any) -> Any:
        nonlocal looks
        try:
            if looks == 0:
                prepare()
            looks += 1
            measured = is_measured(request.environ)
            if not measured:
                _warn(app)
            if not measured or looks >= _LOOKS:
                _restore(app, look_and_dispatch, before)
        except Exception:
            logger.debug("a first request could not be looked at", exc_info=True)
        return dispatch(*args)

    app.full_dispatch_request = look_and_dispatch  # type: ignore[method-assign]


def is_measured(environ: MutableMapping[str, Any]) -> bool:
    """Tell whether a measuring layer is around the request, of WSGI or of ASGI."""
    return RECORDING_KEY in environ or find_outer(environ) is not None


def _restore(app: Flask, ours: Any, before: Any) -> None:
    if vars(app).get("full_dispatch_request") is ours:  # else somebody has wrapped it meanwhile
        if before is None:
            del app.full_dispatch_request
        else:
            app.full_dispatch_request = before  # type: ignore[method-assign]


def _warn(app: Flask) -> None:
    logger.warning(
        "a request of Flask application %r did not pass web-prom: app.wsgi_app was taken before FlaskProm "
        "replaced it, as connexion 3 does. Such requests are not measured, and no scrape is answered. Put "
        "web_prom.asgi.PrometheusMiddleware (WSGI: web_prom.PrometheusMiddleware) around the application "
        "that the server calls, in place of FlaskProm.",
        app.name,
    )
