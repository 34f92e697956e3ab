"""The rules in promtool: their syntax, and when each alert fires."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.pages import ROOT, code_blocks
from tests.programs import needs_program
from tests.web_prom.rules.scenarios import SCENARIOS, SERIES, UP, Series, errors
from web_prom.config.settings import Config
from web_prom.metrics.conventions import NAMINGS
from web_prom.rules.model import Alert, Group, Recording, RuleOptions
from web_prom.rules.parts import rule_groups
from web_prom.rules.yaml_text import as_yaml

OPTIONS = RuleOptions(config=Config(), sample_limit=5000)
# The scenarios of these are below: their windows are days.
SLOW = {"ErrorBudgetBurns", "LatencyBudgetBurns"}


def alerts(options: RuleOptions = OPTIONS) -> dict[str, Alert]:
    rules = (rule for group in rule_groups(options) for rule in group.rules)
    return {rule.alert: rule for rule in rules if isinstance(rule, Alert)}


def promtool(*arguments: str | Path) -> str:
    """Run promtool, which must succeed; return its output."""
    program = needs_program("promtool", package="prometheus")
    environ = {**os.environ, "GOGC": "400"}  # it collects garbage less often: a fifth less time
    done = subprocess.run([program, *arguments], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def with_job(series: str, job: str) -> str:
    name, _, labels = series.partition("{")
    return f'{name}{{job="{job}", {labels or "}"}'


class Case(NamedTuple):
    """Series of a job, and whether the alert fires for it.

    Attributes:
        name: The name of the job.
        series: Its series, without the job.
        fires: The labels of the alert and its summary after the job; None if it is silent.
    """

    name: str
    series: Series
    fires: tuple[Mapping[str, str], str] | None = None


def unit(alert: str, cases: Iterable[Case], at: str, interval: str = "1m") -> dict[str, Any]:
    """Return a test of promtool for one alert. Each case is a job of its own."""
    every = list(cases)
    url = f"{OPTIONS.runbooks}#{alert.lower()}"
    return {
        "name": alert,
        "interval": interval,
        "input_series": [
            {"series": with_job(series, each.name), "values": values}
            for each in every
            for series, values in each.series.items()
        ],
        "alert_rule_test": [
            {
                "alertname": alert,
                "eval_time": at,
                "exp_alerts": [
                    {
                        "exp_labels": {"job": each.name, **each.fires[0]},
                        "exp_annotations": {"summary": each.name + each.fires[1], "runbook_url": url},
                    }
                    for each in every
                    if each.fires
                ],
            }
        ],
    }


def needed_groups(names: set[str], options: RuleOptions) -> list[Group]:
    """Return the groups with these rules, and the groups that record what they use.

    Without the others promtool evaluates a third of the rules.
    """
    groups = list(rule_groups(options))
    found = [group for group in groups if names & {name_of(rule) for rule in group.rules}]
    expressions = "\n".join(rule.expr for group in found for rule in group.rules)
    used = {rule.record for group in groups for rule in group.rules if isinstance(rule, Recording)}
    more = {record for record in used if record in expressions} - names
    return needed_groups(names | more, options) if more else found


def name_of(rule: Alert | Recording) -> str:
    return rule.alert if isinstance(rule, Alert) else rule.record


def write(
    folder: Path, name: str, options: RuleOptions, units: Sequence[dict[str, Any]], only: str = ""
) -> Path:
    """Write the rules that tests need, or only those of a group, and the tests; return their path."""
    groups = needed_groups({unit["name"] for unit in units}, options)
    groups = [group for group in groups if not only or group.name == only]
    (folder / f"{name}.yml").write_text(as_yaml(groups, options))
    path = folder / f"{name}_test.yml"
    document = {
        "rule_files": [f"{name}.yml"],
        "evaluation_interval": units[0]["interval"],
        # The alerts use what other groups record. Without this order, promtool takes any.
        "group_eval_order": [group.name for group in groups],
        "tests": units,
    }
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def units_of_scenarios(group: Group) -> Iterator[dict[str, Any]]:
    """Yield the tests of a group's alerts."""
    for alert, scenario in SCENARIOS.items():
        if alert not in {name_of(rule) for rule in group.rules}:
            continue
        loud = [
            Case(name, series, (scenario.labels, scenario.summary)) for name, series in scenario.fires.items()
        ]
        quiet = [Case(f"silent: {name}", series) for name, series in scenario.silent.items()]
        yield unit(alert, [*loud, *quiet], f"{scenario.at}m")


