"""The live page's answers to HTTP requests, as plain values for any framework."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Callable, Mapping
from typing import Any

from web_prom.exposition.http import ALLOW, Header, Response, text_response
from web_prom.exposition.negotiation import accepts_gzip
from web_prom.live.assets import Asset, assets, assets_hash, page
from web_prom.live.source import SnapshotSource

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
_JSON = "application/json; charset=utf-8"
_MIN_COMPRESSED_BYTES = 1000

Refuse = Callable[[Mapping[str, Any]], Response | None]
"""Returns the refusal for a client that may not see the page, or None."""


class LiveApp:
    """Answers the requests of the live page: the page, its files, the snapshot and the history.

    All addresses in the page are relative, so it works below any prefix and behind a proxy. Safe to share
    between threads.

    Args:
        source: Takes the snapshots.
        refuse: Decides who may see the page.
    """

    def __init__(self, source: SnapshotSource, refuse: Refuse) -> None:
        self.source = source
        self._refuse = refuse

    def respond(self, environ: Mapping[str, Any], path: str | None = None) -> Response:
        """Answer a request. Never raises.

        Args:
            environ: The WSGI environ, or the same members of another request.
            path: The path below the page's own address: ``/`` for the page, an empty string for its address
                without a slash at its end. By default ``PATH_INFO``.
        """
        path = environ.get("PATH_INFO", "") if path is None else path
        try:
            response = self._refuse(environ) or self._answer(environ, path)
        except Exception as error:
            logger.exception("the live page cannot be shown")
            response = text_response("500 Internal Server Error", f"no snapshot: {type(error).__name__}\n")
        status, headers, body = response
        if not any(name == _NOT_STORED[0] for name, _ in headers):
            headers = [*headers, _NOT_STORED]
        body = b"" if environ.get("REQUEST_METHOD") == "HEAD" else body
        return Response(status, [*headers, *_SECURITY_HEADERS], body)

    def _answer(self, environ: Mapping[str, Any], path: str) -> Response:  # noqa: PLR0911 - one for each address
        if environ.get("REQUEST_METHOD", "GET") not in ("GET", "HEAD"):
            return text_response("405 Method Not Allowed", "use GET\n", [ALLOW])
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
