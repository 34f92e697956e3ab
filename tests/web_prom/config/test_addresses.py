"""Addresses in settings."""

from __future__ import annotations

from typing import Any

import pytest

from web_prom.config import Config
from web_prom.config.addresses import Address
from web_prom.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9464", "127.0.0.1", 9464),
        ("localhost:9464", "localhost", 9464),
        ("metrics.internal:80", "metrics.internal", 80),
        (":9464", "", 9464),
        ("[::1]:9464", "::1", 9464),
        ("[fe80::1%eth0]:9464", "fe80::1%eth0", 9464),
        ("127.0.0.1:0", "127.0.0.1", 0),
    ],
)
def test_address_is_parsed_and_formatted(text: str, host: str, port: int) -> None:
    bind = Config.load(environ={"PROM_BIND": text}).bind
    assert bind == Address(host, port)
    assert str(bind) == text


@pytest.mark.parametrize(
    "value",
    ["", "9464", "127.0.0.1", "localhost:", "::1:9464", "a b:1", ":65536", "http://x:1", "x:-1", "x:1/", 80],
)
def test_parse_address_rejects_invalid_values(value: Any) -> None:
    with pytest.raises(ConfigError, match="host:port"):
        Config.load({"bind": value})
