"""The engines of Flask-SQLAlchemy: the application they belong to, and their bind keys."""

from __future__ import annotations

from typing import Any
from weakref import ref

from flask import Flask, current_app, has_app_context

from web_prom.database.activation import activate
from web_prom.database.recorder import DatabaseRecorder
from web_prom.database.sqlalchemy_names import DEFAULT_NAMESPACE
from web_prom.metrics.recorder import Recorder


class EngineFinder:
    """Finds out whether an engine belongs to an application.

    Args:
        app: The application. It is not kept alive.
        recorder: Its recorder.
    """

    def __init__(self, app: Flask, recorder: Recorder) -> None:
        self._app = ref(app)
        self._database = activate(recorder)

    def __call__(self, engine: Any) -> tuple[DatabaseRecorder, str] | None:
        """Return the application's database recorder and the bind key of an engine, or None.

        Flask-SQLAlchemy gives its engines only inside the application context. Its code runs inside it.
        """
        app = self._app()
        if app is None or not has_app_context() or current_app._get_current_object() is not app:  # type: ignore[attr-defined]
            return None
        engines = getattr(app.extensions.get("sqlalchemy"), "engines", {})
        for key, known in engines.items():
            if known.dialect is engine.dialect:
                return self._database, key or DEFAULT_NAMESPACE
        return None
