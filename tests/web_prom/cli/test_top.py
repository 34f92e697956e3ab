"""``web-prom top``: what is printed, and the exit code, against real servers."""

from __future__ import annotations

import io
import itertools
import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.web_prom.cli.services import Answer, growing, serving, shop, text
from web_prom.__main__ import main
from web_prom.cli import output
from web_prom.cli.frame import Order, frame
from web_prom.cli.numbers import ABSENT, age, count, duration, in_bytes, percent, rate, sparkline
from web_prom.cli.output import Painter
from web_prom.cli.targets import View
from web_prom.cli.terminal_text import to_ascii, width_of
from web_prom.live.model import RouteRow


def top(*arguments: str) -> int:
    return main(["top", *arguments, "--interval", "0.3", "--timeout", "2"])


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_top_prints_rates_between_two_scrapes(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(growing()) as url:
        assert top(url, "--once") == 0
    printed = capsys.readouterr().out
    (line,) = (line for line in printed.splitlines() if line.startswith("GET /orders"))
    assert 15 < float(line.split()[2]) < 40
    assert "Requests/s" in printed
    assert "64 MB" in printed
    assert "\x1b" not in printed
    assert max(map(width_of, printed.splitlines())) <= 80


def test_top_states_no_percentile_above_the_highest_bucket(capsys: pytest.CaptureFixture[str]) -> None:
    numbers = itertools.count(10, 10)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        requests = next(numbers)
        text(shop(requests=requests).replace(f'le="0.1"}} {requests}', 'le="0.1"} 0'))(handler)

    with serving(answer) as url:
        assert top(url, "--once") == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("GET /orders"))
    assert "≥ 100 ms" in line
    assert width_of(line) <= 80


