"""Where the exporter listens, and what is said to addresses and files that cannot be."""

from __future__ import annotations

import logging
import socket
from typing import Any

import pytest

from web_prom.config import Config
from web_prom.config.addresses import Address
from web_prom.errors import ConfigError, ListenError
from web_prom.http_server.listener import address_of, listen


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
def test_an_address_is_read_and_written_alike(text: str, host: str, port: int) -> None:
    bind = Config.load(environ={"PROM_BIND": text}).bind
    assert bind == Address(host, port)
    assert str(bind) == text


@pytest.mark.parametrize(
    "value",
    ["", "9464", "127.0.0.1", "localhost:", "::1:9464", "a b:1", ":65536", "http://x:1", "x:-1", "x:1/", 80],
)
def test_what_is_no_address_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="host:port"):
        Config.load({"bind": value})


@pytest.mark.parametrize("name", ["keyfile", "client_cafile"])
def test_tls_needs_a_certificate(name: str) -> None:
    """A client's certificate that is asked for without TLS would be asked of nobody."""
    with pytest.raises(ConfigError, match="PROM_CERTFILE"):
        Config.load({name: "x.pem"})


def test_a_file_is_named_by_its_path() -> None:
    for value in ("", 7):
        with pytest.raises(ConfigError, match="path of a file"):
            Config.load({"certfile": value})


def test_fault_20_an_application_is_told_that_its_settings_open_no_port(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The server reads the address before there is an application."""
    Config.load(settings={"PROM_BIND": ":9464"}, environ={"PROM_BIND": ":9464"})
    assert caplog.records == []
    Config.load(settings={"PROM_BIND": ":9464"}, environ={})
    assert [(record.levelno, "PROM_BIND" in record.message) for record in caplog.records] == [
        (logging.WARNING, True)
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", ""])
def test_it_listens_where_it_is_told(host: str) -> None:
    with listen(Address(host, 0)) as listener:
        assert not listener.get_inheritable()
        with socket.create_connection(("127.0.0.1", address_of(listener).port), 5):
            pass


def test_a_port_is_never_shared() -> None:
    """Two deployments with one port by mistake would each answer every second scrape."""
    told = r"cannot listen at 127\.0\.0\.1:\d+ \(Address already in use\)"
    with listen(Address("127.0.0.1", 0)) as listener, pytest.raises(ListenError, match=told):
        listen(address_of(listener))


def test_a_host_that_is_unknown_is_told() -> None:
    with pytest.raises(ListenError, match=r"cannot listen at no-such-host\.invalid:80"):
        listen(Address("no-such-host.invalid", 80))
