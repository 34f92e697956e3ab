"""Measuring a Flask application that a server has loaded: see :mod:`web_prom.instrumentation`."""

from __future__ import annotations

from typing import Any

from flask import Flask

from flask_prom.extension import EXTENSION, FlaskProm


def instrument(application: Any) -> bool:
    """Measure the application if it is one of Flask's; return whether it is.

    Raises:
        WebPromError: A setting is not allowed, or the registry is used with other settings.
    """
    if not isinstance(application, Flask):
        return False
    if EXTENSION not in application.extensions:
        FlaskProm(application)
    return True
