"""Reads the raw values of settings from three sources, and checks them as the settings declare."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from dataclasses import Field
from typing import Any

from web_prom.config.credentials import Secret
from web_prom.errors import ConfigError

PREFIX = "PROM_"

# The server reads these before it loads the application.
_SERVER_SETTINGS = frozenset(
    {"PROM_INSTRUMENT", "PROM_BIND", "PROM_CERTFILE", "PROM_KEYFILE", "PROM_CLIENT_CAFILE"}
)

logger = logging.getLogger("web_prom")


def read_raw_values(
    known: Mapping[str, Field[Any]],
    options: Mapping[str, object],
    settings: Mapping[str, object],
    environ: Mapping[str, str],
) -> dict[str, tuple[str, object]]:
    """Return the source and the raw value of each setting by field name. Secrets are hidden.

    If several sources have a setting, the order is: options, settings, environment.

    Args:
        known: All settings by field name.
        options: Explicit arguments, by field name.
        settings: A framework's configuration, by key. Keys of other programs are ignored.
        environ: The environment of the process, by key. Unknown keys are logged and ignored.

    Raises:
        ConfigError: A name is unknown.
    """
    raw: dict[str, tuple[str, object]] = {}

    def add(name: str, source: str, value: object) -> None:
        hidden = known[name].metadata["secret"] and isinstance(value, str)
        raw[name] = source, Secret(value) if hidden else value  # type: ignore[arg-type]

    for key in _prom_keys(environ):
        name = key.removeprefix(PREFIX).lower()
        if name in known:
            add(name, f"{key} in the environment", environ[key])
        else:
            logger.warning("%s in the environment is not a setting of web-prom and is ignored", key)
    for key in _prom_keys(settings):
        add(_check_known(known, key.removeprefix(PREFIX).lower(), key), key, settings[key])
        if key in _SERVER_SETTINGS and key not in environ:
            logger.warning(
                "%s in the application's settings has no effect, because the server reads it before it loads "
                "the application; set it in the environment, or in raw_env of gunicorn",
                key,
            )
    for name, value in options.items():
        add(_check_known(known, name, f"option {name!r}"), f"option {name!r}", value)
    return raw


def _prom_keys(source: Mapping[str, object]) -> list[str]:
    return [key for key in source if isinstance(key, str) and key.startswith(PREFIX)]


def _check_known(fields: Mapping[str, Field[Any]], name: str, source: str) -> str:
    if name in fields:
        return name
    close = difflib.get_close_matches(name, fields, n=1)
    hint = f" (did you mean {PREFIX}{close[0].upper()}?)" if close else ""
    known = ", ".join(PREFIX + item.upper() for item in fields)
    raise ConfigError(f"{source} is not a setting of web-prom{hint}; the settings are {known}")


def check_value(setting: Field[Any], source: str, value: object) -> Any:
    """Return the checked value of a raw value.

    Raises:
        ConfigError: The value is not allowed. The message contains the value only if it is printable.
    """
    try:
        return setting.metadata["parse"](value)
    except ValueError as error:
        shown = repr(value) if setting.metadata["is_printable"](value) else "a value that is not shown"
        # The message of a ConfigError says itself what is allowed.
        separator = ":" if isinstance(error, ConfigError) else "; allowed:"
        raise ConfigError(f"{source} is {shown}{separator} {error}") from None
