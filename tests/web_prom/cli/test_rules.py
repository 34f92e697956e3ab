"""``python -m web_prom rules``: the options, their errors, the examples, and the runbooks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.web_prom.support import environ_of
from tests.web_prom.wsgi.support import send
from web_prom.__main__ import main
from web_prom.cli import rules as command
from web_prom.config.settings import Config
from web_prom.metrics.conventions import NAMINGS
from web_prom.rules.parts import PARTS
from web_prom.wsgi import PrometheusMiddleware

ROOT = Path(__file__).parents[3]
RUNBOOKS = ROOT / "docs" / "runbooks" / "alerts.rst"
EXAMPLES = {
    "recording": [],
    "alerts": ["--job", "shop", "--sample-limit", "5000"],
    "saturation": [],
}


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs the command and returns what it prints."""

    def run(*options: str) -> str:
        assert main(["rules", *options]) == 0
        return capsys.readouterr().out

    return run


def rules(text: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def alerts(text: str) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules(text) if "alert" in rule}


# Options ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--slo", "100"], "no error budget; give less than 100 percent"),
        (["--slo", "nan"], "'nan' is not a number"),
        (["--slo", "93"], "give percent above 93.1"),
        (["--latency-slo", "100"], "--latency-slo 100 allows no failure"),
        (["--latency", "0.3"], "in seconds: 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5"),
        (["--latency", "soon"], "'soon' is not a number"),
        (["--latency", "-1"], "'-1' is not a number from 0 on"),
        (["--buckets", "1,2"], "in seconds: 1, 2. Choose one"),
        (["--naming", "statsd"], "--naming is 'statsd'; allowed: 'prometheus' or 'opentelemetry' or"),
        (["--namespace", "my-shop"], "--namespace is 'my-shop'; allowed: letters, digits and '_'"),
        (["--buckets", "3,1"], "--buckets is [3.0, 1.0]; allowed: upper bounds"),
        (["--job", ""], "is not the name of a job"),
        (["--job", "\udcff"], "is not the name of a job"),
        (["--sample-limit", "-1"], "'-1' is not a whole number"),
        (["--runbooks", ""], "is not a URL"),
        (["--part", "all"], "invalid choice: 'all'"),
    ],
)
def test_option_that_is_not_allowed_is_an_error(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["rules", *options])
    shown = capsys.readouterr()
    assert (raised.value.code, shown.out) == (2, "")
    assert message in shown.err


def test_options_are_in_the_rules(printed: Any) -> None:
    text = printed(
        "--slo", "99", "--latency", "2", "--buckets", "1,2", "--latency-slo", "95", "--min-rate", "3"
    )
    found = alerts(text)
    assert "> 0.144" in found["ErrorBudgetBurnsFast"]["expr"]
    assert "[1h]) > 3" in found["ErrorBudgetBurnsFast"]["expr"]
    assert 'le="2.0"' in found["LatencyBudgetBurns"]["expr"]
    assert "longer than 2 s" in found["LatencyBudgetBurns"]["annotations"]["summary"]
    assert "> 0.05\n" in found["LatencyBudgetBurns"]["expr"]


def test_runbooks_option_sets_the_page(printed: Any) -> None:
    found = alerts(printed("--runbooks", 'https://docs.example.com/"x"#'))
    assert found["CrashLoop"]["annotations"]["runbook_url"] == 'https://docs.example.com/"x"##crashloop'


def test_parts_are_those_of_the_rules(printed: Any) -> None:
    assert command.PARTS == PARTS
    groups = [yaml.safe_load(printed("--part", part))["groups"] for part in PARTS]
    assert [group for part in groups for group in part] == yaml.safe_load(printed())["groups"]


JOBS = ['a"b\\c', "é: #x", "line\nfeed", "{{ $value }}", "\x7f\x85\u2028\U0001f600", "- x|y.*"]


@pytest.mark.parametrize("jobs", [*([job] for job in JOBS), JOBS], ids=ascii)
def test_rules_name_a_job_only_where_the_option_does(jobs: list[str], printed: Any) -> None:
    assert not any("job=" in rule["expr"] for rule in rules(printed()))
    text = printed(*(part for job in jobs for part in ("--job", job)))
    assert text.isascii()
    for rule in rules(text):
        # Recorded series carry the limit of the series that they are made of.
        limits = set(re.findall(r'job=~?("(?:[^"\\]|\\.)*")', rule["expr"]))
        assert limits or "job" in rule["expr"].split(":")[0], rule
        values = {yaml.safe_load(limit) for limit in limits}
        regular = {"|".join(map(re.escape, jobs))} if len(jobs) > 1 else set()
        assert values <= {*jobs, *regular}


# Names -----------------------------------------------------------------------------------------------


def scraped(naming: str, namespace: str) -> dict[str, set[str]]:
    """Return the names of the series of an application that has answered requests, with their labels."""
    registry = CollectorRegistry()

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/broken":
            raise ValueError
        start_response("200 OK", [])
        return [b""]

    config = Config.load({"naming": naming, "namespace": namespace, "queue_time": True})
    measured = PrometheusMiddleware(app, config=config, registry=registry)
    for path in ("/", "/broken"):
        send(measured, environ_of(path, HTTP_X_REQUEST_START="t=1"))
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize("namespace", ["", "my"])
@pytest.mark.parametrize("naming", NAMINGS)
def test_recorded_series_exist_under_each_naming(naming: str, namespace: str, printed: Any) -> None:
    exist = scraped(naming, namespace)
    text = printed("--naming", naming, "--namespace", namespace)
    seen = set()
    for rule in rules(text):
        for labels, name in re.findall(r"sum by \(([^)]*)\) \((?:rate\()?(\w+)(?:\[5m\])?\)", rule["expr"]):
            if "request" in name or "response" in name:
                seen.add(name)
                assert set(labels.split(", ")) - {"job"} <= exist[name], (name, labels)
    assert len(seen) >= 5


# The examples and the runbooks -----------------------------------------------------------------------


@pytest.mark.parametrize("part", EXAMPLES)
def test_example_is_what_the_command_prints(part: str, printed: Any) -> None:
    text = (ROOT / "examples" / "prometheus" / f"{part}.yml").read_text("utf-8")
    heading, _, body = text.partition("\n")
    assert heading.startswith(f"# examples/prometheus/{part}.yml: ")
    assert body == printed("--part", part, *EXAMPLES[part])


def test_each_alert_has_a_runbook(printed: Any) -> None:
    text = RUNBOOKS.read_text("utf-8")
    sections = re.split(r"^(\w+)\n-+\n", text, flags=re.MULTILINE)[1:]
    found = alerts(printed("--sample-limit", "1"))
    assert sections[::2] == list(found)
    for name, section in zip(sections[::2], sections[1::2], strict=True):
        assert found[name]["annotations"]["runbook_url"] == f"docs/runbooks/alerts.rst#{name.lower()}"
        assert ".. code-block:: promql" in section
        assert "**First:** " in section
        assert "**End it:** " in section


def test_page_has_each_alert_with_its_severity(printed: Any) -> None:
    page = (ROOT / "docs" / "how-to" / "alerts.rst").read_text("utf-8")
    rows = dict(re.findall(r"^([A-Z]\w+) +(page|ticket)  ", page, re.MULTILINE))
    found = alerts(printed("--sample-limit", "1"))
    assert rows == {name: rule["labels"]["severity"] for name, rule in found.items()}
