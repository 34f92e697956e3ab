"""Who may see the live page: those who may scrape, and everybody only while an application is debugged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from web_prom.exposition.access_control import AccessControl, sends_bearer_token
from web_prom.exposition.http import Header, Response, text_response
from web_prom.live.session import OneTimeToken, has_session, make_cookie

_CLOSED = """\
The live page is closed: everybody who reaches this service could read its numbers.

Set PROM_BASIC_AUTH_FILE, PROM_BEARER_TOKEN_FILE, PROM_ALLOWED_NETWORKS or PROM_ALLOW_SCRAPE.
The page then asks for the same as the metrics. In debug mode of Flask and Django it is open.
"""
_REFUSED = "this client may not see the live page: it may not scrape the metrics either\n"
_USED = "this address was used before; start the command again for a new one\n"


class Refusal(NamedTuple):
    """Why a client may not see the page.

    Attributes:
        response: What it gets.
        may_sign_in: Whether it may give a token. Then it gets the page that asks for it.
    """

    response: Response
    may_sign_in: bool = False


class Access(Protocol):
    """Decides who may see the live page."""

    def refusal_for(self, environ: Mapping[str, Any]) -> Refusal | None:
        """Return why a client may not see the page; None if it may."""

    def sign_in(self, environ: Mapping[str, Any]) -> list[Header] | None:
        """Return the headers that begin a session of a client that gave the token; None if it did not."""


class ScrapeAccess:
    """The access of the metrics: basic authentication, bearer token, networks, a callable of the user.

    Without any of them the page is closed, unless the application is debugged. Safe to share between threads.

    Args:
        control: The access control of the metrics.
        is_public: Returns whether everybody may see the page if everybody may scrape.
    """

    def __init__(self, control: AccessControl, is_public: Callable[[], bool] = lambda: False) -> None:
        self._control = control
        self._is_public = is_public

    def refusal_for(self, environ: Mapping[str, Any]) -> Refusal | None:
        """Return why a client may not see the page; None if it may."""
        if self._control.is_open:
            return None if self._is_public() else Refusal(text_response("403 Forbidden", _CLOSED))
        denial = self._control.check(environ, has_session=lambda secret: has_session(secret, environ))
        if denial is None:
            return None
        may_sign_in = denial.status.startswith("401") and self._control.has_bearer_token
        return Refusal(text_response(denial.status, _REFUSED, denial.headers), may_sign_in)

    def sign_in(self, environ: Mapping[str, Any]) -> list[Header] | None:
        """Return the headers that begin a session of a client that sent the bearer token."""
        secret = self._control.sent_bearer_token(environ)
        return None if secret is None else [("Set-Cookie", make_cookie(secret, environ))]


class OneTimeAccess:
    """Access for the first browser that opens the address with a one-time token.

    Args:
        token: The token.
    """

    def __init__(self, token: OneTimeToken) -> None:
        self._token = token

    def refusal_for(self, environ: Mapping[str, Any]) -> Refusal | None:
        """Return why a client may not see the page; None if it may."""
        if has_session(self._token.session_secret, environ):
            return None
        challenge = ("WWW-Authenticate", "Bearer")
        return Refusal(text_response("401 Unauthorized", _USED, [challenge]), may_sign_in=True)

    def sign_in(self, environ: Mapping[str, Any]) -> list[Header] | None:
        """Return the headers that begin the session, to the first client that gives the token."""
        if not sends_bearer_token(environ, self._token.use):
            return None
        return [("Set-Cookie", make_cookie(self._token.session_secret, environ))]
