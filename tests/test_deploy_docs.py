"""docs/how-to/deploy.rst shows its files unchanged, and promtool accepts them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.manifests import (
    KUBERNETES,
    PAGE,
    PROMETHEUS,
    alerts,
    blocks,
    documents,
    named,
    recorded_names,
    replaced,
)
from tests.pages import ROOT
from tests.programs import needs_program
from web_prom.metrics.conventions import DB_QUERIES, DB_REPEATED_QUERIES

TEXT = PAGE.read_text("utf-8")
ELSEWHERE = {"alerts", "opentelemetry", "saturation"}
# Those of OpenTelemetry's names are on docs/how-to/opentelemetry.rst, those of saturation on its own page.
# The alerts are on none.
OWN = [path for path in sorted(PROMETHEUS.glob("*.yml")) if path.stem.split("_")[0] not in ELSEWHERE]
SHOWN = [path for path in OWN if not path.stem.endswith("_test")]
SHOWN += sorted(KUBERNETES.glob("*.yaml"))
TESTS = [path for path in OWN if path.stem.endswith("_test")]


# Page and files --------------------------------------------------------------------------------------


def test_page_shows_each_file_once_and_unchanged() -> None:
    """A block's first line is the file's, and has its name."""
    shown = {re.match(r"# (\S+):", block)[1]: block for block in blocks("yaml")}  # type: ignore[index]
    assert shown == {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in SHOWN}
    assert len(blocks("yaml")) == len(SHOWN)


def test_page_names_each_test_file() -> None:
    for path in TESTS:
        assert f"<../../examples/prometheus/{path.name}>" in TEXT
        assert path.read_text("utf-8").startswith(
            f"# {path.relative_to(ROOT)}: promtool test rules {path.name}\n"
        )


def test_links_of_the_page_exist() -> None:
    for target in re.findall(r"<(\.\./[^>]+)>", TEXT):
        assert (PAGE.parent / target).exists(), target


# Prometheus ------------------------------------------------------------------------------------------


def promtool(*arguments: str | Path, cwd: Path) -> str:
    """Run promtool, which must succeed; return its output."""
    program = needs_program("promtool", package="prometheus")
    done = subprocess.run([program, *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("names", "changes"),
    [
        (["prometheus.yml"], []),
        (["prometheus.yml", "remote_write.yml"], []),
        (["federation.yml"], []),
        # Debian's promtool is built without Kubernetes.
        (["kubernetes.yml"], [("kubernetes_sd_configs:\n      - role: pod", "static_configs: []")]),
    ],
    ids=lambda value: "+".join(value) if value and isinstance(value[0], str) else "",
)
def test_promtool_accepts_the_configuration(
    tmp_path: Path, names: list[str], changes: list[tuple[str, str]]
) -> None:
    """The files that it refers to are included."""
    for path in PROMETHEUS.glob("*.yml"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    text = "".join((PROMETHEUS / name).read_text("utf-8") for name in names)
    for secret in set(re.findall(r"/run/secrets/\S+", text)):
        (tmp_path / Path(secret).name).write_text("x")
        text = text.replace(secret, str(tmp_path / Path(secret).name))
    (tmp_path / "checked.yml").write_text(replaced(text, *changes))
    promtool("check", "config", "checked.yml", cwd=tmp_path)


@named([PROMETHEUS / "recording.yml", PROMETHEUS / "alerts.yml"])
def test_promtool_accepts_the_rules(path: Path) -> None:
    count = len(re.findall(r"^ +- (?:record|alert):", path.read_text("utf-8"), re.MULTILINE))
    assert f"SUCCESS: {count} rules found" in promtool("check", "rules", path.name, cwd=PROMETHEUS)


@named(TESTS)
def test_rules_pass_their_promtool_tests(path: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", path.name, cwd=PROMETHEUS)


def test_each_recording_rule_is_tested() -> None:
    (tests,) = documents(PROMETHEUS / "recording_test.yml")
    asked = " ".join(case["expr"] for test in tests["tests"] for case in test["promql_expr_test"])
    # These are tested through the rules that use them.
    quantile = "http_request_duration_seconds:p95_5m"
    through = {
        "job:http_requests_errors:rate5m": "job:http_requests_errors:ratio_rate5m",
        "job_route_le:http_request_duration_seconds_bucket:rate5m": f"job_route:{quantile}",
        "job_le:http_request_duration_seconds_bucket:rate5m": f"job:{quantile}",
    }
    assert [name for name in recorded_names() if through.get(name, name) not in asked] == []


def test_rules_use_existing_metrics() -> None:
    """They are in README's table, Prometheus's own, or recorded by other rules."""
    readme = (ROOT / "README.rst").read_text("utf-8")
    rows = set(
        re.findall(
            r"^((?:http|web_prom)_\w+)", readme.replace("errors      counter", "errors_total counter"), re.M
        )
    )
    rows = {"web_prom_instrumentation_errors_total" if "instrumentation" in row else row for row in rows}
    rows |= {DB_QUERIES.name, DB_REPEATED_QUERIES.name}
    for path in (PROMETHEUS / "recording.yml", PROMETHEUS / "alerts.yml"):
        (rules,) = documents(path)
        for rule in (rule for group in rules["groups"] for rule in group["rules"]):
            expression = rule["expr"]
            for name in re.findall(r"job\w*:[\w:]+", expression):
                assert name in recorded_names(), name
                expression = expression.replace(name, "")
            for name in re.findall(r"\b(?:http|web_prom)_\w+", expression):
                assert {name, re.sub(r"_(bucket|sum|count)$", "", name)} & rows, name


def test_sample_limits_are_equal() -> None:
    limits = {int(number) for number in re.findall(r"(?:sample_limit|sampleLimit): (\d+)", TEXT)}
    assert len(limits) == 1
    (limit,) = limits
    alert = alerts()["TargetNearSampleLimit"]
    assert alert["expr"].endswith(f" > {limit * 4 // 5}")
    assert f"{limit} may be scraped" in alert["annotations"]["summary"]
