"""Access control: credentials, secret files, and networks."""

from __future__ import annotations

import base64
import hmac
import inspect
from pathlib import Path
from typing import Any

import pytest
import webtest
from prometheus_client import CollectorRegistry

from tests.web_prom.support import hello
from web_prom import PrometheusMiddleware
from web_prom.config import Config
from web_prom.exposition.access_control import AccessControl
from web_prom.log_limit import SECONDS, LogLimit


def basic(text: str, encoding: str = "utf-8") -> str:
    return "Basic " + base64.b64encode(text.encode(encoding)).decode()


def allows(config: Config, **environ: Any) -> bool:
    return AccessControl(config).check(environ) is None


def status(config: Config, **environ: Any) -> str:
    denial = AccessControl(config).check(environ)
    return "200" if denial is None else denial.status[:3]


def load(**options: Any) -> Config:
    return Config.load(options)


# Open ------------------------------------------------------------------------------------------------


def test_is_open_without_configuration() -> None:
    assert AccessControl(Config()).is_open
    assert allows(Config())
    assert allows(Config(), HTTP_AUTHORIZATION="nonsense", REMOTE_ADDR="")


@pytest.mark.parametrize(
    "options",
    [
        {"bearer_token": "x"},
        {"basic_auth": "u:p"},
        {"allowed_networks": "::1"},
        {"allow_scrape": lambda environ: True},
    ],
)
def test_is_open_is_false_with_any_setting(options: dict[str, Any]) -> None:
    assert not AccessControl(load(**options)).is_open


def test_is_open_is_false_with_a_secret_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("u:p")
    assert not AccessControl(load(bearer_token_file=tmp_path / "secret")).is_open
    assert not AccessControl(load(basic_auth_file=tmp_path / "secret")).is_open


def test_trusted_proxies_alone_restrict_nothing() -> None:
    assert AccessControl(load(trusted_proxies="10.0.0.1")).is_open


# Credentials -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["Bearer s3cret", "bearer s3cret", "BEARER  s3cret "])
def test_bearer_token_is_accepted(header: str) -> None:
    assert allows(load(bearer_token="s3cret"), HTTP_AUTHORIZATION=header)


