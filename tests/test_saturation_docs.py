"""docs/how-to/saturation.rst shows its rules unchanged, promtool accepts them, and all names exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.manifests import PROMETHEUS, documents, recorded_names
from tests.pages import ROOT, code_blocks
from tests.programs import needs_program

PAGE = ROOT / "docs" / "how-to" / "saturation.rst"
TEXT = PAGE.read_text("utf-8")
RULES = PROMETHEUS / "saturation.yml"

(PROMQL,) = code_blocks(TEXT, "promql")
# A comment above each says what it shows.
EXPRESSIONS = [
    re.sub(r"^#.*\n", "", part, flags=re.MULTILINE).strip() for part in PROMQL.split("\n\n") if part.strip()
]


def rules() -> list[dict[str, Any]]:
    """Return all rules of the file."""
    (document,) = documents(RULES)
    return [rule for group in document["groups"] for rule in group["rules"]]


def promtool(*arguments: str, cwd: Path = PROMETHEUS) -> str:
    """Run promtool, which must succeed; return its output."""
    program = needs_program("promtool", package="prometheus")
    done = subprocess.run([program, *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_page_shows_the_rules_unchanged() -> None:
    assert code_blocks(TEXT, "yaml") == [RULES.read_text("utf-8")]


def test_links_of_the_page_exist() -> None:
    targets = re.findall(r"<(\.\./[^>]+)>", TEXT)
    for target in targets:
        assert (PAGE.parent / target.partition("#")[0]).exists(), target


def test_promtool_accepts_the_rules() -> None:
    output = promtool("check", "rules", "--lint-fatal", RULES.name)
    assert f"SUCCESS: {len(rules())} rules found" in output


def test_promtool_parses_the_expressions_of_the_page(tmp_path: Path) -> None:
    assert len(EXPRESSIONS) == 6
    group = {
        "name": "page",
        "rules": [
            {"record": f"page:{number}", "expr": each} for number, each in enumerate(EXPRESSIONS, ord("a"))
        ],
    }
    (tmp_path / "page.yml").write_text(yaml.safe_dump({"groups": [group]}))
    assert f"SUCCESS: {len(EXPRESSIONS)} rules found" in promtool("check", "rules", "page.yml", cwd=tmp_path)


@pytest.mark.parametrize("expression", [*EXPRESSIONS, *(rule["expr"] for rule in rules())])
def test_expressions_use_existing_metrics(expression: str) -> None:
    """They are in README's tables, or recorded by another rule."""
    rows = re.findall(r"^([a-z]\w+)", (ROOT / "README.rst").read_text("utf-8"), re.MULTILINE)
    recorded = {rule["record"] for rule in rules() if "record" in rule} | set(recorded_names())
    for name in re.findall(r"\bjob\w*:[\w:]+", expression):
        assert name in recorded, name
        expression = expression.replace(name, "")
    found = re.findall(r"\b(?:http|asyncio|gevent|anyio|asgiref|process|python|web_prom)_\w+", expression)
    assert found or "(" not in expression
    for name in found:
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        assert {name, base} & {*rows, "process_cpu_seconds_total"}, name


def test_rules_use_the_expressions_of_the_page() -> None:
    """The same divisions and quantiles; the rule for the CPU share leaves out services without requests."""

    def compact(text: str) -> str:
        return re.sub(r"[\s()]|> 0", "", text)

    recorded = [compact(rule["expr"]) for rule in rules() if "record" in rule]
    assert sorted(recorded) == sorted(compact(expression) for expression in EXPRESSIONS)
