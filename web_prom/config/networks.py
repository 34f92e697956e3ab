"""Networks in settings: their type and parsers.

Each parser raises ValueError with a text that says which values are allowed.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

from web_prom.config.parsers import parse_items

Network = IPv4Network | IPv6Network

UNIX = "unix"
"""The value for a proxy that connects through a UNIX socket, because such a connection has no address."""

_EXAMPLES = "10.0.0.0/8, 127.0.0.1 or fd00::/8"


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
