"""``web-prom dashboard``: the JSON, the list, and errors for people."""

from __future__ import annotations

import json

import pytest

from web_prom.__main__ import main
from web_prom.dashboards import DASHBOARDS, DashboardOptions, build_dashboard


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the last line of the errors of a command that is refused."""
    with pytest.raises(SystemExit) as caught:
        main(["dashboard", *arguments])
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    return output.err.splitlines()[-1]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboard_is_printed_as_json(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboard", name]) == 0
    assert json.loads(capsys.readouterr().out) == build_dashboard(name, DashboardOptions())


def test_dashboard_of_the_service_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboard"]) == 0
    assert json.loads(capsys.readouterr().out)["uid"] == "web-prom-service"


def test_dashboard_has_the_names_and_titles_that_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--naming opentelemetry --namespace shop --uid teapots --docs https://docs.example/grafana"
    assert main(["dashboard", "route", *options.split(), "--title", "Teapots é"]) == 0
    text = capsys.readouterr().out
    assert text.isascii()
    found = json.loads(text)
    assert (found["uid"], found["title"]) == ("teapots-route", "Teapots é / Route")
    assert "shop_http_server_request_duration_seconds_count" in text
    assert "(https://docs.example/grafana)" in text


def test_list_names_each_dashboard_with_its_question(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboard", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(DASHBOARDS)
    assert all(line.endswith("?") and len(line) <= 80 for line in lines)


def test_error_of_an_unknown_dashboard_lists_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, "worker")
    assert message.endswith(f"dashboards: {', '.join(DASHBOARDS)}; did you mean workers?")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--naming", "otel"], "no naming 'otel'; allowed: prometheus, opentelemetry"),
        (["--naming", "django-prometheus"], "keeps the names of another library"),
        (["--namespace", "a-b"], "--namespace 'a-b': allowed are letters, digits and '_'"),
        (["--uid", "a b"], "--uid: 'a b' is not the first part of a uid; allowed are 1 to 31 letters"),
        (["--namespace", "n" * 40], "give a shorter one with --uid"),
        (["--title", "\n"], "is not a title"),
        (["--docs", "javascript:alert(1)"], "is not a URL"),
        (["--docs", "https://a.example/)x"], "is not a URL"),
    ],
)
def test_error_of_an_option_says_what_is_allowed(
    arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert part in refused(capsys, *arguments)
