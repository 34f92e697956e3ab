"""Database connections of callbacks and collectors, in every thread that answers a scrape."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import interpreters
from tests.web_prom.support import ROOT

pytestmark = pytest.mark.slow


ENDPOINTS = [
    "django wsgi",
    "no limit",
    "django asgi",
    "view",
    "make_wsgi_app",
    "make_asgi_app",
    "start_http_server",
]


VALUES = "asked 7.0,collected 7.0"


def run(action: str, max_age: int | None, tmp_path: Path) -> list[str]:
    """Run the project in a process of its own, and return the lines that it printed."""
    done = interpreters.run(
        [
            sys.executable,
            "-B",
            "-m",
            "tests.django_prom.databases",
            action,
            str(max_age),
            str(tmp_path / "db"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_fault_52_scrape_closes_its_connections(tmp_path: Path) -> None:
    """CONN_MAX_AGE is 0, so a restart of the database causes no error."""
    assert run("scrapes", 0, tmp_path) == [
        f"{endpoint},{VALUES},closed" for endpoint in ENDPOINTS for _ in range(10)
    ]


def test_fault_52_scrape_reconnects_after_an_error(tmp_path: Path) -> None:
    """After a failover each thread has one error, like a request of Django, and then reconnects.

    The gauge is asked in the thread of the scrape, and the collector has its own thread. The second scrape of
    an endpoint is the first one after the restart.
    """
    lines = run("scrapes", None, tmp_path)

    def scrapes_without(name: str, endpoint: str) -> list[int]:
        found = [line for line in lines if line.startswith(f"{endpoint},")]
        assert len(found) == 10
        return [number for number, line in enumerate(found) if f",{name} 7.0" not in line]

    for endpoint in ("django wsgi", "no limit", "make_wsgi_app"):
        assert scrapes_without("asked", endpoint) == scrapes_without("collected", endpoint) == [1], endpoint
    # The main thread has been connected since before the restart for the endpoint "django asgi".
    assert scrapes_without("asked", "view") == [0]
    assert scrapes_without("collected", "view") == [1]
    # Each connection has a new thread.
    assert scrapes_without("asked", "start_http_server") == []
    assert scrapes_without("collected", "start_http_server") == [1]
    # The thread of the first scrape can answer again at any time, or never.
    assert 0 not in scrapes_without("asked", "make_asgi_app")
    assert len(scrapes_without("asked", "make_asgi_app")) <= 1
    assert scrapes_without("collected", "make_asgi_app") == [1]
    # Six scrapes at once were the first ones, in six threads at most. The output has one of each six.
    assert 0 not in scrapes_without("asked", "django asgi")
    assert len(scrapes_without("asked", "django asgi")) <= 6
    assert scrapes_without("collected", "django asgi") in ([], [1])


def test_fault_52_scrape_does_not_end_a_transaction(tmp_path: Path) -> None:
    """Neither that of a test around its client, nor one without autocommit around a call of the view."""
    assert run("transactions", 0, tmp_path) == ["11 orders"]
