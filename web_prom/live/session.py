"""Sessions of browsers: a cookie in the place of the bearer token, which a browser cannot send by itself."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Mapping
from threading import Lock
from typing import Any

from web_prom.config.credentials import Secret

SESSION_SECONDS = 12 * 3600
"""How long a browser may read the page without the token."""

_COOKIE = "web_prom_live_"
_NAME_PURPOSE = "web-prom live cookie of "
_PURPOSE = "web-prom live page until "


def make_cookie(secret: Secret, environ: Mapping[str, Any]) -> str:
    """Return the value of the header ``Set-Cookie`` that begins a session.

    The cookie holds the time of its end and a signature with the secret, so each worker can check it, and a
    new secret ends it. It has no path: a browser then sends it to the folder of the address that set it,
    which is that of the page also behind a proxy. No script can read it, and no other site can make a browser
    send it.

    Its name depends on the secret, because the ports of a host share cookies: another page would replace it.
    The name also depends on the scheme: a page without TLS cannot replace a cookie that is ``Secure``.

    Args:
        secret: What the client has to know.
        environ: The request that showed the secret.
    """
    end = int(time.time()) + SESSION_SECONDS
    secure = "; Secure" if environ.get("wsgi.url_scheme") == "https" else ""
    name = _COOKIE + _sign(secret, _NAME_PURPOSE + secure)[:12]
    value = f"{end}.{_sign(secret, f'{_PURPOSE}{end}')}"
    return f"{name}={value}; Max-Age={SESSION_SECONDS}; HttpOnly; SameSite=Strict{secure}"


def has_session(secret: Secret, environ: Mapping[str, Any]) -> bool:
    """Return whether a request has a cookie of a session that has not ended. Never raises."""
    # Not SimpleCookie, which reads no cookie if another one of the host has an unusual name or value. A WSGI
    # server joins repeated headers with commas.
    cookies = (part.partition("=") for part in re.split("[;,]", environ.get("HTTP_COOKIE", "")))
    return any(
        name.strip(" \t").startswith(_COOKIE) and _verifies(secret, value.strip(" \t"))
        for name, _, value in cookies
    )


def _verifies(secret: Secret, value: str) -> bool:
    end, _, signature = value.partition(".")
    if not (end.isascii() and end.isdigit() and len(end) <= 12) or not signature.isascii():
        return False
    if not time.time() < int(end) <= time.time() + SESSION_SECONDS:
        return False
    return hmac.compare_digest(signature, _sign(secret, f"{_PURPOSE}{int(end)}"))


class OneTimeToken:
    """A random token that begins one session, and no second one. Safe to share between threads.

    Attributes:
        text: The token, for the address that is printed.
        session_secret: Signs the cookie. It is another random secret, and never leaves the process.
    """

    def __init__(self) -> None:
        self.text = secrets.token_urlsafe(32)
        self.session_secret = Secret(secrets.token_hex(32))
        self._unused: Secret | None = Secret(self.text)
        self._lock = Lock()

    def use(self, given: bytes) -> bool:
        """Return whether a client gave the token, for the first time."""
        with self._lock:
            if self._unused is None or not self._unused.matches(given):
                return False
            self._unused = None
            return True

    def __repr__(self) -> str:
        return "OneTimeToken('***')"


def _sign(secret: Secret, text: str) -> str:
    key = secret.reveal().strip().encode("utf-8", "surrogateescape")
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
