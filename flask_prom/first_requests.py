"""Checks of the first requests of a Flask application: whether they are measured."""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from typing import Any

from flask import Flask, request

from web_prom.metrics.layers import find_outer
from web_prom.metrics.recording import RECORDING_KEY

logger = logging.getLogger("web_prom")

# A test client at startup or a health check may call another layer of the application than the server does.
# So one measured request does not prove that all requests are measured.
_MAX_CHECKS = 100


def watch_first_requests(app: Flask, on_first: Callable[[], None]) -> None:
    """Call a function at the first request, and log a warning at the first request that is not measured.

    ``app.full_dispatch_request`` is replaced until that warning, at most for a hundred requests. Later
    requests take no extra time. With several threads, the function and the warning may come twice.

    Args:
        app: The application.
        on_first: Called at the first request, when all other extensions are initialised. It must allow a
            second call.
    """
    before = vars(app).get("full_dispatch_request")
    dispatch = app.full_dispatch_request
    checks = 0

    def check_and_dispatch(*args: Any) -> Any:
        nonlocal checks
        try:
            if checks == 0:
                on_first()
            checks += 1
            measured = is_measured(request.environ)
            if not measured:
                _warn(app)
            if not measured or checks >= _MAX_CHECKS:
                _restore(app, check_and_dispatch, before)
        except Exception:
            logger.debug("the check of a first request failed", exc_info=True)
        return dispatch(*args)

    app.full_dispatch_request = check_and_dispatch  # type: ignore[method-assign]


def is_measured(environ: MutableMapping[str, Any]) -> bool:
    """Return whether a WSGI or ASGI middleware measures a request."""
    return RECORDING_KEY in environ or find_outer(environ) is not None


def _restore(app: Flask, replacement: Any, before: Any) -> None:
    """Remove the replacement, unless another extension has wrapped it since."""
    if vars(app).get("full_dispatch_request") is replacement:
        if before is None:
            del app.full_dispatch_request
        else:
            app.full_dispatch_request = before  # type: ignore[method-assign]


def _warn(app: Flask) -> None:
    logger.warning(
        "a request of Flask application %r did not pass web-prom: another layer got app.wsgi_app before "
        "FlaskProm replaced it (connexion 3 does so). Such requests are not measured, and no scrape is "
        "answered. Instead of FlaskProm, put web_prom.asgi.PrometheusMiddleware (WSGI: "
        "web_prom.PrometheusMiddleware) around the application that the server calls.",
        app.name,
    )