WRONG = [
    "", " ", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3crett", "Bearer S3cret", "s3cret", "Basic s3cret",
    "Bearer s3cret, Bearer x", "Bearer: s3cret", "Token s3cret", "Bearer \x00s3cret", "Bearer s\xe9cret",
    "Bearer \u0416", "Bearer \ud800", basic("s3cret"), basic("user:s3cret"), "Bearer " + "x" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("header", WRONG)
def test_other_authorization_is_refused_with_a_challenge(
    header: str, caplog: pytest.LogCaptureFixture
) -> None:
    denial = AccessControl(load(bearer_token="s3cret")).check({"HTTP_AUTHORIZATION": header})
    assert denial is not None
    assert denial.status == "401 Unauthorized"
    assert denial.headers == (("WWW-Authenticate", "Bearer"),)
    assert caplog.records == [], "a stranger does not write our log"


def test_missing_authorization_is_refused_with_a_challenge() -> None:
    assert status(load(bearer_token="s3cret")) == "401"


@pytest.mark.parametrize(
    ("configured", "header"),
    [
        ("user:pass", basic("user:pass")),
        ("user:pass", basic("user:pass").replace("Basic", "basic")),
        ("user:pa:ss:", basic("user:pa:ss:")),
        ("üser:pässwörd€", basic("üser:pässwörd€")),
        ("user: pass", basic("user: pass")),
    ],
)
def test_user_and_password_are_accepted(configured: str, header: str) -> None:
    assert allows(load(basic_auth=configured), HTTP_AUTHORIZATION=header)


@pytest.mark.parametrize(
    "header",
    [
        *(header for header in WRONG),
        basic("user:pas"), basic("user:passs"), basic("user:"), basic(":pass"), basic(""), basic("User:pass"),
        basic("user:pass") + "!", "Basic !!!", "Basic user:pass", "Bearer dXNlcjpwYXNz",
        "Basic dXNlcjpwYXN", "Basic \xe9", "Basic \u0416", basic("user:pass\n"),
    ],
)  # fmt: skip
def test_wrong_user_or_password_is_refused(header: str, caplog: pytest.LogCaptureFixture) -> None:
    denial = AccessControl(load(basic_auth="user:pass")).check({"HTTP_AUTHORIZATION": header})
    assert denial is not None
    assert denial.status == "401 Unauthorized"
    ((name, challenge),) = denial.headers
    assert name == "WWW-Authenticate"
    assert challenge.startswith('Basic realm="')
    assert caplog.records == []


def test_password_in_latin_1_is_refused() -> None:
    assert not allows(load(basic_auth="user:ä"), HTTP_AUTHORIZATION=basic("user:ä", "latin-1"))


def test_token_with_non_ascii_letters_is_compared_as_utf_8() -> None:
    header = "Bearer " + "gehëim".encode().decode("latin-1")
    assert allows(load(bearer_token="gehëim"), HTTP_AUTHORIZATION=header)


def test_one_of_two_kinds_of_credentials_is_enough() -> None:
    config = load(bearer_token="s3cret", basic_auth="user:pass")
    assert allows(config, HTTP_AUTHORIZATION="Bearer s3cret")
    assert allows(config, HTTP_AUTHORIZATION=basic("user:pass"))
    denial = AccessControl(config).check({"HTTP_AUTHORIZATION": "Bearer user:pass"})
    assert denial is not None
    assert [value.split()[0] for _, value in denial.headers] == ["Bearer", "Basic"]


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def watched(given: bytes, secret: bytes) -> bool:
        compared.append((given, secret))
        return compare(given, secret)

    monkeypatch.setattr("hmac.compare_digest", watched)
    assert status(load(bearer_token="s3cret"), HTTP_AUTHORIZATION="Bearer x") == "401"
    assert status(load(basic_auth="u:p"), HTTP_AUTHORIZATION=basic("u:x")) == "401"
    assert compared == [(b"x", b"s3cret"), (b"u:x", b"u:p")]


# Secrets in files ------------------------------------------------------------------------------------


def test_rotated_secret_file_is_used_at_the_next_scrape(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one\n")
    access = AccessControl(load(bearer_token_file=path))
    assert access.check({"HTTP_AUTHORIZATION": "Bearer one"}) is None
    path.write_text("two")
    assert access.check({"HTTP_AUTHORIZATION": "Bearer one"}) is not None
    assert access.check({"HTTP_AUTHORIZATION": "Bearer two"}) is None


def test_secret_file_with_user_and_password_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("üser:pa:ss\n", "utf-8")
    assert allows(load(basic_auth_file=path), HTTP_AUTHORIZATION=basic("üser:pa:ss"))


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "", basic(""), "Bearer x"])
@pytest.mark.parametrize("name", ["bearer_token_file", "basic_auth_file"])
@pytest.mark.parametrize("fate", ["emptied", "blank", "removed", "a directory"])
def test_missing_secret_file_refuses_every_client_and_is_logged(
    name: str, fate: str, header: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "secret"
    path.write_text("user:hush")
    access = AccessControl(load(**{name: path}))
    if fate == "emptied":
        path.write_text("")
    elif fate == "blank":
        path.write_text(" \n\t")
    else:
        path.unlink()
        if fate == "a directory":
            path.mkdir()
    denial = access.check({"HTTP_AUTHORIZATION": header})
    assert denial is not None
    assert denial.status == "403 Forbidden"
    (record,) = caplog.records
    assert "refused" in record.getMessage()


# Networks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("10.0.0.1", True),
        ("10.255.255.255", True),
        ("11.0.0.1", False),
        ("127.0.0.1", True),
        ("127.0.0.2", False),
        ("fd00::1", True),
        ("FD00::1", True),
        ("fe00::1", False),
        ("fd00::1%eth0", True),
        ("::ffff:10.0.0.1", True),
        ("::ffff:11.0.0.1", False),
        ("::1", False),
        ("", False),
        ("unix:", False),
        ("localhost", False),
        ("10.0.0.1:8000", False),
        ("10.0.0.1, 11.0.0.1", False),
        ("010.0.0.1", False),
        ("167772161", False),
    ],
)
def test_peer_address_must_be_in_an_allowed_network(address: str, allowed: bool) -> None:
    config = load(allowed_networks="10.0.0.0/8, 127.0.0.1, fd00::/8")
    assert allows(config, REMOTE_ADDR=address) is allowed
    assert status(config, REMOTE_ADDR=address) == ("200" if allowed else "403")


def test_peer_without_an_address_is_refused() -> None:
    """A server at a UNIX socket states no address."""
    assert status(load(allowed_networks="0.0.0.0/0, ::/0")) == "403"
    assert status(load(allowed_networks="0.0.0.0/0, ::/0"), REMOTE_ADDR="") == "403"


