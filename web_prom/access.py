"""Who may scrape: bearer token, basic authentication, networks, and a callable of the user's own."""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, NamedTuple

from web_prom.config import Config
from web_prom.parsing import Network

logger = logging.getLogger("web_prom")


class Denial(NamedTuple):
    """Why a scrape is refused: the status line and the header that asks for credentials, if one does."""

    status: str
    headers: tuple[tuple[str, str], ...] = ()


_FORBIDDEN = Denial("403 Forbidden")


class AccessControl:
    """Decides whether a scrape may go on.

    Networks and the callable must each agree where they are configured, and then one of the
    configured kinds of credentials must be right. Secrets in files are read at each scrape, so that a
    rotated secret counts at once. Safe to share between threads; has no state.
    """

    def __init__(self, config: Config) -> None:
        self._config = config

    @property
    def is_open(self) -> bool:
        """Whether anybody may scrape."""
        config = self._config
        return not (
            config.allowed_networks
            or config.allow_scrape
            or config.bearer_token
            or config.bearer_token_file
            or config.basic_auth
            or config.basic_auth_file
        )

    def check(self, environ: Mapping[str, Any]) -> Denial | None:
        """Return why this WSGI environ may not scrape, or None if it may. Never raises."""
        try:
            return self._check(environ)
        except Exception:
            logger.exception("the access check of /metrics failed; the scrape is refused")
            return _FORBIDDEN

    def _check(self, environ: Mapping[str, Any]) -> Denial | None:
        config = self._config
        if config.allowed_networks and not self._in_networks(environ):
            return _FORBIDDEN
        if config.allow_scrape and not config.allow_scrape(environ):
            return _FORBIDDEN
        bearer = _secret(config.bearer_token, config.bearer_token_file)
        basic = _secret(config.basic_auth, config.basic_auth_file)
        if bearer is None and basic is None:
            return None
        scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        given = given.strip()
        if (
            bearer is not None
            and scheme.lower() == "bearer"
            and _equal(given.encode("latin-1", "replace"), bearer)
        ):
            return None
        if basic is not None and scheme.lower() == "basic" and _equal(_decoded(given), basic):
            return None
        challenges = [("Bearer", bearer), ('Basic realm="metrics", charset="UTF-8"', basic)]
        asked = tuple(("WWW-Authenticate", text) for text, secret in challenges if secret is not None)
        return Denial("401 Unauthorized", asked)

    def _in_networks(self, environ: Mapping[str, Any]) -> bool:
        address = _address(environ.get("REMOTE_ADDR", ""))
        forwarded = environ.get("HTTP_X_FORWARDED_FOR")
        if address is not None and forwarded is not None and _is_in(address, self._config.trusted_proxies):
            # The rightmost hop that is no proxy of ours: what stands before it, anybody may have written.
            for hop in reversed(forwarded.split(",")):
                address = _address(hop)
                if address is None or not _is_in(address, self._config.trusted_proxies):
                    break
        return address is not None and _is_in(address, self._config.allowed_networks)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.strip().partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_in(address: IPv4Address | IPv6Address, networks: tuple[Network, ...]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _secret(value: str | None, path: Path | None) -> bytes | None:
    if path is not None:
        # An empty file would let anybody in.
        return path.read_bytes().strip() or _refuse(path)
    return None if value is None else value.strip().encode()


def _refuse(path: Path) -> bytes:
    raise ValueError(f"the secret file {path} is empty")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _equal(given: bytes, secret: bytes) -> bool:
    return hmac.compare_digest(given, secret)