def recorded(errors: str, slow: str = "10x300", requests: str = "10x300") -> Series:
    """Return series as the recording rules make them, each with a value for each quarter of an hour."""
    name = "job_le:http_request_duration_seconds_bucket:rate5m"
    return {
        "job:http_requests:rate5m": requests,
        "job:http_requests_errors:rate5m": errors,
        f'{name}{{le="0.5"}}': slow,
        f'{name}{{le="+Inf"}}': requests,
    }


def units_of_days() -> Iterator[dict[str, Any]]:
    """Yield tests of windows of hours and days. They end after three days."""
    end, hour = 3 * 96, 4
    of_errors = "of the requests end in a server error within"
    allows = "the objective allows 0.1 %"

    def ticket(share: str) -> tuple[Mapping[str, str], str]:
        return {"severity": "ticket"}, f": {share} {of_errors} 1d or 3d; {allows}"

    def page(share: str) -> tuple[Mapping[str, str], str]:
        return {"severity": "page"}, f": {share} {of_errors} 1h or 6h; {allows}"

    slow = ": 1.1% of the requests take longer than 0.5 s within 1d or 3d; the objective allows 1 %"
    yield unit(
        "ErrorBudgetBurns",
        [
            Case("three days", recorded("0.011x300"), ticket("0.11%")),
            Case("just below", recorded("0.0099x300")),
            Case("one day", recorded(f"0x{end - 24 * hour - 3} 0.031x120"), ticket("0.31%")),
            Case("just below for a day", recorded(f"0x{end - 24 * hour - 2} 0.0294x120")),
            Case("over for six hours", recorded(f"0.02x{end - 6 * hour - 1} 0x40")),
            Case("low traffic", recorded("0.05x300", "0.05x300", "0.05x300")),
        ],
        *("72h", "15m"),
    )
    yield unit(
        "LatencyBudgetBurns",
        [
            Case("three slow days", recorded("0x300", "9.89x300"), ({"severity": "ticket"}, slow)),
            Case("just below for slow days", recorded("0x300", "9.91x300")),
            Case("low traffic of slow days", recorded("0x300", "0x300", "0.05x300")),
        ],
        *("72h", "15m"),
    )
    yield unit(
        "ErrorBudgetBurnsFast",
        [
            Case("an hour", recorded(f"0x{end - hour - 2} 0.15x20"), page("1.5%")),
            Case("just below for an hour", recorded(f"0x{end - hour - 2} 0.143x20")),
            Case("six hours", recorded(f"0x{end - 6 * hour - 2} 0.061x40"), page("0.61%")),
            Case("just below for six hours", recorded(f"0x{end - 6 * hour - 2} 0.0599x40")),
            # The page ends minutes after the errors, though the hour still has them.
            Case("over for half an hour", recorded(f"0x{end - hour - 2} 0.4x2 0x20")),
        ],
        *("72h", "15m"),
    )


