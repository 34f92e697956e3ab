"""``web-prom live``: the page beside running services, in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests import interpreters
from tests.web_prom.cli.services import growing, serving
from tests.web_prom.support import ROOT
from web_prom.__main__ import main

pytestmark = pytest.mark.slow  # the tests start processes

PATIENCE_SECONDS = 30.0


class Page:
    """A running command, and a browser with one cookie."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        found = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/#token=([\w-]+)\n", process.stdout.readline())
        assert found
        self.base, self.token = found[1], found[2]
        self._cookie = ""

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        sent = {**({"Cookie": self._cookie} if self._cookie else {}), **headers}
        request = urllib.request.Request(self.base + path, headers=sent)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
                self._cookie = response.headers.get("Set-Cookie", self._cookie).partition(";")[0]
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def sign_in(self) -> int:
        return self.get("/session", Authorization=f"Bearer {self.token}")[0]


@contextlib.contextmanager
def showing(*arguments: str) -> Iterator[Page]:
    process = interpreters.Popen(
        [sys.executable, "-m", "web_prom", "live", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Page(process)
    finally:
        process.kill()
        process.communicate()


def test_live_prints_an_address_whose_token_works_once() -> None:
    with serving(growing()) as url, showing(url) as page:
        assert page.get("/snapshot.json")[0] == 401
        assert page.get("/session", Authorization="Bearer no")[0] == 401
        assert page.sign_in() == 204
        assert "<title>" in page.get("/")[1]
        document = json.loads(page.get("/snapshot.json")[1])
        assert (document["title"], document["requests"]["routes"][0]["route"]) == (url, "/orders")
        other = Page.__new__(Page)
        other.base, other.token, other._cookie = page.base, page.token, ""
        assert other.sign_in() == 401


def test_live_has_a_page_for_each_service_and_a_list() -> None:
    with (
        serving(growing(route="/a")) as one,
        serving(growing(route="/b")) as two,
        showing(one, two, "http://127.0.0.1:1/<metrics>") as page,
    ):
        assert (page.get("/")[0], page.get("/2/")[0]) == (401, 401)
        assert page.sign_in() == 204
        listed = page.get("/")[1]
        assert re.findall(r'href="(\d/)"', listed) == ["1/", "2/", "3/"]
        assert "&lt;metrics&gt;" in listed
        (style,) = re.findall(r'href="(assets/\w+/live\.css)"', listed)
        assert page.get(f"/{style}")[0] == 200
        routes = [
            json.loads(page.get(f"/{n}/snapshot.json")[1])["requests"]["routes"][0]["route"] for n in (1, 2)
        ]
        assert routes == ["/a", "/b"]
        status, text = page.get("/3/snapshot.json")
        assert (status, "cannot be reached" in text) == (502, True)
        assert [page.get(path)[0] for path in ("/4/", "/snapshot.json", "/1/nothing")] == [404, 404, 404]


def test_live_keeps_the_history_while_nobody_looks() -> None:
    with serving(growing()) as url, showing(url, "--interval", "0.2") as page:
        page.sign_in()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not json.loads(page.get("/history.json")[1])["points"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_live_answers_while_a_service_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = "http://127.0.0.1:{1}/metrics".format(*server.getsockname())
        with showing(url, "--timeout", "0.3") as page:
            page.sign_in()
            assert page.get("/")[0] == 200
            status, text = page.get("/snapshot.json")
            assert (status, "did not answer within 0.3 s" in text) == (502, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_live_ends_with_a_signal_and_names_what_it_could_not_read(number: int) -> None:
    with showing("http://127.0.0.1:1/metrics") as page:
        assert page.process.stderr is not None
        assert "cannot be reached" in page.process.stderr.readline()
        page.process.send_signal(number)
        assert page.process.wait(PATIENCE_SECONDS) == 0
        assert "Traceback" not in page.process.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["localhost"], 3, "is no URL of metrics"),
        (["http://127.0.0.1:1/", "--bind", "192.0.2.1:80"], 1, "cannot listen at 192.0.2.1:80"),
        (["http://127.0.0.1:1/", "--bearer-token-file", "/no/such"], 3, "the token cannot be read"),
    ],
)
def test_live_says_why_it_cannot_start(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[Any]
) -> None:
    assert main(["live", *arguments]) == code
    assert message in capsys.readouterr().err


def test_live_refuses_what_is_no_address(capsys: pytest.CaptureFixture[Any]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["live", "http://127.0.0.1:1/", "--bind", "9464"])
    assert caught.value.code == 2
    assert "'9464' is no address; allowed: host:port" in capsys.readouterr().err
