"""Measuring a Flask application that a server has loaded: see :mod:`web_prom.instrumentation`."""

from __future__ import annotations

from typing import Any

from flask import Flask, request_started

from flask_prom.extension import EXTENSION, FlaskProm


def instrument(application: Any, asgi: bool) -> bool | None:
    """Prepare an application of Flask to be measured.

    Returns:
        None for another object, and below ASGI, where the ASGI middleware counts. False for an application
        that uses web-prom itself. True for one that is measured now.

    Raises:
        WebPromError: A setting is not allowed, or the registry is used with other settings.
    """
    # A proxy is an instance of the class of its object too, but no sender of the object's signals.
    if not issubclass(type(application), Flask):
        return None
    if EXTENSION in application.extensions:
        return False
    if asgi:
        return None
    FlaskProm(application)
    measured = application.extensions[EXTENSION]
    if measured.config.enabled:
        # A layer that has kept the former wsgi_app does not call ours; the route is known nevertheless.
        request_started.connect(measured._on_started, application)
    return True
