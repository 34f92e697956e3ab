"""The benchmarks run and print their tables. No test checks a speed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.__main__ import main
from benchmarks.pairing import BARE, Cost, Variant, compare
from tests import interpreters

ROOT = Path(__file__).resolve().parents[2]


Done = subprocess.CompletedProcess[str]


def run_process(*arguments: str) -> Done:
    """Run the command line in a process of its own."""
    return interpreters.run(
        [sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT, capture_output=True, timeout=180
    )


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Return a function that runs the command line in this process. What it measures has processes."""
    programs = SimpleNamespace(run=interpreters.run, Popen=interpreters.Popen, PIPE=subprocess.PIPE)
    for name in ("live", "load", "paired_table", "registry", "scrapes", "ticks"):
        monkeypatch.setattr(f"benchmarks.{name}.subprocess", programs)

    def run(*arguments: str) -> Done:
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
        code, reason = 0, ""
        try:
            main()
        except SystemExit as error:
            code, reason = (error.code, "") if isinstance(error.code, int) else (1, str(error.code))
        output, errors = capsys.readouterr()
        return Done(arguments, code, output, errors + reason)

    return run


def test_requests_prints_a_table_for_each_framework(benchmarks: Callable[..., Done]) -> None:
    """The figures are not compared with the goals: one round has no significance."""
    done = benchmarks(
        "requests", "--quick", "--rounds=1", "--no-peers", "--only", "multi-process values, 1 route"
    )
    assert done.returncode == 0, done.stderr
    frameworks = ("Flask", "Django", "Django async", "Starlette")
    titles = [f"{name}, multi-process values, 1 route" for name in frameworks]
    tables = done.stdout.split("\n\n")[2:]
    assert [table.partition("  ")[0] for table in tables if table] == titles
    for table in tables[:-1]:
        rows = [line.split()[0] for line in table.splitlines()[1:]]
        assert rows == ["bare", "floor", "web-prom"]


def test_requests_measures_a_thousand_routes_and_other_exporters(benchmarks: Callable[..., Done]) -> None:
    """An exporter that is not installed, or has no such values, is a line of the table."""
    done = benchmarks("--quick", "--rounds=1", "--only", "Flask, multi-process values, 1000 routes")
    assert done.returncode == 0, done.stderr
    assert "prometheus-flask-exporter" in done.stdout
    assert "OpenTelemetry                              not measured: " in done.stdout


def test_queries_prints_a_table_for_each_subject(benchmarks: Callable[..., Done]) -> None:
    done = benchmarks("queries", "--quick", "--rounds=1", "--no-peers", "--only", "single-process")
    assert done.returncode == 0, done.stderr
    tables = [table for table in done.stdout.split("\n\n")[2:] if table]
    assert [table.partition("  ")[0] for table in tables] == [
        f"{subject}, single-process"
        for subject in (
            "Query of Django",
            "Django cache, hit and set",
            "Django cache, get_or_set and get_many",
            "Query of SQLAlchemy",
            "Django request, 5 queries, 2 cache hits",
        )
    ]
    for table in tables:
        assert [line.split()[0] for line in table.splitlines()[1:]] == ["bare", "floor", "web-prom"]


def test_restarts_loses_nothing_and_leaves_few_files() -> None:
    """These results do not depend on time. The duration of a scrape is printed and not checked."""
    done = run_process("restarts", "--quick", "--rounds=1")
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("  ")]
    assert [row.split()[0] for row in rows] == ["value", "counted", "decreases", "warm", "cold"]
    assert not [row for row in rows[:3] if row.endswith("missed")], done.stdout


def test_load_prints_a_row_before_and_after_the_advice(benchmarks: Callable[..., Done]) -> None:
    done = benchmarks("load", "--quick", "--only", "I/O-bound")
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("  --workers")]
    assert len(rows) == 2, done.stdout
    assert rows[0].startswith("  --workers 2 --threads 1 "), done.stdout


def test_ticks_prints_a_table(benchmarks: Callable[..., Done]) -> None:
    """Two rows for each handler: the first scrape, and later ones."""
    done = benchmarks("ticks", "--quick", "--only", "single-process")
    assert done.returncode == 0, done.stderr
    rows = [line[2:30].rstrip() for line in done.stdout.split("worst delay\n")[1].splitlines() if line]
    handlers = ("web-prom", "prometheus-client")
    scraped = [f"{name}, {when}" for name in handlers for when in ("first", "later")]
    assert rows == ["no scrape", "no scrape", *scraped]


