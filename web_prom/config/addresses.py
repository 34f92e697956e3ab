"""Addresses to listen at, in settings.

This module imports few others, because a process that only listens needs nothing else of the settings.
"""

from __future__ import annotations

import re
from typing import NamedTuple


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
    """Accept ``host:port``, ``[IPv6]:port`` or ``:port``, or None.

    Raises:
        ValueError: The value is none of these. The text says which values are allowed.
    """
    if value is None or isinstance(value, Address):
        return value
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+(?:%\w+)?)\]|([^\s:/\[\]@]*)):([0-9]{1,5})", str(value))
    if not found or int(found[3]) > 65535:
        raise ValueError("host:port, [IPv6]:port, or :port for all addresses; port 0 is any free port")
    return Address(found[1] or found[2] or "", int(found[3]))
