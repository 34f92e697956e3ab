"""Scrapes of a URL: what a service can do to a command that reads it."""

from __future__ import annotations

import gzip
import time
from http.server import BaseHTTPRequestHandler

import pytest

from tests.web_prom.cli.services import Answer, serving, text
from web_prom.cli.fetch import UnreadableScrapeError, fetch
from web_prom.errors import SnapshotError
from web_prom.live.taking import take_snapshot


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


WHOLE = b"# TYPE a counter\na_total 900000\n"


def sending(data: bytes, **headers: str) -> Answer:
    """Return a function that answers with some headers, sends data, and closes the connection."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)


def in_chunks(data: bytes) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data)

    return answer


OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.mark.parametrize(
    "answer",
    [
        sending(WHOLE[:20], Content_Length=str(len(WHOLE))),
        sending(WHOLE[:17], Content_Length=str(len(WHOLE))),
        sending(b"", Content_Length=str(len(WHOLE))),
        sending(WHOLE[:-3]),
        sending(gzip.compress(WHOLE)[:-1], Content_Encoding="gzip"),
        sending(gzip.compress(WHOLE)[:30], Content_Encoding="GZIP"),
        sending(gzip.compress(WHOLE)[:5], Content_Encoding="gzip"),
        sending(gzip.compress(WHOLE)[:-1], Content_Encoding="gzip", Content_Length="500"),
        in_chunks(chunked(WHOLE)[:20]),
        in_chunks(chunked(WHOLE)[:-6]),
        in_chunks(chunked(WHOLE)[:1]),
        sending(WHOLE, Content_Type=OPENMETRICS),
        sending(WHOLE, Content_Type=OPENMETRICS, Content_Length=str(len(WHOLE))),
    ],
)
def test_answer_that_breaks_off_is_no_scrape(answer: Answer) -> None:
    """Otherwise the totals that are missing count as new in the next scrape."""
    with serving(answer) as url:
        assert "broke off its answer" in refused(url)


@pytest.mark.parametrize(
    "answer",
    [
        sending(WHOLE, Content_Length=str(len(WHOLE))),
        sending(WHOLE[:-1], Content_Length=str(len(WHOLE) - 1)),
        sending(WHOLE),
        sending(gzip.compress(WHOLE), Content_Encoding="gzip"),
        sending(gzip.compress(WHOLE), Content_Encoding="GZIP"),
        sending(WHOLE, Content_Type="text/plain; version=0.0.4"),
        in_chunks(chunked(WHOLE)),
        sending(WHOLE + b"# EOF", Content_Type=OPENMETRICS),
        sending(WHOLE + b"# EOF\n", Content_Type=OPENMETRICS),
    ],
)
def test_answer_that_is_whole_is_a_scrape(answer: Answer) -> None:
    with serving(answer) as url:
        assert fetch(url, {}, 5.0).values == [900000.0]


@pytest.mark.parametrize(
    "answer",
    [
        text(""),
        text("", 204),
        text("\n \r\n"),
        text("# a comment\n"),
        text("# HELP a A.\n# TYPE a counter\n"),
        sending(b""),
        sending(gzip.compress(b""), Content_Encoding="gzip"),
        sending(b"# EOF\n", Content_Type=OPENMETRICS),
    ],
)
def test_answer_without_metrics_is_no_scrape(answer: Answer) -> None:
    with serving(answer) as url:
        assert "answered without any metrics" in refused(url)
        with pytest.raises(SnapshotError, match="without any metrics"):
            take_snapshot(url)


def test_url_with_characters_beyond_ascii_is_read() -> None:
    seen: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.append(handler.path)
        text("up 1\n")(handler)

    with serving(answer) as url:
        fetch(f"{url}/é%20?name[]=ü&b=%C3%A9#x", {}, 5.0)
    assert seen == ["/metrics/%C3%A9%20?name[]=%C3%BC&b=%C3%A9"]


@pytest.mark.parametrize("host", ["a..b", "a" * 64, "é" * 64])
def test_url_with_a_host_that_is_no_name_is_refused(host: str) -> None:
    assert "is no URL of metrics" in refused(f"http://{host}/metrics")


@pytest.mark.parametrize(
    "header", [("X", "\u2603"), ("X", "a\r\nb: c"), ("X", "a\x00"), ("é", "a"), ("", "a"), ("X:", "a")]
)
def test_header_that_cannot_be_sent_is_refused(header: tuple[str, str]) -> None:
    """The message does not have the value, which may be a secret."""
    with pytest.raises(SnapshotError, match="cannot be sent") as caught:
        take_snapshot("http://127.0.0.1:1/metrics", headers=dict([header]))
    assert str(caught.value).startswith(f"the header {header[0]!r} cannot be sent: it must")


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_timeout_that_is_not_positive_is_refused(timeout: float) -> None:
    with pytest.raises(SnapshotError, match="timeout"):
        take_snapshot("http://127.0.0.1:1/metrics", timeout=timeout)
