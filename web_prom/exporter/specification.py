"""The exporter that the environment of a gunicorn server asks for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from web_prom.config.addresses import Address
from web_prom.config.exporter_settings import OPTIONS, load_exporter_config
from web_prom.config.raw_values import PREFIX
from web_prom.gunicorn_types import GunicornServer

VARIABLES = frozenset(PREFIX + name.upper() for name in (*OPTIONS, "enabled") if name != "allow_scrape")
"""The variables that set up the exporter.

A callable may be in a module of the application, which the master is not to import.
"""


class ExporterSpec(NamedTuple):
    """What defines an exporter process. An exporter with another specification is another process."""

    bind: Address
    directory: Path
    user: tuple[int, int]
    log_file: str | None
    settings: tuple[tuple[str, str], ...]


def exporter_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of an environment that set up the exporter."""
    return {key: text for key, text in environ.items() if key in VARIABLES}


def wanted_spec(server: GunicornServer, directory: Path) -> ExporterSpec | None:
    """Return the exporter that the environment asks for, or None.

    Raises:
        ConfigError: A setting is not allowed.
    """
    config = load_exporter_config(exporter_variables(os.environ))
    if config.bind is None or not config.enabled:
        return None
    settings = tuple(sorted((key, text) for key, text in os.environ.items() if key.startswith(PREFIX)))
    return ExporterSpec(config.bind, directory, (server.cfg.uid, server.cfg.gid), _log_file(server), settings)


def _log_file(server: GunicornServer) -> str | None:
    """Return the path of the server's error log, if it is a file."""
    for handler in server.log.error_log.handlers:
        path = getattr(handler, "baseFilename", None)
        if path is not None:
            return str(path)
    return None
