"""``python -m web_prom check``: what is printed, and the exit code, against real servers."""

from __future__ import annotations

import gzip
import io
import json
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.web_prom.cli.services import Answer, serving, text
from web_prom.__main__ import main
from web_prom.live import remote


def check(url: str, *options: str) -> int:
    return main(["check", url, "--window", "0.05", *options])


@pytest.mark.parametrize(
    ("body", "code", "word"),
    [
        ("up 1\n", 0, "OK"),
        ("web_prom_damaged_files 1\n", 1, "WARNING"),
        ("web_prom_storage_errors_total 1\n", 1, "WARNING"),
        ("web_prom_scrape_duration_seconds 9\n", 2, "CRITICAL"),
    ],
)
def test_check_prints_verdicts_and_returns_their_code(
    body: str, code: int, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(text(body)) as url:
        assert check(url) == code
    printed = capsys.readouterr().out
    assert printed.startswith(word)
    assert max(map(len, printed.splitlines())) <= 80


def test_check_compares_two_scrapes(capsys: pytest.CaptureFixture[str]) -> None:
    counts = iter([5, 8])

    def answer(handler: BaseHTTPRequestHandler) -> None:
        text(f"http_server_listen_overflows_total {next(counts)}\n")(handler)

    with serving(answer) as url:
        assert check(url) == 2
    assert "refused 3 connections" in capsys.readouterr().out


def test_check_with_a_window_of_zero_scrapes_once() -> None:
    seen: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.append(handler.path)
        text("up 1\n")(handler)

    with serving(answer) as url:
        assert main(["check", url, "--window", "0"]) == 0
    assert seen == ["/metrics"]


def test_check_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(text("web_prom_damaged_files 1\n")) as url:
        assert check(url, "--json") == 1
    (verdict,) = json.loads(capsys.readouterr().out)["verdicts"]
    assert verdict["name"] == "corrupt_files"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437", "gb2312", "utf-8"])
def test_check_prints_in_each_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    lines = f'{"a" * 41}{{"é☃"="1"}} 1\n{{"ü☃"}} 1\nweb_prom_corrupt_files{{path="/é☃"}} 0\n'
    with serving(text(lines)) as url:
        assert check(url) == 0
    stream.seek(0)
    shown = stream.read()
    assert f"{'a' * 39}…" in shown or f"{'a' * 39}~" in shown
    assert ("☃" in shown) is (encoding == "utf-8")


def test_check_sends_headers_and_a_token(tmp_path: Path) -> None:
    seen: list[dict[str, str]] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.append(dict(handler.headers))
        text("up 1\n")(handler)

    token = tmp_path / "token"
    token.write_text("\ufeffsecret\n", "utf-8")
    options = ("--header", "X-Tenant: a: b", "--header", "X-City:Zürich", "--header", "X-Empty:")
    with serving(answer) as url:
        assert check(url, *options, "--bearer-token-file", str(token)) == 0
    assert [seen[0][f"X-{name}"] for name in ("Tenant", "City", "Empty")] == ["a: b", "Zürich", ""]
    assert seen[0]["Authorization"] == "Bearer secret"


def test_check_reads_compressed_answers() -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        handler.wfile.write(gzip.compress(b"up 1\n"))

    with serving(answer) as url:
        assert check(url) == 0


def unreadable(url: str, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["check", url, "--window", "0", "--timeout", "0.5", *options]) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///etc/passwd", "is no URL of metrics"),
        ("localhost:8000/metrics", "is no URL of metrics"),
        ("http://127.0.0.1:1/metrics", "cannot be reached"),
        ("http://name.invalid/metrics", "cannot be reached"),
        ("http://127.0.0.1:port/metrics", "is no URL of metrics"),
        ("http://[::1/metrics", "is no URL of metrics"),
    ],
)
def test_check_says_why_a_url_cannot_be_read(
    url: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in unreadable(url, capsys)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (text("<!doctype html><title>Shop</title>"), "something else than metrics"),
        (text("\ufeff{}"), "something else than metrics"),
        (text("no", 404), "answered 404"),
        (text("no", 401), "--bearer-token-file"),
        (text("no", 500), "answered 500"),
    ],
)
def test_check_says_why_an_answer_is_no_metrics(
    answer: Answer, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(answer) as url:
        assert message in unreadable(url, capsys)


def test_check_says_that_a_server_hangs(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert "did not answer within 0.5 s" in unreadable(
            "http://127.0.0.1:{1}/metrics".format(*server.getsockname()), capsys
        )


def test_check_gives_up_on_a_server_that_sends_slowly(capsys: pytest.CaptureFixture[str]) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(200):
            handler.wfile.write(b"# a comment\n")
            time.sleep(0.05)

    begun = time.monotonic()
    with serving(answer) as url:
        assert "did not answer within 0.5 s" in unreadable(url, capsys)
    assert time.monotonic() - begun < 9


@pytest.mark.parametrize("compressed", [False, True])
def test_check_reads_no_more_than_its_limit(
    compressed: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "MAX_BYTES", 1_000_000)
    data = b"# " + b"x" * (2 << 20) + b"\n"

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        if compressed:
            handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        handler.wfile.write(gzip.compress(data) if compressed else data)

    with serving(answer) as url:
        assert "longer than 1 MB" in unreadable(url, capsys, "--timeout", "10")


def test_check_says_that_an_answer_broke_off(capsys: pytest.CaptureFixture[str]) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        handler.wfile.write(gzip.compress(b"up 1\n" * 100)[:20])

    with serving(answer) as url:
        assert "broke off" in unreadable(url, capsys)


@pytest.mark.parametrize("content", [None, b"", b"\xff", b"two\nlines", "t\u00f6ken".encode()], ids=repr)
def test_check_says_that_the_token_cannot_be_read(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_bytes(content)
    assert "the token cannot be read" in unreadable(
        "http://127.0.0.1:1/metrics", capsys, "--bearer-token-file", str(token)
    )


def test_check_writes_errors_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "http://127.0.0.1:1/metrics", "--window", "0", "--json"]) == 3
    assert "cannot be reached" in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.parametrize(
    "options",
    [
        *(["--window", each] for each in ("-1", "x", "nan")),
        *(["--timeout", each] for each in ("9999", "0", "0.01")),
        *(
            ["--header", each]
            for each in ("none", ": a", "a b: c", "é: a", "a: \u2603", "a: b\x00", "a: b\x0bc")
        ),
    ],
    ids=" ".join,
)
def test_check_refuses_options_that_are_not_allowed(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["check", "http://127.0.0.1:1/metrics", *options])
    assert caught.value.code == 2
    assert repr(options[-1]) in capsys.readouterr().err
