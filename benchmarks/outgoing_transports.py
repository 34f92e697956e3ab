"""Clients that answer in memory, with and without the replaced methods of web-prom."""

from __future__ import annotations

from typing import Any

import httpx
import requests
import urllib3

# Kept before web-prom replaces them: a class that has them is never measured.
_ORIGINALS = {
    "_make_request": urllib3.HTTPConnectionPool._make_request,
    "_get_conn": urllib3.HTTPConnectionPool._get_conn,
}
_GET_ADAPTER = requests.Session.get_adapter
_SEND = httpx.Client._send_single_request


class _Response:
    """What a connection returns."""

    status, version_string, length_remaining, reason = 200, "HTTP/1.1", 0, "OK"
    headers: dict[str, str] = {}  # noqa: RUF012
    retries = _connection = _pool = _original_response = None

    def get_redirect_location(self) -> bool:
        """Return that there is no redirect."""
        return False

    def stream(self, *_: Any, **__: Any) -> Any:
        """Return an empty body."""
        return iter(())

    def release_conn(self) -> None:
        """Do nothing."""


class _Connection:
    """A connection without a network."""

    is_closed, is_verified, proxy, timeout, proxy_is_verified = False, True, None, None, None
    is_connected = True

    def request(self, *_: Any, **__: Any) -> None:
        """Send nothing."""

    def getresponse(self) -> _Response:
        """Return the response."""
        return _Response()

    def close(self) -> None:
        """Do nothing."""


class Pool(urllib3.HTTPConnectionPool):
    """A connection pool without a network."""

    def _new_conn(self) -> Any:
        return _Connection()


class UnmeasuredPool(Pool):
    """The same, with the methods that urllib3 has itself."""

    _make_request = _ORIGINALS["_make_request"]
    _get_conn = _ORIGINALS["_get_conn"]


class UnmeasuredSession(requests.Session):
    """A session with the methods that requests has itself."""

    get_adapter = _GET_ADAPTER


class UnmeasuredClient(httpx.Client):  # type: ignore[misc]
    """A client with the methods that httpx has itself."""

    _send_single_request = _SEND


def session(*, measured: bool) -> requests.Session:
    """Return a session without a network."""
    found = requests.Session() if measured else UnmeasuredSession()
    pools = {"http": Pool if measured else UnmeasuredPool}
    found.adapters["http://"].poolmanager.pool_classes_by_scheme = pools  # type: ignore[attr-defined]
    return found


def client(*, measured: bool) -> httpx.Client:
    """Return a client without a network."""
    transport = httpx.MockTransport(lambda request: httpx.Response(200))
    return (httpx.Client if measured else UnmeasuredClient)(transport=transport)
