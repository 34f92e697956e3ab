"""Scrapes of a URL: what a service can do to a command that reads it."""

from __future__ import annotations

import time
from http.server import BaseHTTPRequestHandler

import pytest

from tests.web_prom.cli.services import serving, text
from web_prom.cli.fetch import UnreadableScrapeError, fetch


def refused(url: str, timeout: float = 5.0) -> str:
    with pytest.raises(UnreadableScrapeError) as caught:
        fetch(url, {"Authorization": "Bearer secret"}, timeout)
    return str(caught.value)


def test_headers_that_arrive_slowly_do_not_delay_a_command() -> None:
    """Each wait for a byte has a time-out of its own, which a slow sender never reaches."""
    ended = False

    def answer(handler: BaseHTTPRequestHandler) -> None:
        while not ended:
            handler.wfile.write(b"H")
            time.sleep(0.02)

    begun = time.monotonic()
    with serving(answer) as url:
        assert "did not answer within 0.2 s" in refused(url, 0.2)
        assert time.monotonic() - begun < 10
        ended = True


def test_token_is_not_sent_to_the_target_of_a_redirect() -> None:
    seen: list[str] = []

    def other(handler: BaseHTTPRequestHandler) -> None:
        seen.append(handler.path)
        text("up 1\n")(handler)

    with serving(other) as target:

        def redirect(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(302)
            handler.send_header("Location", target)
            handler.end_headers()

        with serving(redirect) as url:
            message = refused(url)
    assert seen == []
    assert f"name the address to which it redirects: {target}" in message


def test_redirect_to_the_same_host_is_followed_with_the_token() -> None:
    seen: list[str | None] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/metrics":
            handler.send_response(301)
            handler.send_header("Location", "/metrics/")
            handler.end_headers()
            return
        seen.append(handler.headers["Authorization"])
        text("up 1\n")(handler)

    with serving(answer) as url:
        assert fetch(url, {"Authorization": "Bearer secret"}, 5.0).values == [1.0]
    assert seen == ["Bearer secret"]


def test_control_characters_of_an_answer_are_not_printed() -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.0 500 \x1b[2Jno\r\n\r\n")

    with serving(answer) as url:
        assert "\x1b" not in refused(url)


@pytest.mark.parametrize("user", ["u:p4ss@", "u@", "@"])
def test_password_in_a_url_is_refused_and_not_printed(user: str) -> None:
    message = refused(f"http://{user}localhost:1/metrics")

    assert "--header" in message
    assert "localhost:1" in message
    assert "p4ss" not in message
