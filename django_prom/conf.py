"""The project's settings as the core's Config, and what is made of them once."""

from __future__ import annotations

import logging
import os
import sys
from functools import cache

import prometheus_client
from django.conf import settings

from django_prom.request_start import start_key_getter
from web_prom.config import FIELDS, PREFIX, Config
from web_prom.config.credentials import Secret
from web_prom.errors import WebPromError
from web_prom.exposition.http import Exposition
from web_prom.metrics.recorder import Recorder
from web_prom.middleware import scrape_paths

logger = logging.getLogger("web_prom")

REGISTRY = prometheus_client.REGISTRY
"""Where the project's metrics are: where the user's own instruments are."""


class Instrumentation:
    """What the settings give: made once, shared by all handlers, threads and forked workers.

    Attributes:
        recorder: Observes the project's requests.
        measures_sizes: Whether bytes, or the time to the first of them, are measured.
        measures_start: Whether anything else than the start time is measured at the start of a request.
        suffixes: How every path ends at which a scrape is answered.
        start_key: Returns how a request begins.
        labels_need_thread: Whether an extra label was refused the database in an event loop.
    """

    def __init__(self, config: Config) -> None:
        self.recorder = Recorder(config, REGISTRY, owner=owner())
        self.measures_sizes = config.request_size or config.response_size or config.first_byte
        self.measures_start = self.measures_sizes or bool(config.queue_time)
        self.suffixes = tuple(path[1:] for path in scrape_paths(config.path)) or ("",)
        self.start_key = start_key_getter(self.recorder.naming.start_attributes)
        self.labels_need_thread = False


@cache
def config() -> Config:
    """Return the settings, those in ``settings`` before those in the environment.

    Raises:
        ConfigError: As :meth:`web_prom.config.Config.load`.
    """
    keys = [key for key in dir(settings) if key.startswith(PREFIX)]
    return Config.load(settings={key: getattr(settings, key) for key in keys}, environ=os.environ)


def hide_secrets() -> None:
    """Replace the secrets in ``settings`` with objects that Django's debug page shows as ``Secret('***')``.

    The page of Django 4.2 hides settings by words in their names, and ``PROM_BASIC_AUTH`` has none of them.
    """
    for name, setting in FIELDS.items():
        key = PREFIX + name.upper()
        value = getattr(settings, key, None)
        if setting.metadata["secret"] and isinstance(value, str):
            setattr(settings, key, Secret(value))


def wants(name: str) -> bool:
    """Tell whether a switch is on; where the settings are wrong, whether it is on by default."""
    try:
        return bool(getattr(config(), name))
    except WebPromError:
        return bool(getattr(Config(), name))


@cache
def instrumentation() -> Instrumentation | None:
    """Return what measures the project, making its instruments at the first call; None if switched off.

    Raises:
        WebPromError: The settings are wrong, do not fit another application's on the same registry, or
            name a directory that cannot be used.
    """
    return Instrumentation(config()) if config().enabled else None


@cache
def current() -> Instrumentation | None:
    """Return what measures the project at this moment, or None if nothing does. Never raises.

    Settings that were right as the server started can be overridden with wrong ones later.
    """
    try:
        return instrumentation()
    except WebPromError:
        logger.exception("requests are not measured")
        return None


@cache
def exposition() -> Exposition:
    """Return what answers the project's scrapes.

    Raises:
        ConfigError: The settings are wrong.
    """
    return Exposition(REGISTRY, config())


def owner() -> str:
    """Return the project's name, for messages."""
    module = getattr(settings, "SETTINGS_MODULE", None) or ""
    name = module.removesuffix(".settings")
    return f"Django project {name!r}" if name else "the Django project"


def reset() -> None:
    """Forget what was made of the settings, so that it is made anew; for ``override_settings``."""
    for kept in (config, instrumentation, current, exposition):
        kept.cache_clear()
    # Only what was imported has anything to forget, and most commands never import these.
    for name in ("routes", "urls"):
        module = sys.modules.get(f"django_prom.{name}")
        if module is not None:
            module.reset()
