"""Access control for scrapes: bearer token, basic authentication, networks, and a callable of the user."""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, NamedTuple

from web_prom.config.credentials import Secret, read_secret
from web_prom.config.networks import UNIX, Network
from web_prom.config.settings import Config
from web_prom.log_limit import LogLimit

logger = logging.getLogger("web_prom")


class Denial(NamedTuple):
    """The refusal of a scrape: the status line, and the headers that ask for credentials, if any."""

    status: str
    headers: tuple[tuple[str, str], ...] = ()


_FORBIDDEN = Denial("403 Forbidden")

# The gateways of Azure and IIS append the port of the client: 10.1.2.3:51234, [2001:db8::1]:51234.
_WITH_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}|\[([^\[\]]+)\](?::[0-9]{1,5})?")

# The peer of a UNIX socket is "localhost" with waitress and "unix:" with nginx. It is empty with gunicorn,
# uWSGI and ASGI servers.
_UNIX_PEER = re.compile(r"localhost|unix(:.*)?")


class AccessControl:
    """Decides whether a client may scrape.

    If networks or a callable are configured, each of them has to allow the scrape. If credentials are
    configured, one of the configured kinds has to be correct as well. Secrets in files are read at each
    scrape, so that a rotated secret is used at once. Safe to share between threads.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._failures = LogLimit()

    @property
    def is_open(self) -> bool:
        """Whether every client may scrape."""
        config = self._config
        return not (
            config.allowed_networks
            or config.allow_scrape is not None
            or config.bearer_token
            or config.bearer_token_file
            or config.basic_auth
            or config.basic_auth_file
        )

    @property
    def has_bearer_token(self) -> bool:
        """Whether a bearer token is configured."""
        return bool(self._config.bearer_token or self._config.bearer_token_file)

    def check(
        self, environ: Mapping[str, Any], has_session: Callable[[Secret], bool] = lambda _token: False
    ) -> Denial | None:
        """Return the refusal of a request with this WSGI environ, or None if it may scrape. Never raises.

        Args:
            environ: The request.
            has_session: Returns whether the request shows in another way that the client knows the bearer
                token.
        """
        try:
            return self._check(environ, has_session)
        except Exception as error:
            # Any client can cause this failure, any number of times, so it is logged once a minute.
            remark = self._failures.admit(type(error).__qualname__)
            if remark is not None:
                logger.exception("the access check of /metrics failed; the scrape is refused%s", remark)
            return _FORBIDDEN

    def sent_bearer_token(self, environ: Mapping[str, Any]) -> Secret | None:
        """Return the bearer token if a request with this WSGI environ has it and may scrape. Never raises."""
        found: list[Secret] = []
        try:
            bearer = _secret(self._config.bearer_token, self._config.bearer_token_file)
            if bearer is not None and sends_bearer_token(environ, bearer.matches):
                found += [bearer] if self._check(environ) is None else []
        except Exception:
            logger.debug("the bearer token cannot be checked", exc_info=True)
        return found[0] if found else None

    def _check(
        self, environ: Mapping[str, Any], has_session: Callable[[Secret], bool] = lambda _token: False
    ) -> Denial | None:
        config = self._config
        if config.allowed_networks and not self._in_networks(environ):
            return _FORBIDDEN
        if config.allow_scrape is not None and not _result(config.allow_scrape(environ)):
            return _FORBIDDEN
        bearer = _secret(config.bearer_token, config.bearer_token_file)
        basic = _secret(config.basic_auth, config.basic_auth_file)
        if bearer is None and basic is None:
            return None
        if bearer is not None and (sends_bearer_token(environ, bearer.matches) or has_session(bearer)):
            return None
        scheme, given = _authorization(environ)
        if basic is not None and scheme == "basic" and basic.matches(_decoded(given)):
            return None
        challenges = [("Bearer", bearer), ('Basic realm="metrics", charset="UTF-8"', basic)]
        asked = tuple(("WWW-Authenticate", text) for text, secret in challenges if secret is not None)
        return Denial("401 Unauthorized", asked)

    def _in_networks(self, environ: Mapping[str, Any]) -> bool:
        proxies = self._config.trusted_proxies
        peer = environ.get("REMOTE_ADDR") or UNIX
        address = _address(peer)
        forwarded = environ.get("HTTP_X_FORWARDED_FOR")
        if forwarded is not None and _is_proxy(peer, address, proxies):
            # Use the rightmost hop that is not a trusted proxy. Any client can have sent the hops before it.
            for hop in (item.strip(" \t") for item in reversed(forwarded.split(","))):
                address = _address(_without_port(hop))
                if not _is_proxy(hop, address, proxies):
                    break
        return address is not None and _is_in(address, self._config.allowed_networks)


def _result(answer: object) -> object:
    """Return what ``PROM_ALLOW_SCRAPE`` returned.

    Raises:
        TypeError: The result does not exist yet. Such an object is true, whatever its result will be.
    """
    if isinstance(answer, Awaitable | AsyncIterator | Iterator):
        if isinstance(answer, Coroutine):
            answer.close()  # or Python warns that it was never awaited
        raise TypeError(
            f"PROM_ALLOW_SCRAPE returned {answer!r}; allowed is a result, not an object that has it later"
        )
    return answer


def sends_bearer_token(environ: Mapping[str, Any], matches: Callable[[bytes], bool]) -> bool:
    """Return whether a request sends a bearer token that matches."""
    scheme, given = _authorization(environ)
    return scheme == "bearer" and matches(given.encode("latin-1", "replace"))


def _authorization(environ: Mapping[str, Any]) -> tuple[str, str]:
    """Return the scheme in small letters and the credentials that a request sends."""
    scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    # The text has a character for each byte. A byte of a letter in UTF-8 can be white space to str.strip().
    return scheme.lower(), given.strip(" \t")


def _without_port(text: str) -> str:
    found = _WITH_PORT.fullmatch(text)
    return (found[1] or found[2]) if found else text


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_proxy(
    text: str, address: IPv4Address | IPv6Address | None, proxies: tuple[Network | str, ...]
) -> bool:
    """Return whether a peer or a hop is a trusted proxy. The address is None if the text contains none."""
    if address is None:
        return _UNIX_PEER.fullmatch(text) is not None and UNIX in proxies
    return _is_in(address, (proxy for proxy in proxies if not isinstance(proxy, str)))


def _is_in(address: IPv4Address | IPv6Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _secret(value: Secret | None, path: Path | None) -> Secret | None:
    """Return a configured secret, which is read from its file if it has one.

    Raises:
        ValueError: The file is empty, which would allow every client.
    """
    if path is None:
        return value
    # Not in a local variable, which error reports would show.
    return Secret(read_secret(path) or _reject_empty(path))


def _reject_empty(path: Path) -> str:
    raise ValueError(f"the secret file {path} is empty")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
