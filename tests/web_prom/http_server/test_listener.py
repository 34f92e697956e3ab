"""Listening sockets."""

from __future__ import annotations

import socket

import pytest

from web_prom.config.addresses import Address
from web_prom.errors import ListenError
from web_prom.http_server.listener import address_of, listen


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", ""])
def test_listen_opens_the_address(host: str) -> None:
    with listen(Address(host, 0)) as listener:
        assert not listener.get_inheritable()
        with socket.create_connection(("127.0.0.1", address_of(listener).port), 5):
            pass


def test_listen_rejects_a_used_port() -> None:
    """With a shared port, two deployments would each get half of the scrapes."""
    told = r"cannot listen at 127\.0\.0\.1:\d+ \(Address already in use\)"
    with listen(Address("127.0.0.1", 0)) as listener, pytest.raises(ListenError, match=told):
        listen(address_of(listener))


def test_listen_rejects_an_unknown_host() -> None:
    with pytest.raises(ListenError, match=r"cannot listen at no-such-host\.invalid:80"):
        listen(Address("no-such-host.invalid", 80))
