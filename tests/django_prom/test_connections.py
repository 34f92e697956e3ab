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
    """After a failover each thread has one error, like a request of Django, and then reconnects."""
    lines = run("scrapes", None, tmp_path)
    for endpoint in ENDPOINTS:
        wrong = [VALUES not in line for line in lines if line.startswith(f"{endpoint},")]
        if endpoint == "django asgi":  # up to six threads of the loop's pool answer
            assert sum(wrong) <= 6
        else:
            assert any(wrong), endpoint
            assert not any(wrong[3:]), endpoint


def test_fault_52_scrape_does_not_end_a_transaction(tmp_path: Path) -> None:
    """Neither that of a test around its client, nor one without autocommit around a call of the view."""
    assert run("transactions", 0, tmp_path) == ["11 orders"]
