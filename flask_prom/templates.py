"""Measures how long an application's templates are rendered. Only imported if ``PROM_TEMPLATES`` is on."""

from __future__ import annotations

from functools import wraps

from flask import Flask
from flask.templating import Environment

from web_prom.metrics.recorder import Recorder
from web_prom.templates.jinja import instrument
from web_prom.templates.render_times import RenderTimes


def measure_templates(app: Flask, recorder: Recorder) -> RenderTimes:
    """Measure the templates of an application, also those that are not rendered by Flask's functions.

    The environment of Jinja is not created here, because ``app.jinja_options`` has no effect after that.

    Returns:
        An object that must be kept as long as the application.
    """
    times = RenderTimes(recorder)
    create = app.create_jinja_environment

    @wraps(create)
    def create_and_instrument() -> Environment:
        environment = create()
        try:
            instrument(environment, times)
        except Exception:
            recorder.record_internal_error("templates")
        return environment

    app.create_jinja_environment = create_and_instrument  # type: ignore[method-assign]
    if "jinja_env" in vars(app):
        instrument(app.jinja_env, times)
    return times
