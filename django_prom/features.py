"""Starts and stops the measurements inside requests that settings switch on.

The modules of a measurement are imported only if its setting is on.
"""

from __future__ import annotations

from collections.abc import Callable

from web_prom.config import Config
from web_prom.metrics.recorder import Recorder

_stops: list[Callable[[], None]] = []


def check(config: Config) -> None:
    """Check settings that depend on the project. Nothing is started.

    Raises:
        ConfigError: A setting names something that the project does not have.
    """
    if config.models:
        from django_prom.model_changes import find_models

        find_models(config.models)


def start(recorder: Recorder) -> None:
    """Start what the settings switch on. Called once for each recorder of the project.

    Raises:
        ConfigError: As :func:`check`.
    """
    stop()
    config = recorder.config
    if config.database:
        from web_prom.database.activation import activate, deactivate

        database = activate(recorder)
        _stops.append(lambda: deactivate(database))
    if config.models:
        from django_prom.model_changes import ModelChanges, find_models

        changes = ModelChanges(recorder, find_models(config.models))
        changes.start()
        _stops.append(changes.stop)
    if config.migrations:
        from django_prom.migration_state import MigrationState

        migrations = MigrationState(recorder)
        migrations.start()
        _stops.append(migrations.stop)
    if config.templates:
        from django_prom.templates import TemplateRendering

        templates = TemplateRendering(recorder)
        templates.start()
        _stops.append(templates.stop)
    if config.http_client:
        from web_prom.http_client import activation

        calls = activation.activate(recorder)
        _stops.append(lambda: activation.deactivate(calls))


def stop() -> None:
    """Stop everything. The settings have changed, or there is a new recorder."""
    while _stops:
        _stops.pop()()
