"""The project's settings, and the objects that are created from them once."""

from __future__ import annotations

import logging
import os
import sys
from functools import cache
from typing import TYPE_CHECKING

import prometheus_client
from django.conf import settings

from django_prom import features
from django_prom.request_attributes import ATTRIBUTE_GETTERS
from django_prom.request_start import start_key_getter
from web_prom.config import FIELDS, PREFIX, Config
from web_prom.config.credentials import Secret
from web_prom.errors import WebPromError
from web_prom.exposition.http import Exposition
from web_prom.metrics.recorder import Recorder
from web_prom.middleware import scrape_paths
from web_prom.multiprocess.directory.environment import DIR_VARIABLE
from web_prom.multiprocess.writing.activation import is_shared
from web_prom.multiprocess.writing.current_storage import process_storage

if TYPE_CHECKING:
    from web_prom.live.mount import LiveMount

logger = logging.getLogger("web_prom")

REGISTRY = prometheus_client.REGISTRY
"""The registry of the project's metrics: prometheus_client's default registry."""


class Instrumentation:
    """The recorder of the project, with settings that each request needs.

    It is created once. All handlers, threads and forked workers share it.

    Attributes:
        recorder: The recorder of the project.
        recording_class: The class of the recordings of requests.
        suffixes: The possible ends of a path at which a scrape is answered.
        start_key: Returns the key of a request in the recorder's ``request_starts``.
        labels_need_thread: Whether an extra label tried to use the database in the event loop.
    """

    def __init__(self, config: Config) -> None:
        features.check(config)
        self.recorder = Recorder(config, REGISTRY, owner=owner(), attribute_getters=ATTRIBUTE_GETTERS)
        features.start(self.recorder)
        # Most management commands serve no request.
        from django_prom.recording import recording_class

        self.recording_class = recording_class(self.recorder)
        self.suffixes = tuple(path[1:] for path in scrape_paths(config.path)) or ("",)
        self.start_key = start_key_getter(self.recorder.naming.start_attributes)
        if config.live:
            mount = live_mount()
            self.suffixes += tuple(path[1:] for path in mount.paths)
            self.start_key = mount.starting(self.start_key)
        self.labels_need_thread = False


@cache
def config() -> Config:
    """Return the settings. Those in ``settings`` take precedence over those in the environment.

    Raises:
        ConfigError: As :meth:`web_prom.config.Config.load`.
    """
    keys = [key for key in dir(settings) if key.startswith(PREFIX)]
    return Config.load(settings={key: getattr(settings, key) for key in keys}, environ=os.environ)


def hide_secrets() -> None:
    """Replace the secrets in ``settings`` with objects that Django's debug page shows as ``Secret('***')``.

    Django 4.2 hides settings by words in their names, and ``PROM_BASIC_AUTH`` has none of these words.
    """
    for name, setting in FIELDS.items():
        key = PREFIX + name.upper()
        value = getattr(settings, key, None)
        if setting.metadata["secret"] and isinstance(value, str):
            setattr(settings, key, Secret(value))


def is_on(name: str) -> bool:
    """Return the value of a boolean setting, or its default if the settings are wrong."""
    try:
        return bool(getattr(config(), name))
    except WebPromError:
        return bool(getattr(Config(), name))


@cache
def instrumentation() -> Instrumentation | None:
    """Return the project's instrumentation, or None if ``PROM_ENABLED`` is off.

    The first call creates the metrics.

    Raises:
        WebPromError: A setting is wrong, another application on the same registry has other settings, or
            the shared directory cannot be used.
    """
    return Instrumentation(config()) if config().enabled else None


@cache
def current_instrumentation() -> Instrumentation | None:
    """Return the instrumentation for a request, or None if requests are not measured. Never raises.

    The settings can be right when the server starts, and overridden with wrong ones later.
    """
    try:
        return instrumentation()
    except WebPromError:
        logger.exception("requests are not measured")
        return None


def may_create_instrumentation() -> bool:
    """Return whether a process may create the instrumentation outside the middleware.

    A process without a middleware, for example a worker for tasks, does so at its first operation. If there
    is a shared directory, only a process that writes to it already does so: a management command must not
    leave files there, because another user may run it.
    """
    if is_shared():
        return process_storage().slot is not None
    return not os.environ.get(DIR_VARIABLE)


@cache
def exposition() -> Exposition:
    """Return the exposition that answers the project's scrapes.

    Raises:
        ConfigError: The settings are wrong.
    """
    return Exposition(REGISTRY, config())


@cache
def live_mount() -> LiveMount:
    """Return what answers the requests of the live page. Call it only if ``PROM_LIVE`` is on.

    Raises:
        ConfigError: The settings are wrong.
    """
    from web_prom.live.mount import LiveMount

    return LiveMount(exposition(), config(), owner(), is_debug=lambda: settings.DEBUG)


def owner() -> str:
    """Return the name of the project, for messages."""
    module = getattr(settings, "SETTINGS_MODULE", None) or ""
    name = module.removesuffix(".settings")
    return f"Django project {name!r}" if name else "the Django project"


def reset() -> None:
    """Clear everything that depends on settings: they have changed (``override_settings``)."""
    features.stop()
    if live_mount.cache_info().currsize:
        live_mount().keeper.stop()
    for cached in (config, instrumentation, current_instrumentation, exposition, live_mount):
        cached.cache_clear()
    # Most management commands never import these modules, so they are not imported here.
    for name in ("routes", "urls", "database.measuring"):
        module = sys.modules.get(f"django_prom.{name}")
        if module is not None:
            module.reset()
