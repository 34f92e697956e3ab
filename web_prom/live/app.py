"""The live page's answers to HTTP requests, as plain values for any framework."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Mapping
from typing import Any

from web_prom.errors import SnapshotError
from web_prom.exposition.http import Header, Response, text_response
from web_prom.exposition.negotiation import accepts_gzip
from web_prom.live.access import Access, Refusal
from web_prom.live.assets import Asset, assets, assets_hash, page, sign_in_page
from web_prom.live.source import SnapshotSource
from web_prom.live.text_samples import TextFormatError

logger = logging.getLogger("web_prom")

_SECURITY_HEADERS: list[Header] = [
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]
_NOT_STORED: Header = ("Cache-Control", "no-store")
_KEPT: Header = ("Cache-Control", "public, max-age=31536000, immutable")
_ALLOW: Header = ("Allow", "GET, HEAD")
_JSON = "application/json; charset=utf-8"
_MIN_COMPRESSED_BYTES = 1000


class LiveApp:
    """Answers the requests of the live page: the page, its files, the snapshot and the history.

    All addresses in the page are relative, so it works below any prefix and behind a proxy. Safe to share
    between threads.

    Args:
        source: Takes the snapshots.
        access: Decides who may see the page.
    """

    def __init__(self, source: SnapshotSource, access: Access) -> None:
        self.source = source
        self._access = access

    def respond(self, environ: Mapping[str, Any], path: str | None = None) -> Response:
        """Answer a request. Never raises.

        Args:
            environ: The WSGI environ, or the same members of another request.
            path: The path below the page's own address: ``/`` for the page, an empty string for its address
                without a slash at its end. By default ``PATH_INFO``.
        """
        path = environ.get("PATH_INFO", "") if path is None else path
        try:
            response = self._checked(environ, path)
        except (SnapshotError, TextFormatError) as error:
            response = text_response("502 Bad Gateway", f"{error}\n")
        except Exception as error:
            logger.exception("the live page cannot be shown")
            response = text_response("500 Internal Server Error", f"no snapshot: {type(error).__name__}\n")
        status, headers, body = response
        if not any(name == _NOT_STORED[0] for name, _ in headers):
            headers = [*headers, _NOT_STORED]
        body = b"" if environ.get("REQUEST_METHOD") == "HEAD" else body
        return Response(status, [*headers, *_SECURITY_HEADERS], body)

    def _checked(self, environ: Mapping[str, Any], path: str) -> Response:
        if environ.get("REQUEST_METHOD", "GET") not in ("GET", "HEAD"):
            return text_response("405 Method Not Allowed", "use GET\n", [_ALLOW])
        if path == "/session":
            return self._sign_in(environ)
        refusal = self._access.refusal_for(environ)
        if refusal is None or (refusal.may_sign_in and _is_public(path)):
            return self._answer(environ, path)
        return _refused(refusal, environ, path)

    def _sign_in(self, environ: Mapping[str, Any]) -> Response:
        """Answer a browser that sends the token once, and then its cookie."""
        headers = self._access.sign_in(environ)
        if headers is None:
            refusal = self._access.refusal_for(environ)
            if refusal is not None:
                return refusal.response
        return Response("204 No Content", [*(headers or ()), _NOT_STORED], b"")

    def _answer(self, environ: Mapping[str, Any], path: str) -> Response:
        if path == "":
            # Relative to the last part of the path, which only the client knows behind a proxy.
            name = (environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).rpartition("/")[2]
            return text_response("308 Permanent Redirect", "", [("Location", f"{name}/")])
        if path == "/":
            return _file(page(), environ, _NOT_STORED)
        if path == "/snapshot.json":
            return _json(self.source.snapshot_json(), environ)
        if path == "/history.json":
            return _json(self.source.history_json(), environ)
        asset = assets().get(path.removeprefix(f"/assets/{assets_hash()}/"))
        if asset is None:
            return text_response("404 Not Found", "the live page has no such file\n")
        return _file(asset, environ, _KEPT)


def _is_public(path: str) -> bool:
    """Return whether a path has no numbers: a file of the page, or the redirect to it."""
    return path == "" or path.startswith("/assets/")


def _refused(refusal: Refusal, environ: Mapping[str, Any], path: str) -> Response:
    if not refusal.may_sign_in or path != "/":
        return refusal.response
    shown = _file(sign_in_page(), environ, _NOT_STORED)
    challenges = [header for header in refusal.response.headers if header[0] == "WWW-Authenticate"]
    return Response(refusal.response.status, [*shown.headers, *challenges], shown.body)


def _file(asset: Asset, environ: Mapping[str, Any], cache: Header) -> Response:
    compressed = accepts_gzip(environ.get("HTTP_ACCEPT_ENCODING", ""))
    return _response(asset.content_type, asset.compressed if compressed else asset.body, cache, compressed)


def _json(body: bytes, environ: Mapping[str, Any]) -> Response:
    compressed = len(body) >= _MIN_COMPRESSED_BYTES and accepts_gzip(environ.get("HTTP_ACCEPT_ENCODING", ""))
    body = gzip.compress(body, compresslevel=1, mtime=0) if compressed else body
    return _response(_JSON, body, _NOT_STORED, compressed)


def _response(content_type: str, body: bytes, cache: Header, compressed: bool) -> Response:
    headers = [("Content-Type", content_type), cache, ("Vary", "Accept-Encoding")]
    if compressed:
        headers.append(("Content-Encoding", "gzip"))
    return Response("200 OK", [*headers, ("Content-Length", str(len(body)))], body)