def joined(units: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return several tests as one, in which each alert is silent for the jobs of the others."""
    return {
        **units[0],
        **{
            key: [each for unit in units for each in unit[key]] for key in ("input_series", "alert_rule_test")
        },
    }


def units_of_naming(errors: str, total: str) -> list[dict[str, Any]]:
    alert = "ErrorBudgetBurnsFast"
    scenario = SCENARIOS[alert]
    loud = Case("shop", {errors: "0+15x75", total: "0+985x75"}, (scenario.labels, scenario.summary))
    return [unit(alert, [loud, Case("no error series", {total: "0+985x75"})], "65m")]


SERIES_OF_NAMINGS: Mapping[str, tuple[str, str]] = {
    "opentelemetry": (
        'http_server_request_duration_seconds_count{http_request_method="GET", url_scheme="http", '
        'error_type="500", http_response_status_code="500", http_route="/"}',
        'http_server_request_duration_seconds_count{http_request_method="GET", url_scheme="http", '
        'http_response_status_code="200", http_route="/"}',
    ),
    "fastapi-instrumentator": (
        'http_requests_total{method="GET", status="5xx", handler="/"}',
        'http_requests_total{method="GET", status="2xx", handler="/"}',
    ),
    "prometheus-flask-exporter": (
        'flask_http_request_duration_seconds_count{method="GET", path="/", status="500"}',
        'flask_http_request_duration_seconds_count{method="GET", path="/", status="200"}',
    ),
    "django-prometheus": (
        'django_http_responses_total_by_status_view_method_total{status="500", view="index", method="GET"}',
        'django_http_responses_total_by_status_view_method_total{status="200", view="index", method="GET"}',
    ),
}


def units_of_one_job(job: str) -> list[dict[str, Any]]:
    """Return the tests of rules that are limited to a job: others with the same series are silent."""
    scenario = SCENARIOS["ErrorBudgetBurnsFast"]
    series = errors(985, 15)
    gone = ({"severity": "page"}, ": no replica can be scraped")
    return [
        unit(
            "ErrorBudgetBurnsFast",
            [Case(job, series, (scenario.labels, scenario.summary)), Case("other", series)],
            "65m",
        ),
        # Nothing was ever scraped.
        unit("AllTargetsGone", [Case(job, {}, gone), Case("other", {UP: "0x75", SERIES: "300x75"})], "60m"),
    ]


@pytest.mark.slow
def test_alerts_fire_and_stay_silent(tmp_path: Path) -> None:
    """One promtool runs all cases."""
    job = "shop (eu)"
    limited = RuleOptions(config=Config(), jobs=(job,))
    of_groups = {group.name: list(units_of_scenarios(group)) for group in rule_groups(OPTIONS)}
    assert sum(map(len, of_groups.values())) == len(SCENARIOS)
    paths = [
        *(write(tmp_path, name, OPTIONS, units) for name, units in of_groups.items() if units),
        write(tmp_path, "limited", limited, units_of_one_job(job)),
        write(tmp_path, "days", OPTIONS, [joined(list(units_of_days()))], "web-prom-objectives"),
    ]
    for naming, series in SERIES_OF_NAMINGS.items():
        options = RuleOptions(config=Config.load({"naming": naming}))
        paths.append(write(tmp_path, naming, options, units_of_naming(*series)))
    assert promtool("test", "rules", *paths).count("SUCCESS") == len(paths)


def test_promtool_parses_the_queries_of_the_runbooks(tmp_path: Path) -> None:
    queries = code_blocks((ROOT / "docs" / "runbooks" / "alerts.rst").read_text("utf-8"), "promql")
    assert len(queries) == len(alerts())
    rules = [{"record": f"queries:n{number}", "expr": query} for number, query in enumerate(queries, 100)]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    assert f"SUCCESS: {len(queries)} rules found" in promtool("check", "rules", path)


def test_each_alert_has_a_scenario() -> None:
    assert set(SCENARIOS) | SLOW == set(alerts())
    assert all(scenario.fires and scenario.silent for scenario in SCENARIOS.values())


@pytest.mark.slow
def test_promtool_accepts_the_rules_of_each_naming(tmp_path: Path) -> None:
    """One promtool checks all files; the names of the jobs need escapes."""
    paths = []
    for naming in NAMINGS:
        for number, jobs in enumerate(((), ("shop",), ('a"b: #\\ x\n\x85\u2028é', "{{.}}|'"))):
            options = RuleOptions(
                config=Config.load({"naming": naming, "namespace": "my" if jobs else ""}), jobs=jobs
            )
            paths.append(tmp_path / f"{naming.replace(':', '-')}{number}.yml")
            paths[-1].write_text(as_yaml(rule_groups(options), options))
    output = promtool("check", "rules", "--lint=all", "--lint-fatal", *paths)
    assert output.count("SUCCESS") == len(paths)
