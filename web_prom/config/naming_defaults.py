"""Defaults of settings that depend on the naming."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from web_prom.metrics.conventions import Naming


def naming_defaults(naming: Naming, checked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a user has set, and the defaults of the naming for the others.

    A constant label of the naming stays if the user sets other constant labels.

    Args:
        naming: The naming.
        checked: The checked values of the settings that a user has set, by field name.
    """
    values = {"duration_buckets": naming.duration_buckets, **naming.defaults, **checked}
    labels = naming.defaults.get("constant_labels")
    if labels and "constant_labels" in checked:
        values["constant_labels"] = {**labels, **checked["constant_labels"]}  # type: ignore[dict-item]
    return values
