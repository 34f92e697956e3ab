"""The live page's answers: addresses, headers, compression, methods and errors."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any
from urllib.parse import urljoin

import pytest

from web_prom.errors import SnapshotError
from web_prom.exposition.http import Response
from web_prom.live.access import Refusal
from web_prom.live.app import LiveApp
from web_prom.live.assets import assets, assets_hash
from web_prom.live.source import SnapshotSource

MAX_GZIP_BYTES = 60_000


class Everybody:
    """Lets everybody see the page."""

    def refusal_for(self, environ: Any) -> Refusal | None:
        return None

    def sign_in(self, environ: Any) -> None:
        return None


def app_of(scrape: Any = lambda: b"") -> LiveApp:
    return LiveApp(SnapshotSource(scrape, "shop", lambda _: []), Everybody())


def ask(path: str, app: LiveApp | None = None, **more: str) -> Response:
    return (app or app_of()).respond(
        {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": path, **more}, path
    )


ASSET = f"/assets/{assets_hash()}/main.js"
PATHS = pytest.mark.parametrize(
    "path", ["", "/", "/snapshot.json", "/history.json", "/session", ASSET, "/other"]
)


@PATHS
def test_each_answer_has_the_headers_of_security(path: str) -> None:
    headers = dict(ask(path).headers)
    assert headers["Content-Security-Policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


@PATHS
def test_only_files_with_a_hash_are_kept_by_browsers(path: str) -> None:
    (cache,) = [value for name, value in ask(path).headers if name == "Cache-Control"]
    assert cache == ("public, max-age=31536000, immutable" if path == ASSET else "no-store")


@PATHS
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_only_get_and_head_are_answered(path: str, method: str) -> None:
    response = ask(path, REQUEST_METHOD=method)
    assert response.status == "405 Method Not Allowed"
    assert dict(response.headers)["Allow"] == "GET, HEAD"


@PATHS
def test_head_has_the_headers_of_get(path: str) -> None:
    app = app_of()
    response = ask(path, app, REQUEST_METHOD="HEAD")
    assert (response.status, response.body) == (ask(path, app).status, b"")
    assert response.headers == ask(path, app).headers


def test_answers_are_compressed_for_clients_that_accept_it() -> None:
    for path in ("/", ASSET):
        plain, response = ask(path), ask(path, HTTP_ACCEPT_ENCODING="br, gzip")
        assert dict(response.headers)["Content-Encoding"] == "gzip"
        assert gzip.decompress(response.body) == plain.body
        assert dict(response.headers)["Content-Length"] == str(len(response.body))
        assert dict(response.headers)["Vary"] == "Accept-Encoding"


def test_page_names_only_files_that_exist() -> None:
    page = ask("/").body.decode()
    names = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert len(names) > 3
    for name in names:
        assert not name.startswith(("/", "http"))
        assert ask(f"/{name}").status == "200 OK"


def test_page_has_no_inline_script_or_style_and_asks_nobody_else() -> None:
    texts = [
        ask("/").body.decode(),
        *(asset.body.decode() for name, asset in assets().items() if "vendor" not in name),
    ]
    for text in texts:
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", text)
        assert not re.search(r"""["'(]https?://(?!www\.w3\.org/)""", text)


def test_page_is_small() -> None:
    total = len(ask("/", HTTP_ACCEPT_ENCODING="gzip").body) + sum(
        len(each.compressed) for each in assets().values()
    )
    assert total < MAX_GZIP_BYTES


def test_files_of_another_version_do_not_exist() -> None:
    for path in (
        "/assets/0123456789abcdef/main.js",
        "/assets/main.js",
        "/assets/",
        f"/assets/{assets_hash()}/../app.py",
    ):
        assert ask(path).status == "404 Not Found"


@pytest.mark.parametrize(
    ("address", "script_name", "path_info", "target"),
    [
        ("http://x/live", "", "/live", "http://x/live/"),
        ("http://x/shop/live", "/shop", "/live", "http://x/shop/live/"),
        ("http://x/outer/live", "", "/live", "http://x/outer/live/"),
        ("http://x/page", "/page", "", "http://x/page/"),
    ],
)
def test_address_without_a_slash_is_redirected(
    address: str, script_name: str, path_info: str, target: str
) -> None:
    """Also behind a proxy that removes a prefix."""
    response = app_of().respond(
        {"REQUEST_METHOD": "GET", "SCRIPT_NAME": script_name, "PATH_INFO": path_info}, ""
    )
    assert response.status == "308 Permanent Redirect"
    assert urljoin(address, dict(response.headers)["Location"]) == target


def test_snapshot_and_history_are_json() -> None:
    app = app_of(lambda: b"a 1\n")
    snapshot, history = (json.loads(ask(path, app).body) for path in ("/snapshot.json", "/history.json"))
    assert snapshot["own"][0]["name"] == "a"
    assert [point["time"] for point in history["points"]] == [snapshot["time"]]


@pytest.mark.parametrize(
    ("scrape", "status", "text"),
    [
        (lambda: b"<!doctype html>\n", "502 Bad Gateway", "this line is not in Prometheus' text format"),
        (lambda: b"#" * 50_000_001, "502 Bad Gateway", "more than 50 MB"),
        (
            lambda: _fail(SnapshotError("http://x did not answer within 5 s")),
            "502 Bad Gateway",
            "did not answer",
        ),
        (lambda: _fail(KeyError("x")), "500 Internal Server Error", "no snapshot: KeyError"),
    ],
)
def test_error_of_a_scrape_is_a_sentence(scrape: Any, status: str, text: str) -> None:
    response = ask("/snapshot.json", app_of(scrape))
    assert response.status == status
    assert text in response.body.decode()
    assert "\n" not in response.body.decode().strip()


def _fail(error: Exception) -> bytes:
    raise error