def test_top_shows_several_services_of_which_one_is_bad(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(growing(route="/a")) as one, serving(growing(route="/b")) as other:
        assert top(one, "http://127.0.0.1:1/metrics", other, "--once") == 3
    printed = capsys.readouterr().out
    assert [printed.count(name) for name in ("GET /a ", "GET /b ", "cannot be reached")] == [1, 1, 1]


def test_top_prints_the_snapshot_of_each_service(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(text(shop(requests=10))) as url:
        assert top(url, "http://127.0.0.1:1/metrics", "--json") == 3
    document, failure = map(json.loads, capsys.readouterr().out.splitlines())
    assert (document["version"], document["requests"]["routes"][0]["statuses"]["200"]) == (1, 10)
    assert "cannot be reached" in failure["error"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (text("<!doctype html><title>Shop</title>"), "something else than metrics"),
        (text("<!doctype html>", content_type="text/html"), "no page of metrics"),
        (text("no", 404), "answered 404"),
        (text("no", 401), "--bearer-token-file"),
    ],
)
def test_top_says_why_an_answer_is_no_metrics(
    answer: Answer, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(answer) as url:
        assert top(url, "--once") == 3
    assert message in " ".join(capsys.readouterr().out.split())


def test_top_says_that_a_service_hangs(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = "http://127.0.0.1:{1}/metrics".format(*server.getsockname())
        assert main(["top", url, "--once", "--interval", "0.3", "--timeout", "0.3"]) == 3
    assert "did not answer within 0.3 s" in " ".join(capsys.readouterr().out.split())


def test_top_says_that_an_answer_is_too_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web_prom.live.remote.MAX_BYTES", 1_000_000)
    with serving(text("# " + "x" * 2_000_000 + "\n")) as url:
        assert top(url, "--once") == 3
    assert "longer than 1 MB" in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--once"], ["--json"], []])
def test_top_refuses_what_is_no_url(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "localhost:8000", *options]) == 3
    assert "is no URL of metrics" in capsys.readouterr().err


def test_top_writes_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("rich")
    picture = tmp_path / "top.svg"
    with serving(growing()) as url:
        assert top(url, "--svg", str(picture)) == 0
        assert top(url, "--svg", str(tmp_path / "none" / "top.svg")) == 1
    assert "<svg" in picture.read_text("utf-8")
    assert "orders" in picture.read_text("utf-8")


def test_top_without_rich_prints_text_and_refuses_pictures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rich", None)
    with serving(growing()) as url:
        assert top(url, "--once") == 0
        with pytest.raises(SystemExit) as caught:
            top(url, "--svg", "top.svg")
    assert caught.value.code == 2
    assert "web-prom[cli]" in capsys.readouterr().err


# Lines -----------------------------------------------------------------------------------------------------


def row(route: str, **values: Any) -> RouteRow:
    given = {
        name: values.get(name) for name in ("rate", "errors", "p50", "p95", "p99", "queries", "repeated")
    }
    return RouteRow(
        method="GET", route=route, requests=values.get("requests", 1.0), seconds=0.0,
        share=values.get("share"), **given,  # type: ignore[arg-type]
    )  # fmt: skip


def view(*rows: RouteRow, title: str = "http://shop/metrics") -> View:
    snapshot = {
        "cost": {"series": 3}, "verdicts": [], "workers": [],
        "requests": {"buckets": [1.0, None], "in_progress": 0.0, "routes": []},
    }  # fmt: skip
    return View(title=title, snapshot=snapshot, routes=list(rows))


def lines(*views: View, order: Order = Order(), width: int = 80, **options: Any) -> list[str]:  # noqa: B008
    shown = frame(views, order, width=width, **options)
    return ["".join(span.text for span in line) for line in shown]


def routes(found: list[str]) -> Iterator[str]:
    return (line.split()[1] for line in found if line.startswith("GET "))


def test_routes_are_sorted_by_the_key_and_reversed_by_the_same_key() -> None:
    shown = view(row("/a", p95=0.1, share=0.5), row("/b", p95=0.3, share=0.2), row("/c"))
    assert list(routes(lines(shown))) == ["/a", "/b", "/c"]
    order = Order().chosen("p95")
    assert list(routes(lines(shown, order=order))) == ["/b", "/a", "/c"]
    assert list(routes(lines(shown, order=order.chosen("p95")))) == ["/a", "/b", "/c"]
    assert list(routes(lines(shown, order=order.chosen("name")))) == ["/a", "/b", "/c"]


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    shown = view(row("/" + "long" * 30, queries=3.0), row("/" + "数" * 90), title="http://" + "x" * 300)
    assert max(map(width_of, lines(shown, width=width))) <= width


def test_routes_fill_the_height_of_the_terminal() -> None:
    shown = view(*(row(f"/{number}") for number in range(100)))
    assert len(lines(shown, height=24)) <= 24
    assert len(list(routes(lines(shown, height=24)))) >= 15
    assert len(lines(shown, shown, height=24)) <= 24


def test_text_of_a_service_cannot_change_the_terminal() -> None:
    found = lines(view(row("/\x1b[2J\x07")), View(title="x", error="\x1b]0;x\x07"))
    assert not any(sign in line for line in found for sign in "\x1b\x07")


def test_painter_writes_ascii_for_a_terminal_without_unicode() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    painted = Painter(stream).paint(frame([view(row("/é"))], Order(), width=80), 80)
    assert all(line.isascii() for line in painted)


@pytest.mark.parametrize(("no_color", "is_terminal"), [("1", True), ("", False), ("", True)])
def test_painter_uses_colors_on_a_terminal_only(
    no_color: str, is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rich")

    class Stream(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return is_terminal

    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm-256color")
    painted = "".join(output.Painter(Stream()).paint(frame([view(row("/a"))], Order(), width=80), 80))
    assert ("\x1b" in painted) is (is_terminal and not no_color)


def test_numbers_are_written_in_the_unit_that_fits() -> None:
    assert [rate(value) for value in (0.123, 12.34, 1234, 12345)] == ["0.12", "12.3", "1,234", "12.3 k"]
    assert [percent(value) for value in (0, 0.0005, 0.0123, 1)] == ["0 %", "< 0.1 %", "1.2 %", "100 %"]
    assert [duration(value) for value in (0, 0.0002, 0.0042, 0.5, 1.25)] == [
        *("0 ms", "200 µs", "4.2 ms", "500 ms", "1.25 s"),
    ]
    assert [age(value) for value in (30, 600, 7300, 200_000)] == ["30 s", "10 min", "2 h", "2 days"]
    assert [in_bytes(value) for value in (10, 64e6, 1.5e9)] == ["10 B", "64 MB", "1.5 GB"]
    assert [count(value) for value in (3, 1.5, 2_500_000)] == ["3", "1.5", "2.5 M"]
    assert {write(None) for write in (rate, percent, duration, age, in_bytes, count)} == {ABSENT}
    assert (sparkline([0, 1, 2], 2), sparkline([0, 0], 5), to_ascii("▁█")) == ("▅█", "▁▁", "_#")
