"""Settings: their sources, checks that concern several of them, and messages."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import pytest

from tests.web_prom.config.support import load, load_from
from web_prom.config import DEFAULT_DURATION_BUCKETS, DEFAULT_SIZE_BUCKETS, FIELDS, Config
from web_prom.errors import ConfigError, WebPromError


def label(_request: Any, _response: Any) -> str:
    """Return the value of an extra label."""
    return "x"


# Sources ---------------------------------------------------------------------------------------------


def test_load_prefers_options_to_settings_and_settings_to_environment() -> None:
    environ = {"PROM_NAMESPACE": "e", "PROM_PATH": "/e", "PROM_MAX_LABEL_SETS": "7"}
    settings = {"PROM_NAMESPACE": "s", "PROM_PATH": "/s"}
    config = Config.load({"namespace": "o"}, settings=settings, environ=environ)
    assert (config.namespace, config.path, config.max_label_sets) == ("o", "/s", 7)


def test_load_without_sources_returns_the_defaults() -> None:
    assert Config.load() == Config() == Config.load({}, settings={}, environ={})
    assert Config().duration_buckets == DEFAULT_DURATION_BUCKETS
    assert Config().size_buckets == DEFAULT_SIZE_BUCKETS


def test_defaults_are_valid_values() -> None:
    for name, item in FIELDS.items():
        default = getattr(Config(), name)
        assert item.metadata["parse"](default) == default, name
        assert item.metadata["meaning"].endswith("."), name


def test_default_buckets_are_those_of_the_documentation() -> None:
    assert DEFAULT_DURATION_BUCKETS == (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


def test_load_prefers_a_false_option_to_a_true_setting() -> None:
    assert not Config.load({"enabled": False}, settings={"PROM_ENABLED": True}).enabled


def test_load_ignores_invalid_values_of_a_source_that_is_not_used() -> None:
    assert Config.load({"path": "/o"}, environ={"PROM_PATH": "nonsense"}).path == "/o"


def test_load_ignores_keys_without_the_prefix() -> None:
    assert Config.load(settings={"DEBUG": 1, 7: 8, "PROMISE": 1}, environ={"PROMETHEUS_X": "1"}) == Config()  # type: ignore[dict-item]


@pytest.mark.parametrize("source", ["options", "settings"])
def test_load_rejects_an_unknown_key_with_a_suggestion(source: str) -> None:
    with pytest.raises(ConfigError, match="DURATION_BUCKETS") as raised:
        load_from(source, "duration_bucket", (1,))
    message = str(raised.value)
    assert "duration_bucket" in message.lower()
    assert "did you mean" in message
    assert "PROM_MAX_LABEL_SETS" in message, "all settings are listed"


def test_load_rejects_an_unknown_key_without_a_suggestion() -> None:
    with pytest.raises(ConfigError) as raised:
        Config.load(settings={"PROM_XYZZY": 1})
    assert "did you mean" not in str(raised.value)


def test_load_warns_of_an_unknown_key_in_the_environment(caplog: pytest.LogCaptureFixture) -> None:
    """Kubernetes sets PROM_PORT for a service with the name prom."""
    with caplog.at_level(logging.WARNING, "web_prom"):
        config = Config.load(environ={"PROM_PORT": "tcp://10.0.0.1:9090", "PROM_PATH": "/m"})
    assert config.path == "/m"
    (record,) = caplog.records
    assert "PROM_PORT" in record.getMessage()
    assert "10.0.0.1" not in record.getMessage()


def test_config_error_is_a_value_error() -> None:
    assert issubclass(ConfigError, ValueError)
    assert issubclass(ConfigError, WebPromError)


@pytest.mark.parametrize("key", ["PROM_MAX_LABEL_SETS", "PROM_DURATION_BUCKETS", "PROM_ALLOWED_NETWORKS"])
def test_load_rejects_an_empty_environment_variable(key: str) -> None:
    """An empty variable must not allow all clients to scrape."""
    with pytest.raises(ConfigError, match=key):
        Config.load(environ={key: ""})


def test_config_error_names_the_reserved_label() -> None:
    with pytest.raises(ConfigError, match=r"'le' is reserved, .*quantile"):
        load(constant_labels={"le": "x"})


def test_config_error_contains_the_import_error() -> None:
    with pytest.raises(ConfigError, match=r"dotted path.*no_such_module") as raised:
        load(allow_scrape="no_such_module.f")
    assert "allowed: a callable" in str(raised.value)
    with pytest.raises(ConfigError, match=r"\(module 'logging' has no attribute 'no_such_name'\)"):
        load(allow_scrape="logging.no_such_name")


def test_load_rejects_a_label_that_is_constant_and_extra() -> None:
    with pytest.raises(ConfigError, match=r"'site'.*PROM_CONSTANT_LABELS.*PROM_EXTRA_LABELS"):
        load(constant_labels={"site": "a"}, extra_labels={"site": label})


# Settings of the exporter --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["keyfile", "client_cafile"])
def test_load_requires_a_certificate_with_a_key_or_client_ca(name: str) -> None:
    """Without TLS no client certificate would be required."""
    with pytest.raises(ConfigError, match="PROM_CERTFILE"):
        Config.load({name: "x.pem"})


def test_parse_file_rejects_values_that_are_no_path() -> None:
    for value in ("", 7):
        with pytest.raises(ConfigError, match="path of a file"):
            Config.load({"certfile": value})


def test_fault_20_load_warns_that_bind_in_the_application_settings_has_no_effect(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The server reads the address before it loads the application."""
    Config.load(settings={"PROM_BIND": ":9464"}, environ={"PROM_BIND": ":9464"})
    assert caplog.records == []
    Config.load(settings={"PROM_BIND": ":9464"}, environ={})
    assert [(record.levelno, "PROM_BIND" in record.message) for record in caplog.records] == [
        (logging.WARNING, True)
    ]


# Immutability ----------------------------------------------------------------------------------------


def test_config_is_immutable_and_copies_its_values() -> None:
    labels, buckets = {"site": "a"}, [1.0, 2.0]
    config = load(constant_labels=labels, duration_buckets=buckets)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.path = "/x"  # type: ignore[misc]
    labels["site"] = "b"
    buckets.append(3.0)
    assert config.constant_labels == {"site": "a"}
    assert config.duration_buckets == (1.0, 2.0)
    assert Config().constant_labels is not Config().constant_labels


def test_configs_with_equal_values_are_equal() -> None:
    assert load(path="/a", duration_buckets="1,2") == load(path="/a", duration_buckets=[1, 2])
    assert load(path="/a") != load(path="/b")
