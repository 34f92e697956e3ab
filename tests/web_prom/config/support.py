"""Functions that load a configuration."""

from __future__ import annotations

from typing import Any

from web_prom.config import PREFIX, Config


def load(**options: Any) -> Config:
    """Return the configuration of these options."""
    return Config.load(options)


def load_from(source: str, name: str, value: Any) -> Config:
    """Return the configuration of one setting from a source."""
    if source == "options":
        return Config.load({name: value})
    return Config.load(**{source: {PREFIX + name.upper(): value}})
