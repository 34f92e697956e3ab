"""The files of the page, with one hash for all of them in their addresses."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

_FOLDER = Path(__file__).with_name("assets")

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HASH_MARK = "@hash@"


class Asset(NamedTuple):
    """A file of the page.

    Attributes:
        content_type: Its media type.
        body: Its bytes.
        compressed: The same, compressed with gzip.
    """

    content_type: str
    body: bytes
    compressed: bytes


@cache
def assets() -> dict[str, Asset]:
    """Return the files by their paths below ``assets/``. They are read once."""
    return {
        file.relative_to(_FOLDER).as_posix(): _make(_TYPES[file.suffix], file.read_bytes())
        for file in sorted(_FOLDER.rglob("*"))
        if file.suffix in _TYPES
    }


@cache
def assets_hash() -> str:
    """Return the hash of all files. It is a part of their addresses, so a browser may keep them forever."""
    digest = hashlib.sha256()
    for path, asset in assets().items():
        digest.update(path.encode() + b"\0" + asset.body)
    return digest.hexdigest()[:16]


@cache
def page() -> Asset:
    """Return the page, with the addresses of its files."""
    return _html("index.html")


@cache
def sign_in_page() -> Asset:
    """Return the page that asks for the token."""
    return _html("sign-in.html")


def _html(name: str) -> Asset:
    html = (_FOLDER / name).read_text("utf-8")
    return _make("text/html; charset=utf-8", html.replace(_HASH_MARK, assets_hash()).encode())


def _make(content_type: str, body: bytes) -> Asset:
    return Asset(content_type, body, gzip.compress(body, mtime=0))