def test_live_prints_a_table(benchmarks: Callable[..., Done]) -> None:
    """A row without snapshots, and one for each kind of work."""
    done = benchmarks("live", "--quick")
    assert done.returncode == 0, done.stderr
    rows = [line[2:30].rstrip() for line in done.stdout.split("worst\n")[1].splitlines() if "%" in line]
    assert rows == ["no snapshot", "first", "later", "answer"]


def test_registry_prints_a_table(benchmarks: Callable[..., Done]) -> None:
    """The table is printed only if both outputs are equal."""
    done = benchmarks("registry", "--quick", "--rounds=1")
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("  ")]
    assert [row.split()[0].strip(",") for row in rows] == [
        "prometheus_client",
        "warm",
        "cold",
        "most",
        "kept",
    ]
    assert all(row.split(": ")[1].startswith(("met", "MISSED")) for row in rows[1:3])


def test_unknown_benchmark_or_case_is_rejected(benchmarks: Callable[..., Done]) -> None:
    """The message names what exists."""
    done = benchmarks("request")
    assert (done.returncode, "the benchmarks are requests" in done.stderr) == (2, True)
    done = benchmarks("--only", "rails")
    assert (done.returncode, "Flask, single-process values, 1 route;" in done.stderr) == (1, True)


def test_scrapes_prints_both_and_the_goals(benchmarks: Callable[..., Done]) -> None:
    """The table is printed only if both outputs are equal. The figures of one round have no significance."""
    done = benchmarks("scrapes", "--rounds=1", "--only", "4 processes x 2,000 series")
    assert done.returncode == 0, done.stderr
    *_, table, _ = done.stdout.split("\n\n")
    title, *rows = table.splitlines()
    assert title.startswith("4 processes x 2,000 series ")
    assert len(rows) == 7
    assert sum(row.endswith((": met", ": MISSED")) or ": met (" in row for row in rows) >= 3
    done = benchmarks("scrapes", "--only", "rails")
    assert (done.returncode, "8 processes x 95,000 series;" in done.stderr) == (1, True)


def test_growth_without_matplotlib_names_what_is_missing(
    benchmarks: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the benchmarks need matplotlib."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = benchmarks("growth", "--rounds=1")
    assert (done.returncode, "install web-prom[bench]" in done.stderr) == (1, True)


def test_compare_serves_the_same_requests_and_compares_within_each_round() -> None:
    """The bare variant is reported itself, the others by their difference, each after a warm-up."""
    served: dict[str, list[str]] = {BARE: [], "other": []}
    active = ""

    def variant(name: str) -> Variant:
        def app(environ: dict[str, object], start_response: object) -> list[bytes]:
            assert active == name
            served[name].append(str(environ["PATH_INFO"]))
            environ["left"] = "behind"
            return []

        def activate() -> None:
            nonlocal active
            active = name

        return Variant(name, app, activate)

    environs: list[dict[str, object]] = [{"PATH_INFO": path} for path in ("/a", "/b", "/c")]
    rounds: list[int] = []
    costs = compare([variant(BARE), variant("other")], environs, rounds=4, requests=2, progress=rounds.append)
    assert rounds == [1, 2, 3, 4]
    assert served[BARE] == served["other"]
    assert served[BARE][-8:] == ["/a", "/b", "/c", "/a", "/b", "/c", "/a", "/b"]
    assert environs == [{"PATH_INFO": "/a"}, {"PATH_INFO": "/b"}, {"PATH_INFO": "/c"}]
    assert list(costs) == [BARE, "other"]
    assert all(isinstance(cost, Cost) and cost.low <= cost.median <= cost.high for cost in costs.values())


def test_calls_prints_a_table_for_each_kind_of_values(benchmarks: Callable[..., Done]) -> None:
    done = benchmarks("calls", "--quick", "--rounds=1")
    assert done.returncode == 0, done.stderr
    tables = [table for table in done.stdout.split("\n\n")[2:] if table]
    titles = [f"Decorated function, {kind}-process" for kind in ("single", "multi")]
    assert [table.partition("  ")[0] for table in tables] == titles
    assert all("track_in_progress" in table for table in tables)


def test_outgoing_prints_a_table_for_each_library(benchmarks: Callable[..., Done]) -> None:
    done = benchmarks("outgoing", "--quick", "--rounds=1", "--only", "single-process")
    assert done.returncode == 0, done.stderr
    tables = [table for table in done.stdout.split("\n\n")[2:] if table]
    titles = [f"Request of {library}, single-process" for library in ("urllib3", "requests", "httpx")]
    assert [table.partition("  ")[0] for table in tables] == titles
