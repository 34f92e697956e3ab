"""Header values of requests: repeated headers, and white space around values."""

from __future__ import annotations

import pytest

from web_prom.config import Config
from web_prom.exposition.access_control import AccessControl
from web_prom.exposition.http import header_variables
from web_prom.exposition.negotiation import accepts_gzip
from web_prom.live.access import OneTimeAccess
from web_prom.live.session import OneTimeToken

# The last byte of these in UTF-8 is white space in Latin-1.
ENDINGS = ["à", "Å", "†", "丅", "€à"]
# White space in Python, but no white space of HTTP.
FOREIGN_SPACES = ["\x85", "\xa0", "\x0b", "\x0c", "\x1c", "\x1f"]


@pytest.mark.parametrize("name", ["Cookie", "cookie", "COOKIE"])
def test_repeated_cookie_headers_are_joined_with_semicolons(name: str) -> None:
    """HTTP/2 sends each cookie in a header of its own: https://www.rfc-editor.org/rfc/rfc9113#section-8.2.3."""
    headers = [(name, "a=1"), ("X-A", "1"), ("Cookie", " b=2 "), ("x-a", "2"), ("cookie", "c=3; d=4")]
    assert header_variables(headers) == {"HTTP_COOKIE": "a=1; b=2; c=3; d=4", "HTTP_X_A": "1,2"}


@pytest.mark.parametrize("value", ["x\xa0", "\x85x", "x\x1f", "\xa0", "\xc3\xa0"])
def test_bytes_of_letters_are_no_white_space(value: str) -> None:
    assert header_variables([("X-A", f" \t{value}\t "), ("x-a", value)]) == {"HTTP_X_A": f"{value},{value}"}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("space", ["", " ", "\t "])
def test_token_may_end_with_any_letter(ending: str, space: str) -> None:
    token = f"s{ending}cret{ending}"
    sent = header_variables([("Authorization", f"Bearer {space}{token}{space}".encode().decode("latin-1"))])
    access = AccessControl(Config.load({"bearer_token": token}))
    assert access.check(sent) is None
    assert access.sent_bearer_token(sent) is not None
    for space_of_python in FOREIGN_SPACES:
        refused = {"HTTP_AUTHORIZATION": sent["HTTP_AUTHORIZATION"] + space_of_python}
        assert access.check(refused) is not None
        assert access.sent_bearer_token(refused) is None


@pytest.mark.parametrize("space", FOREIGN_SPACES)
def test_spaces_of_other_characters_are_part_of_a_value(space: str) -> None:
    token = OneTimeToken()
    one_time = OneTimeAccess(token)
    assert one_time.sign_in({"HTTP_AUTHORIZATION": f"Bearer {token.text}{space}"}) is None
    assert one_time.sign_in({"HTTP_AUTHORIZATION": f"bearer \t{token.text} "}) is not None
    basic = AccessControl(Config.load({"basic_auth": "user:pass"}))
    assert basic.check({"HTTP_AUTHORIZATION": f"Basic dXNlcjpwYXNz{space}"}) is not None
    assert basic.check({"HTTP_AUTHORIZATION": "Basic \tdXNlcjpwYXNz "}) is None
    options = {"allowed_networks": "10.0.0.0/8", "trusted_proxies": "192.168.0.1"}
    networks = AccessControl(Config.load(options))
    for forwarded, allowed in (("10.0.0.1 ", True), ("\t10.0.0.1", True), (f"10.0.0.1{space}", False)):
        environ = {"REMOTE_ADDR": "192.168.0.1", "HTTP_X_FORWARDED_FOR": forwarded}
        assert (networks.check(environ) is None) is allowed
    assert accepts_gzip("deflate, \tgzip ;\tq=1")
    assert not accepts_gzip(f"gzip{space}")
