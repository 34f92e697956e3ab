"""``web-prom top`` and ``check`` against a real gunicorn with several workers."""

from __future__ import annotations

import json
import re

import pytest

from tests.servers.process import Gunicorn, Scratch, wait_until
from web_prom.__main__ import main

pytestmark = pytest.mark.packages


def test_top_shows_the_numbers_of_the_metrics(place: Scratch, capsys: pytest.CaptureFixture[str]) -> None:
    with Gunicorn(place, workers=3) as server:
        wait_until(lambda: server.value("web_prom_workers") == 3, "all workers", shown=server.log)
        for at in range(40):
            server.get(f"/items/{at % 4}")  # every fourth is a 404
        for _ in range(5):
            server.get("/error")
        wait_until(lambda: server.value("http_requests_total") == 45, "all requests to be counted")
        url = f"http://127.0.0.1:{server.port}/metrics"
        assert main(["top", url, "--json"]) == 0
        snapshot = json.loads(capsys.readouterr().out)
        shown = {
            (row["route"], status): value
            for row in snapshot["requests"]["routes"]
            for status, value in row["statuses"].items()
        }
        for (route, status), value in shown.items():
            assert server.value("http_requests_total", method="GET", route=route, status=status) == value
        assert shown["/items/<int:number>", "404"] == 10
        assert len(snapshot["workers"]) == 3

        assert main(["top", url, "--once", "--interval", "0.2"]) == 0
        printed = capsys.readouterr().out
        assert len(re.findall(r"^[012] .* MB", printed, re.MULTILINE)) == 3
        assert main(["check", url, "--window", "0.2", "--json"]) in (0, 1)
        document = json.loads(capsys.readouterr().out)
        assert document["lint"] == []
        assert document["cardinality"]["series"] > 50
