"""docs/how-to/opentelemetry.rst, run: its commands print what it shows, and its rules pass their tests."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.console import Console, steps
from tests.manifests import PROMETHEUS, documents
from tests.pages import ROOT, code_blocks, sections
from tests.programs import needs_program
from web_prom.metrics.conventions import OPENTELEMETRY
from web_prom.metrics.conventions import PROMETHEUS as DEFAULT

PAGE = ROOT / "docs" / "how-to" / "opentelemetry.rst"
TEXT = PAGE.read_text("utf-8")
SESSIONS = {heading: found for heading, text in sections(PAGE).items() if (found := steps(text))}
RULES = PROMETHEUS / "opentelemetry.yml"

# Durations, and the share of each of the two workers.
VARYING = "^http_.*_seconds_sum|^the SDK, of 400"


@pytest.mark.parametrize("heading", SESSIONS)
def test_commands_print_what_the_page_shows(heading: str, tmp_path: Path) -> None:
    """They are unchanged except for the port."""
    with Console(tmp_path) as shell:
        printed = shell.play(SESSIONS[heading], varying=VARYING)
    for command, lines in printed.items():
        if command.startswith("python opentelemetry_workers.py"):
            numbers = {int(number) for number in re.findall(r"\d+", lines[1].partition("scrapes:")[2])}
            assert all(0 <= number < 400 for number in numbers), "a worker alone does not know all"


def test_page_runs_both_examples() -> None:
    """The page runs each of them and does not only name it."""
    commands = [step.command for session in SESSIONS.values() for step in session]
    for path in (ROOT / "examples").glob("opentelemetry_*.py"):
        assert any(path.name in command for command in commands), path.name


def test_page_shows_the_rules_unchanged() -> None:
    assert code_blocks(TEXT, "yaml") == [RULES.read_text("utf-8")]


def test_promtool_accepts_the_rules() -> None:
    """All of them are valid, and their tests pass."""
    promtool = needs_program("promtool", package="prometheus")
    for command in (["check", "rules", RULES.name], ["test", "rules", "opentelemetry_test.yml"]):
        done = subprocess.run(
            [promtool, *command], cwd=PROMETHEUS, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "SUCCESS" in done.stdout


def test_rules_record_every_default_family() -> None:
    """Each of them is tested."""
    rules = [rule for group in documents(RULES)[0]["groups"] for rule in group["rules"]]
    assert DEFAULT.requests is not None
    assert DEFAULT.exceptions is not None
    duration = {f"{DEFAULT.duration.name}_{suffix}" for suffix in ("bucket", "sum", "count")}
    assert {rule["record"] for rule in rules} == {
        DEFAULT.requests.name, DEFAULT.exceptions.name, DEFAULT.in_progress.name, *duration
    }  # fmt: skip
    known = {OPENTELEMETRY.duration.name, OPENTELEMETRY.in_progress.name, DEFAULT.requests.name}
    for rule in rules:
        asked = re.findall(r"\bhttp_\w+_(?:requests|seconds)\w*", rule["expr"])
        assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked} <= known, rule
    tests = documents(PROMETHEUS / "opentelemetry_test.yml")[0]["tests"]
    tested = {case["expr"] for test in tests for case in test["promql_expr_test"]}
    assert tested == {rule["record"] for rule in rules}


def test_page_tables_have_each_family_and_label() -> None:
    """The histogram has the buckets that the convention advises."""
    families = (OPENTELEMETRY.duration, OPENTELEMETRY.in_progress, OPENTELEMETRY.request_size)
    for family in (*families, OPENTELEMETRY.response_size):
        assert f" {family.name} " in TEXT
        for label in family.labels:
            assert re.search(rf"^{label} ", TEXT, re.MULTILINE), label
    bounds = " ".join(f"{bound:g}" for bound in OPENTELEMETRY.duration_buckets)
    assert bounds in re.sub(r"\s+", " ", TEXT)


def test_links_of_the_page_exist() -> None:
    for target in re.findall(r"<((?:\.\./)?[\w./]+\.\w+)>`_", TEXT):
        assert (PAGE.parent / target).exists(), target
