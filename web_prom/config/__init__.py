"""Settings: their names, defaults, parsers and sources.

The names below are imported when they are used for the first time. A process that only needs an address
imports no other settings.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from web_prom.config.raw_values import PREFIX
    from web_prom.config.settings import DEFAULT_DURATION_BUCKETS, FIELDS, Config
    from web_prom.metrics.conventions import DEFAULT_SIZE_BUCKETS

__all__ = ["DEFAULT_DURATION_BUCKETS", "DEFAULT_SIZE_BUCKETS", "FIELDS", "PREFIX", "Config"]

_MODULES = {
    "Config": "config.settings",
    "DEFAULT_DURATION_BUCKETS": "config.settings",
    "DEFAULT_SIZE_BUCKETS": "metrics.conventions",
    "FIELDS": "config.settings",
    "PREFIX": "config.raw_values",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"web_prom.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
