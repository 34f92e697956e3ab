"""Header values of requests: repeated headers, and white space around values."""

from __future__ import annotations

import pytest

from web_prom.exposition.http import header_variables


@pytest.mark.parametrize("name", ["Cookie", "cookie", "COOKIE"])
def test_repeated_cookie_headers_are_joined_with_semicolons(name: str) -> None:
    """HTTP/2 sends each cookie in a header of its own: https://www.rfc-editor.org/rfc/rfc9113#section-8.2.3."""
    headers = [(name, "a=1"), ("X-A", "1"), ("Cookie", " b=2 "), ("x-a", "2"), ("cookie", "c=3; d=4")]
    assert header_variables(headers) == {"HTTP_COOKIE": "a=1; b=2; c=3; d=4", "HTTP_X_A": "1,2"}
