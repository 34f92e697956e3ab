"""The files of the page, with one hash for all of them in their addresses."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
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
    return {path: _asset(file) for path, file in sorted(_walk(files(__package__) / "assets", ""))}


@cache
def assets_hash() -> str:
    """Return the hash of all files. It is a part of their addresses, so that a browser may keep them forever."""
    digest = hashlib.sha256()
    for path, asset in assets().items():
        digest.update(path.encode() + b"\0" + asset.body)
    return digest.hexdigest()[:16]


@cache
def page() -> Asset:
    """Return the page, with the addresses of its files."""
    html = (files(__package__) / "assets" / "index.html").read_text("utf-8")
    return _made("text/html; charset=utf-8", html.replace(_HASH_MARK, assets_hash()).encode())


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, Traversable]]:
    found: list[tuple[str, Traversable]] = []
    for entry in folder.iterdir():
        path = prefix + entry.name
        if entry.is_dir():
            found += _walk(entry, f"{path}/")
        elif entry.name.rpartition(".")[2] in _TYPES:
            found.append((path, entry))
    return found


def _asset(file: Traversable) -> Asset:
    return _made(_TYPES[file.name.rpartition(".")[2]], file.read_bytes())


def _made(content_type: str, body: bytes) -> Asset:
    return Asset(content_type, body, gzip.compress(body, mtime=0))
