"""Checks of settings that exclude each other."""

from __future__ import annotations

from typing import Any

from web_prom.config.raw_values import PREFIX
from web_prom.errors import ConfigError
from web_prom.metrics.conventions import NAMINGS, SETTING_LABELS


def check_together(config: Any) -> None:
    """Check settings that are allowed each, but not together.

    Args:
        config: A :class:`web_prom.config.settings.Config`.

    Raises:
        ConfigError: Two settings exclude each other.
    """
    _check_labels(config)
    if config.status_classes and NAMINGS[config.naming].has_numeric_status:
        raise ConfigError(
            f"PROM_STATUS_CLASSES is on and PROM_NAMING is {config.naming!r}, in which the status must be "
            "a number; switch PROM_STATUS_CLASSES off, and compute the classes in a query or a "
            "recording rule"
        )
    _check_addresses(config)


def _check_labels(config: Any) -> None:
    both = config.constant_labels.keys() & config.extra_labels.keys()
    if both:
        raise ConfigError(
            f"label {sorted(both)[0]!r} is in PROM_CONSTANT_LABELS and in PROM_EXTRA_LABELS; "
            "keep it in one of them"
        )
    naming = NAMINGS[config.naming]
    switched_on = [field for field in SETTING_LABELS if getattr(config, field)]
    own = naming.labels | (naming.translated_labels if switched_on else frozenset())
    for label in (*config.constant_labels, *config.extra_labels):
        if label in own:
            raise ConfigError(
                f"label {label!r} is a label of web-prom's own metrics if PROM_NAMING is "
                f"{config.naming!r}; use another name"
            )
    for label in config.constant_labels:
        for field in switched_on:
            if label in SETTING_LABELS[field]:
                setting = PREFIX + field.upper()
                raise ConfigError(
                    f"label {label!r} in PROM_CONSTANT_LABELS is a label of the metrics of {setting}; "
                    f"use another name, or switch {setting} off"
                )


def _check_addresses(config: Any) -> None:
    if config.live and config.live_path.rstrip("/") == config.path.rstrip("/"):
        raise ConfigError("PROM_LIVE_PATH and PROM_PATH are the same; use two paths")
    for name in ("bearer_token", "basic_auth"):
        if getattr(config, name) and getattr(config, f"{name}_file"):
            key = PREFIX + name.upper()
            raise ConfigError(f"{key} and {key}_FILE are both set; keep one of them")
    for name in ("keyfile", "client_cafile"):
        if getattr(config, name) and not config.certfile:
            key = PREFIX + name.upper()
            raise ConfigError(f"{key} is set and PROM_CERTFILE is not; set both or neither")