@pytest.mark.parametrize("header", ["10.0.0.1", "10.0.0.1, 10.0.0.2", "127.0.0.1"])
def test_forwarded_address_is_ignored_without_trusted_proxies(header: str) -> None:
    config = load(allowed_networks="10.0.0.0/8,127.0.0.1")
    environ = {"HTTP_X_FORWARDED_FOR": header, "HTTP_X_REAL_IP": header, "HTTP_FORWARDED": f"for={header}"}
    assert status(config, REMOTE_ADDR="8.8.8.8", **environ) == "403"


@pytest.mark.parametrize(
    ("remote", "forwarded", "allowed"),
    [
        ("192.168.0.1", "10.0.0.1", True),
        ("192.168.0.1", " 10.0.0.1 ", True),
        ("192.168.0.1", "8.8.8.8", False),
        ("192.168.0.1", "10.0.0.1, 8.8.8.8", False),  # the client wrote 10.0.0.1 itself
        ("192.168.0.1", "8.8.8.8, 10.0.0.1", True),
        ("192.168.0.1", "10.0.0.1, 192.168.0.2", True),  # two proxies
        ("192.168.0.1", "10.0.0.1, 8.8.8.8, 192.168.0.2", False),
        ("192.168.0.1", "8.8.8.8, 192.168.0.2", False),
        ("192.168.0.1", "10.0.0.1, nonsense", False),
        ("192.168.0.1", "10.0.0.1,", False),
        ("192.168.0.1", "", False),
        ("192.168.0.1", "unknown", False),
        ("192.168.0.1", "192.168.0.9", False),  # a proxy itself, which is in no allowed network
        ("::ffff:192.168.0.1", "::ffff:10.0.0.1", True),
        ("192.168.0.1", "fd00::1", True),
        ("192.168.0.1", "fd00::1%25eth0", True),
        ("8.8.8.8", "10.0.0.1", False),  # not a trusted proxy
        ("10.0.0.1", "8.8.8.8", True),  # allowed by its own address
        ("", "10.0.0.1", False),
    ],
)
def test_forwarded_address_of_the_last_untrusted_hop_is_used(
    remote: str, forwarded: str, allowed: bool
) -> None:
    config = load(allowed_networks="10.0.0.0/8,fd00::/8", trusted_proxies="192.168.0.0/24")
    assert allows(config, REMOTE_ADDR=remote, HTTP_X_FORWARDED_FOR=forwarded) is allowed


@pytest.mark.parametrize(("address", "allowed"), [("127.0.0.1", True), ("127.0.0.2", False)])
def test_scrape_by_a_trusted_proxy_itself_uses_its_own_address(address: str, allowed: bool) -> None:
    config = load(allowed_networks="127.0.0.1", trusted_proxies="127.0.0.0/8")
    assert allows(config, REMOTE_ADDR=address) is allowed


def test_networks_and_credentials_are_both_required() -> None:
    config = load(allowed_networks="10.0.0.0/8", bearer_token="s3cret")
    good, bad = "Bearer s3cret", "Bearer x"
    assert status(config, REMOTE_ADDR="10.0.0.1", HTTP_AUTHORIZATION=good) == "200"
    assert status(config, REMOTE_ADDR="10.0.0.1", HTTP_AUTHORIZATION=bad) == "401"
    assert status(config, REMOTE_ADDR="8.8.8.8", HTTP_AUTHORIZATION=good) == "403"


@pytest.mark.parametrize("remote", ["", None, "localhost", "unix:", "unix:/run/shop.sock"])
@pytest.mark.parametrize(
    ("forwarded", "allowed"),
    [
        ("10.0.0.1", True),
        ("8.8.8.8", False),
        ("10.0.0.1, 8.8.8.8", False),  # the client wrote 10.0.0.1 itself
        ("10.0.0.1, localhost, 8.8.8.8", False),
        ("10.0.0.1, unix:", True),  # two proxies, each behind a UNIX socket
        ("10.0.0.1, 192.168.0.1", True),
        ("10.0.0.1, ", False),
        ("unix:", False),
        (None, False),
    ],
)
def test_fault_49_proxy_at_a_unix_socket_can_be_trusted(
    remote: str | None, forwarded: str | None, allowed: bool
) -> None:
    environ = {"REMOTE_ADDR": remote, "HTTP_X_FORWARDED_FOR": forwarded}
    environ = {name: value for name, value in environ.items() if value is not None}
    config = load(allowed_networks="10.0.0.0/8", trusted_proxies="unix, 192.168.0.1")
    assert allows(config, **environ) is allowed
    assert not allows(load(allowed_networks="10.0.0.0/8", trusted_proxies="192.168.0.1"), **environ)
    assert not allows(config, **{**environ, "REMOTE_ADDR": "8.8.8.8"}), "no peer with an address is meant"


