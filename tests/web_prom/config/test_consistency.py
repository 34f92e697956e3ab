"""Settings that are allowed each, but not together."""

from __future__ import annotations

import pytest

from django_prom import migration_state, model_changes
from web_prom.cache import conventions as cache
from web_prom.config import Config
from web_prom.database import conventions as database
from web_prom.errors import ConfigError
from web_prom.http_client import conventions as http_client
from web_prom.metrics import conventions
from web_prom.metrics.conventions import SETTING_LABELS, MetricSpec
from web_prom.templates import render_times

ON = {"models": ("shop.Order",)}
"""What switches a setting on, if it is not True."""


@pytest.mark.parametrize(
    ("field", "label"),
    [(field, label) for field in SETTING_LABELS for label in sorted(SETTING_LABELS[field])],
)
def test_constant_label_with_the_name_of_a_switched_on_label_is_refused(field: str, label: str) -> None:
    """Otherwise the constant replaces the label, and a scrape has the same series twice."""
    with pytest.raises(ConfigError, match=f"'{label}'.* (use another name|reserved)"):
        Config.load({field: ON.get(field, True), "constant_labels": {label: "a"}})


def test_constant_label_is_allowed_while_the_setting_is_off() -> None:
    assert Config.load({"constant_labels": {"cache": "a"}}).constant_labels == {"cache": "a"}


@pytest.mark.parametrize("label", ["alias", "vendor", "backend", "model", "connection"])
def test_constant_label_with_the_name_of_a_translated_label_is_refused(label: str) -> None:
    naming = {"naming": "django-prometheus", "constant_labels": {label: "a"}}
    Config.load(naming)
    with pytest.raises(ConfigError, match=f"'{label}' .* PROM_NAMING is 'django-prometheus'"):
        Config.load({**naming, "cache": True})


@pytest.mark.parametrize(
    ("field", "modules"),
    [
        ("database", [database]),
        ("cache", [cache]),
        ("http_client", [http_client]),
        ("models", [model_changes]),
        ("migrations", [migration_state]),
        ("templates", [render_times]),
    ],
)
def test_setting_labels_are_those_of_the_families(field: str, modules: list[object]) -> None:
    specs = [each for module in modules for each in vars(module).values() if isinstance(each, MetricSpec)]
    if field == "database":
        specs += [conventions.DB_QUERIES, conventions.DB_SECONDS, conventions.DB_REPEATED_QUERIES]
    assert {label for spec in specs for label in spec.labels} == SETTING_LABELS[field]
