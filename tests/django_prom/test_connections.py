"""Database connections of callbacks and collectors, in every thread that answers a scrape."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.web_prom.support import ROOT

pytestmark = pytest.mark.slow

WAYS = [
    "django wsgi",
    "no limit",
    "django asgi",
    "view",
    "make_wsgi_app",
    "make_asgi_app",
    "start_http_server",
]
RIGHT = "asked 7.0,collected 7.0"


def run(what: str, max_age: int | None, tmp_path: Path) -> list[str]:
    """Run the project in a process of its own; return the lines that it printed."""
    done = subprocess.run(
        [sys.executable, "-B", "-m", "tests.django_prom.databases", what, str(max_age), str(tmp_path / "db")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_fault_52_no_connection_stays_open(tmp_path: Path) -> None:
    """With CONN_MAX_AGE=0; so a restart of the database is not seen either."""
    assert run("scrapes", 0, tmp_path) == [f"{way},{RIGHT},closed" for way in WAYS for _ in range(10)]


def test_fault_52_a_dead_connection_is_not_used_for_ever(tmp_path: Path) -> None:
    """After a failover each thread sees one error, as a request of Django would, and connects again."""
    lines = run("scrapes", None, tmp_path)
    for way in WAYS:
        wrong = [RIGHT not in line for line in lines if line.startswith(f"{way},")]
        if way == "django asgi":  # up to six threads of the loop's pool answer
            assert sum(wrong) <= 6
        else:
            assert any(wrong), way
            assert not any(wrong[3:]), way


def test_fault_52_transactions_of_the_thread_go_on(tmp_path: Path) -> None:
    """Those of a test around its client, and with autocommit switched off around a scrape by hand."""
    assert run("transactions", 0, tmp_path) == ["11 orders"]
