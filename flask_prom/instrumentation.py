"""The adapter of Flask for :mod:`web_prom.instrumentation`."""

from __future__ import annotations

from typing import Any

from flask import Flask, request_started

from flask_prom.extension import EXTENSION, FlaskProm


def instrument(application: Any, asgi: bool) -> bool | None:
    """Instrument an application of Flask that a server has loaded.

    Returns:
        True if the application is now instrumented. False if it already uses web-prom itself. None for any
        other object, and under ASGI, where the ASGI middleware counts.

    Raises:
        WebPromError: A setting is not allowed, or the registry is used with other settings.
    """
    # isinstance() is also true for a proxy, but a proxy does not send the signals of its object.
    if not issubclass(type(application), Flask):
        return None
    if EXTENSION in application.extensions:
        return False
    if asgi:
        return None
    FlaskProm(application)
    instrumentation = application.extensions[EXTENSION]
    if instrumentation.config.enabled:
        # If a layer kept the former wsgi_app, requests do not pass the middleware of FlaskProm. Then this
        # receiver sets the route on the recording of the outermost layer.
        request_started.connect(instrumentation.on_request_started, application)
    return True
