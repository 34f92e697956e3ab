"""Label values of outgoing requests, by OpenTelemetry's rules for HTTP clients.

https://opentelemetry.io/docs/specs/semconv/http/http-metrics/#http-client
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from web_prom.metrics.labels import EMPTY, OTHER, STATUS_TEXTS

# What a host name, an IPv4 or an IPv6 address (with its zone) consists of, after lower() and IDNA.
_HOST = re.compile(r"[a-z0-9_.:-]+(?:%[a-z0-9_.-]+)?")
_LONGEST_HOST = 253  # RFC 1035


def address_label(host: object) -> str:
    """Return the label value of a server's host: ``server.address``, without the port.

    Names are in lower case, in ASCII (IDNA) and without the dot at the end. IPv6 addresses are compressed
    and without brackets. The value has no part of the URL but the host: no credentials, no path.

    Args:
        host: The host as a library has it, as text or bytes. Anything that is no host name and no address is
            ``_OTHER``, for example the path of a socket. None and an empty host are empty.
    """
    if not host:
        return EMPTY
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    text = text.strip("[]").rstrip(".").lower()
    if not text.isascii():
        try:
            text = text.encode("idna").decode("ascii")
        except UnicodeError:
            return OTHER
    if len(text) > _LONGEST_HOST or not _HOST.fullmatch(text):
        return OTHER
    if ":" not in text:
        return OTHER if "%" in text else text
    try:
        return ip_address(text).compressed
    except ValueError:
        return OTHER


def host_of(url: Any) -> str:
    """Return the host of a URL, or an empty string if it has none. Never raises."""
    try:
        text = url.decode("utf-8", "replace") if isinstance(url, bytes) else str(url)
        return urlsplit(text).hostname or EMPTY
    except Exception:
        return EMPTY


def outcome_labels(outcome: object) -> tuple[str, str]:
    """Return the label values of the status and of the error.

    A response has its status. From 400 on, its error is the status too. A request without a response has no
    status, and its error is the name of the exception.

    Args:
        outcome: The status of the response as an integer, or the name of an exception as text.
    """
    if isinstance(outcome, str):
        return EMPTY, outcome
    if not isinstance(outcome, int):
        return OTHER, EMPTY
    status = STATUS_TEXTS.get(outcome, OTHER)
    return status, status if outcome >= 400 else EMPTY
