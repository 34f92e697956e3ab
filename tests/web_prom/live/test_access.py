"""Who may see the live page: access control, sessions and one-time tokens."""

from __future__ import annotations

import base64
import re
import time
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from web_prom.config import Config
from web_prom.config.credentials import Secret
from web_prom.exposition.access_control import AccessControl
from web_prom.exposition.http import Response
from web_prom.live.access import OneTimeAccess, ScrapeAccess
from web_prom.live.app import LiveApp
from web_prom.live.mount import standalone_mount
from web_prom.live.session import SESSION_SECONDS, OneTimeToken, has_session, make_cookie
from web_prom.live.source import SnapshotSource

TOKEN = "secret-token"


def app_of(*, is_public: bool = False, **options: Any) -> LiveApp:
    access = ScrapeAccess(AccessControl(Config.load(options)), lambda: is_public)
    return LiveApp(SnapshotSource(lambda: b"", "shop", lambda _: []), access)


def ask(app: LiveApp, path: str = "/snapshot.json", **more: str) -> Response:
    return app.respond({"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "REMOTE_ADDR": "10.0.0.1", **more}, path)


def code(response: Response) -> str:
    return response.status[:3]


def cookie_of(response: Response) -> str:
    """Return what a browser sends after a response."""
    (header,) = [value for name, value in response.headers if name == "Set-Cookie"]
    return header.partition(";")[0]


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "path", ["", "/", "/snapshot.json", "/history.json", "/session", "/assets/x/live.css"]
)
def test_page_is_closed_without_access_control(path: str) -> None:
    response = ask(app_of(), path)
    assert code(response) == "403"
    assert b"PROM_BASIC_AUTH_FILE" in response.body
    assert dict(response.headers)["Cache-Control"] == "no-store"


def test_page_is_open_in_debug_mode() -> None:
    assert code(ask(app_of(is_public=True))) == "200"


def test_debug_mode_does_not_open_a_page_with_access_control() -> None:
    assert code(ask(app_of(is_public=True, basic_auth="a:b"))) == "401"


def test_basic_authentication_opens_the_page() -> None:
    app = app_of(basic_auth="a:b")
    refused = ask(app, "/")
    assert code(refused) == "401"
    assert ("WWW-Authenticate", 'Basic realm="metrics", charset="UTF-8"') in refused.headers
    assert code(ask(app, "/", HTTP_AUTHORIZATION=basic("a:b"))) == "200"
    assert code(ask(app, "/", HTTP_AUTHORIZATION=basic("a:c"))) == "401"


def test_networks_open_the_page() -> None:
    app = app_of(allowed_networks="10.0.0.0/8")
    assert code(ask(app)) == "200"
    assert code(ask(app, REMOTE_ADDR="192.0.2.1")) == "403"


def test_callable_opens_the_page() -> None:
    app = app_of(allow_scrape=lambda environ: environ["REMOTE_ADDR"] == "10.0.0.1")
    assert code(ask(app)) == "200"
    assert code(ask(app, REMOTE_ADDR="10.0.0.2")) == "403"


def test_bearer_token_is_exchanged_for_a_session() -> None:
    app = app_of(bearer_token=TOKEN)
    asked = ask(app, "/")
    assert code(asked) == "401"
    assert b"sign-in.js" in asked.body
    script = re.search(rb"assets/\w+/sign-in.js", asked.body)
    assert script is not None
    assert code(ask(app, f"/{script[0].decode()}")) == "200"
    assert code(ask(app)) == "401"
    assert code(ask(app, "/session")) == "401"
    begun = ask(app, "/session", HTTP_AUTHORIZATION=f"Bearer {TOKEN}")
    assert code(begun) == "204"
    for path in ("/", "/snapshot.json", "/history.json"):
        response = ask(app, path, HTTP_COOKIE=f"other=1; {cookie_of(begun)}")
        assert (code(response), b"sign-in" in response.body) == ("200", False)


def test_session_needs_the_network_as_well() -> None:
    app = app_of(bearer_token=TOKEN, allowed_networks="10.0.0.0/8")
    begun = ask(app, "/session", HTTP_AUTHORIZATION=f"Bearer {TOKEN}")
    assert code(ask(app, HTTP_COOKIE=cookie_of(begun), REMOTE_ADDR="192.0.2.1")) == "403"
    refused = ask(app, "/session", HTTP_AUTHORIZATION=f"Bearer {TOKEN}", REMOTE_ADDR="192.0.2.1")
    assert code(refused) == "403"
    assert "Set-Cookie" not in dict(refused.headers)


def test_session_ends_when_the_token_changes(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    app = app_of(bearer_token_file=file)
    cookie = cookie_of(ask(app, "/session", HTTP_AUTHORIZATION=f"Bearer {TOKEN}"))
    assert code(ask(app, HTTP_COOKIE=cookie)) == "200"
    file.write_text("another")
    assert code(ask(app, HTTP_COOKIE=cookie)) == "401"


def test_cookie_is_for_this_page_alone() -> None:
    header = make_cookie(Secret(TOKEN), {"wsgi.url_scheme": "https"})
    parts = [part.strip() for part in header.split(";")[1:]]
    assert parts == [f"Max-Age={SESSION_SECONDS}", "HttpOnly", "SameSite=Strict", "Secure"]
    assert TOKEN not in header
    assert "Secure" not in make_cookie(Secret(TOKEN), {"wsgi.url_scheme": "http"})


def test_cookie_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = Secret(TOKEN)
    environ = {"HTTP_COOKIE": make_cookie(secret, {}).partition(";")[0]}
    assert has_session(secret, environ)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + SESSION_SECONDS + 2)
    assert not has_session(secret, environ)


@pytest.mark.parametrize(
    "value", ["", "x", "1", "9.", ".9", "99999999999.x", "-5.x", "9" * 400 + ".x", "1700000000.\xe9", '"']
)
def test_other_cookies_are_no_session(value: str) -> None:
    name = make_cookie(Secret(TOKEN), {}).partition("=")[0]
    assert not has_session(Secret(TOKEN), {"HTTP_COOKIE": f"{name}={value}"})


@pytest.mark.parametrize(
    "other",
    [
        "user=John Smith", "flag", "", " ", "=", "=x", "a==b", 'prefs={"theme":"dark","size":1}', "a/b=1",
        'q="x; y', "a=\xe9", "a=\x00", "$Version=1", "web_prom_live=", "web_prom_live=x", "web_prom_live",
        "web_prom_live=99999999999.x", "web_prom_live2=1", "x=web_prom_live",
    ],
)  # fmt: skip
def test_session_is_found_among_other_cookies(other: str) -> None:
    own = make_cookie(Secret(TOKEN), {}).partition(";")[0]
    headers = [f"{own}; {other}", f"{other}; {own}", f"{other};{own};{other}", f"{other},{own}"]
    for header in headers:
        assert has_session(Secret(TOKEN), {"HTTP_COOKIE": header}), header
        assert not has_session(Secret("another"), {"HTTP_COOKIE": header}), header
    assert not has_session(Secret(TOKEN), {"HTTP_COOKIE": other})


def test_sessions_of_pages_on_one_host_live_side_by_side() -> None:
    """A browser has one cookie of a name for a host and a path, whatever the port."""
    jar: dict[str, str] = {}

    def keep(header: str) -> None:
        name, _, value = header.partition(";")[0].partition("=")
        jar[name] = value

    tokens = [OneTimeToken() for _ in range(2)]
    pages = [OneTimeAccess(token) for token in tokens]
    for page, token in zip(pages, tokens, strict=True):
        (header,) = page.sign_in({"HTTP_AUTHORIZATION": f"Bearer {token.text}"}) or []
        keep(header[1])
    # Workers of one service, and a service that has the same token.
    workers = [app_of(bearer_token=TOKEN) for _ in range(3)]
    for app in workers[:2]:
        keep(dict(ask(app, "/session", HTTP_AUTHORIZATION=f"Bearer {TOKEN}").headers)["Set-Cookie"])
    assert len(jar) == 3
    sent = "; ".join(f"{name}={value}" for name, value in jar.items())
    assert [page.refusal_for({"HTTP_COOKIE": sent}) for page in pages] == [None, None]
    assert [code(ask(app, HTTP_COOKIE=sent)) for app in workers] == ["200"] * 3
    assert code(ask(app_of(bearer_token="another"), HTTP_COOKIE=sent)) == "401"


def test_cookie_of_an_encrypted_page_has_another_name() -> None:
    """A browser does not let a page without TLS replace a cookie that is Secure."""
    names = {
        make_cookie(Secret(TOKEN), {"wsgi.url_scheme": scheme}).partition("=")[0]
        for scheme in ("http", "https", "http")
    }
    assert len(names) == 2


def test_name_of_the_cookie_does_not_show_its_signature() -> None:
    name, _, value = make_cookie(Secret(TOKEN), {}).partition(";")[0].partition("=")
    assert re.fullmatch(r"web_prom_live_[0-9a-f]+", name)
    assert name.removeprefix("web_prom_live_") not in value


def test_a_cookie_with_another_end_is_no_session() -> None:
    header = make_cookie(Secret(TOKEN), {}).partition(";")[0]
    name, end, signature = re.split("[=.]", header)
    assert not has_session(Secret(TOKEN), {"HTTP_COOKIE": f"{name}={int(end) - 1}.{signature}"})


def test_one_time_token_begins_one_session() -> None:
    token = OneTimeToken()
    app = LiveApp(SnapshotSource(lambda: b"", "shop", lambda _: []), OneTimeAccess(token))
    assert code(ask(app)) == "401"
    assert code(ask(app, "/session", HTTP_AUTHORIZATION="Bearer wrong")) == "401"
    begun = ask(app, "/session", HTTP_AUTHORIZATION=f"Bearer {token.text}")
    assert code(begun) == "204"
    assert code(ask(app, HTTP_COOKIE=cookie_of(begun))) == "200"
    assert code(ask(app, "/session", HTTP_AUTHORIZATION=f"Bearer {token.text}")) == "401"
    assert token.text not in repr(token)
    other = OneTimeAccess(OneTimeToken())
    assert other.refusal_for({"HTTP_COOKIE": cookie_of(begun)}) is not None


def test_secrets_are_never_logged(caplog: Any) -> None:
    caplog.set_level("DEBUG")
    app = app_of(bearer_token=TOKEN)
    begun = ask(app, "/session", HTTP_AUTHORIZATION=f"Bearer {TOKEN}")
    ask(app, "/session", HTTP_AUTHORIZATION="Bearer wrong-token")
    ask(app, "/", HTTP_COOKIE=cookie_of(begun))
    value = next(iter(SimpleCookie(cookie_of(begun)).values())).value
    assert not any(text in caplog.text for text in (TOKEN, "wrong-token", value))


def test_standalone_page_is_open_only_if_it_is_said(registry: CollectorRegistry) -> None:
    for public, status in ((False, "403"), (True, "200")):
        mount = standalone_mount(registry, Config(), public=public, title="shop")
        assert code(mount.app.respond({"REQUEST_METHOD": "GET"}, "/")) == status
