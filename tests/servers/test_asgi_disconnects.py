"""Clients that disconnect before the response starts, where the application never checks for it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.servers.client import reset
from tests.servers.documented import commands, requirements
from tests.servers.prefork import running
from tests.servers.process import Scratch, wait_until

COMMANDS = commands()
APP = "tests.servers.apps.asgi_app:app"

# A server that does not report disconnects: docs/how-to/servers.rst.
SILENT = {"granian"}

KINDS = [
    ("GET", "/slow", "499"),
    ("POST", "/slow-body", "499"),
    ("GET", "/slow-sync", "499"),
    ("GET", "/slow-stream", "499"),
    ("GET", "/slow?status=503", "503"),  # an error status is kept
]


@pytest.mark.parametrize("name", [pytest.param(name, marks=requirements(name)) for name in COMMANDS])
def test_fault_91_client_that_disconnects_before_the_response_is_499(
    name: str, place: Scratch, tmp_path: Path
) -> None:
    directory, gate = place.folder / "shared", place.folder / "gate"
    directory.mkdir()
    with running(place, COMMANDS[name].serving(APP), directory) as server:
        before = server.rest()
        opened = []
        for end in (lambda each: each.close(), reset):
            for method, path, _ in KINDS:
                mark = "&" if "?" in path else "?"
                head = f"{method} {path}{mark}until={gate} HTTP/1.1\nHost: 127.0.0.1\n"
                body = "Content-Length: 5\n\nhello" if method == "POST" else "\n"
                opened.append((server.raw(head + body), end))
        wait_until(lambda: server.gauge("http_requests_in_progress") == len(opened), "the requests")
        for client, end in opened:
            end(client)
        server.wait_until_idle()  # the event loops notice the disconnects
        gate.touch()
        expected = before + Counter(
            {
                (method, path.partition("?")[0], "200" if name in SILENT and status == "499" else status): 2
                for method, path, status in KINDS
                if "?" not in path
            }
        )
        expected["GET", "/slow", "503"] += 2
        server.settle(expected)
        assert server.exceptions() == {}