@pytest.mark.parametrize(
    ("forwarded", "allowed"),
    [
        ("10.1.2.3:51234", True),
        ("8.8.8.8:51234", False),
        ("[2001:db8::1]:51234", True),
        ("[2001:db8::1]", True),
        ("[2001:db9::1]:51234", False),
        ("[::ffff:10.1.2.3]:80", True),
        ("10.1.2.3:51234, 192.168.0.1:4711", True),
        ("10.1.2.3:51234, 8.8.8.8:4711", False),
        ("10.1.2.3:", False),
        ("10.1.2.3:x", False),
        ("10.1.2.3:123456", False),
        ("[10.1.2.3", False),
        ("2001:db8::1", True),
    ],
)
def test_fault_50_forwarded_address_with_a_port_is_parsed(forwarded: str, allowed: bool) -> None:
    config = load(allowed_networks="10.0.0.0/8, 2001:db8::/32", trusted_proxies="192.168.0.1")
    assert allows(config, REMOTE_ADDR="192.168.0.1", HTTP_X_FORWARDED_FOR=forwarded) is allowed


def test_fault_78_network_of_mapped_addresses_matches() -> None:
    config = load(allowed_networks="::ffff:10.0.0.0/104")
    assert allows(config, REMOTE_ADDR="10.1.2.3")
    assert allows(config, REMOTE_ADDR="::ffff:10.1.2.3")
    assert not allows(config, REMOTE_ADDR="11.1.2.3")


# Failures --------------------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_fault_75_refused_requests_do_not_fill_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    path = tmp_path / "token"
    path.write_text("x")
    access = AccessControl(load(bearer_token_file=path))
    monkeypatch.setattr(access, "_failures", LogLimit(clock=clock))
    path.unlink()
    for _ in range(1000):
        assert access.check({}) is not None
    assert len(caplog.records) == 1
    path.write_text("")
    for _ in range(1000):
        assert access.check({}) is not None
    assert len(caplog.records) == 2, "another failure is another line"
    clock.now += SECONDS
    access.check({})
    assert "(999 more were not logged)" in caplog.records[-1].getMessage()
    assert len(caplog.records) == 3


def test_fault_77_failed_check_has_no_secret_in_local_variables(tmp_path: Path) -> None:
    path = tmp_path / "login"
    path.write_text("ann:hush")
    access = AccessControl(load(bearer_token="hush", basic_auth_file=path))
    path.unlink()
    with pytest.raises(FileNotFoundError) as raised:
        access._check({})
    ours = [
        frame
        for frame in inspect.getinnerframes(raised.tb)
        if frame.filename.endswith("web_prom/exposition/access_control.py")
    ]
    assert len(ours) > 1
    assert all("hush" not in repr(frame.frame.f_locals) for frame in ours)


def test_fault_78_token_file_with_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"\xef\xbb\xbfs3cret\r\n")
    assert allows(load(bearer_token_file=path), HTTP_AUTHORIZATION="Bearer s3cret")


# Answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
@pytest.mark.parametrize(
    ("options", "expected"), [({"bearer_token": "s3cret"}, 401), ({"allowed_networks": "fd00::/8"}, 403)]
)
def test_refusal_has_no_body_and_no_details(
    method: str, options: dict[str, Any], expected: int, registry: CollectorRegistry
) -> None:
    client = webtest.TestApp(PrometheusMiddleware(hello, registry=registry, **options))
    response = client.request("/metrics", method=method, status=expected, expect_errors=True)
    assert response.body == b""
    assert response.headers["Content-Length"] == "0"
    assert "Allow" not in response.headers
    assert ("WWW-Authenticate" in response.headers) is (expected == 401)
    assert response.headers["Cache-Control"] == "no-store"


def test_access_control_applies_to_scrapes_only(registry: CollectorRegistry) -> None:
    client = webtest.TestApp(PrometheusMiddleware(hello, registry=registry, bearer_token="s3cret"))
    assert client.get("/").text == "hello"
    assert client.get("/metrics", headers={"Authorization": "Bearer s3cret"}).status_int == 200


def test_fault_18_access_control_of_the_application_does_not_apply_to_scrapes(
    registry: CollectorRegistry,
) -> None:
    """A login in the application does not refuse scrapes."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("302 Found", [("Location", "/login"), ("Content-Type", "text/plain")])
        return [b""]

    client = webtest.TestApp(PrometheusMiddleware(app, registry=registry))
    assert client.get("/").status_int == 302
    assert client.get("/metrics").status_int == 200
