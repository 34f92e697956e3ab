"""Addresses and networks in settings: their types and parsers.

Each parser raises ValueError with a text that says which values are allowed.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple

from web_prom.config.parsers import parse_items

Network = IPv4Network | IPv6Network

UNIX = "unix"
"""The value for a proxy that connects through a UNIX socket, because such a connection has no address."""

_EXAMPLES = "10.0.0.0/8, 127.0.0.1 or fd00::/8"


class Address(NamedTuple):
    """An address on which a server listens.

    Attributes:
        host: A name or an address; empty for all addresses of the machine.
        port: The port; 0 for any free port.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect to the address."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")


def parse_address(value: object) -> Address | None:
    """Accept ``host:port``, ``[IPv6]:port`` or ``:port``, or None."""
    if value is None or isinstance(value, Address):
        return value
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+(?:%\w+)?)\]|([^\s:/\[\]@]*)):([0-9]{1,5})", str(value))
    if not found or int(found[3]) > 65535:
        raise ValueError("host:port, [IPv6]:port, or :port for all addresses; port 0 is any free port")
    return Address(found[1] or found[2] or "", int(found[3]))


def parse_networks(value: object) -> tuple[Network, ...]:
    """Accept networks and single addresses."""
    if isinstance(value, str) and not parse_items(value):
        # An empty environment variable would allow all clients.
        raise ValueError(f"at least one network, for example {_EXAMPLES}")
    try:
        return tuple(_parse_network(item) for item in parse_items(value))
    except ValueError as error:
        raise ValueError(f"networks, for example {_EXAMPLES} ({error})") from None


def parse_proxies(value: object) -> tuple[Network | str, ...]:
    """Accept networks, single addresses, and ``unix`` for a proxy that connects through a UNIX socket."""
    if isinstance(value, str) and not parse_items(value):
        raise ValueError(
            "at least one network, for example 10.0.0.0/8 or 127.0.0.1, or unix for a UNIX socket"
        )
    items = parse_items(value)
    addresses = [item for item in items if item != UNIX]
    found = parse_networks(addresses) if addresses else ()
    return (*found, UNIX) if UNIX in items else found


def _parse_network(item: object) -> Network:
    network = ip_network(str(item))
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < 96:
        return network
    # Addresses are compared as IPv4, so the result is the same for a socket that serves both versions.
    return IPv4Network((mapped, network.prefixlen - 96))
