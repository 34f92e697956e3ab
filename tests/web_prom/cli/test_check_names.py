"""``web-prom check``: its remarks on names, with promtool as the oracle, and the cost of series."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Enum,
    Gauge,
    Histogram,
    Info,
    Summary,
    generate_latest,
)
from prometheus_client.openmetrics.exposition import generate_latest as as_openmetrics

from tests.programs import needs_program
from tests.web_prom.cli.services import serving, shop, text
from web_prom.__main__ import main
from web_prom.cli.cardinality import cardinality
from web_prom.cli.lint import lint
from web_prom.live.text_samples import Scrape, TextReader

UNITS = (
    *(
        "amperes",
        "celsius",
        "fahrenheit",
        "rankine",
        "kelvin",
        "percent",
        "ratio",
        "volts",
        "joules",
        "grams",
    ),
    *("meters", "bytes", "bits", "hours", "minutes", "days", "weeks", "months", "years", "seconds", "inches"),
    *("miles", "feet", "yards", "pounds", "ounces", "calories", "watts", "liters", "kilobytes", "mibibytes"),
    *(
        "gibibits",
        "milliseconds",
        "nanoseconds",
        "kilograms",
        "millivolts",
        "s",
        "ms",
        "us",
        "ns",
        "sec",
        "b",
    ),
    *("kb", "mb", "gb", "tb", "pb", "m", "h", "d", "min", "KB", "counter", "gauge", "histogram", "summary"),
)


def family(name: str, kind: str = "gauge", help_text: str = "Something.", labels: str = "") -> str:
    help_line = f"# HELP {name} {help_text}\n" if help_text else ""
    return f"{help_line}# TYPE {name} {kind}\n{name}{labels} 1\n"


METRICS = "".join(
    (
        *(family(f"x_{unit}") for unit in UNITS),
        *(family(f"y_{unit}_z") for unit in UNITS),
        family("a_counter", "counter", ""),
        family("b_total"),
        family("c_bucket", labels='{le="1",quantile="0.5"}'),
        family("d_count"),
        family("d_sum"),
        family("e:f"),
        family("camelCase", labels='{myLabel="1"}'),
        family("f_untyped_total", "untyped"),
        "g_total 1\n",
        family("h_gauge_counter"),
        family("s_total", "counter"),
        '# TYPE i_seconds histogram\ni_seconds_bucket{le="+Inf"} 1\ni_seconds_sum 1\ni_seconds_count 1\n',
        '# TYPE j_hours summary\nj_hours{quantile="0.5"} 1\nj_hours_sum 1\nj_hours_count 1\n',
        "# HELP k_total Bad.\n# TYPE k_total histogram\n"
        'k_total_bucket{le="+Inf"} 1\nk_total_sum 1\nk_total_count 1\n',
    )
)


def read(body: str) -> Scrape:
    return TextReader().read(body.encode())


def test_remarks_are_those_of_promtool() -> None:
    done = subprocess.run(
        [needs_program("promtool", package="prometheus"), "check", "metrics"],
        input=METRICS,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    expected = done.stderr.splitlines()
    assert len(expected) > 60
    assert {f"{remark.family} {remark.text}" for remark in lint(read(METRICS))} == set(expected)


def test_remarks_are_the_same_for_openmetrics() -> None:
    """There, the name of a counter has no suffix."""
    registry = CollectorRegistry()
    for name in ("jobs", "x_count", "x_ms", "y_gauge", "s"):
        Counter(name, "Something.", ["one"], registry=registry).labels("1").inc()
    Counter("no_samples", "Something.", ["one"], registry=registry)
    Gauge("b_count", "Something.", registry=registry)
    Info("build", "Something.", registry=registry).info({"version": "1"})
    Enum("state", "Something.", states=["up", "down"], registry=registry)
    Histogram("h_seconds", "Something.", registry=registry).observe(1)
    Summary("i_seconds", "Something.", registry=registry).observe(1)
    plain, openmetrics = (
        {
            (remark.family.removesuffix("_total"), remark.text)
            for remark in lint(read(text.decode()))
            if not remark.family.endswith("_created")  # a family of its own in the plain format
        }
        for text in (generate_latest(registry), as_openmetrics(registry))  # type: ignore[no-untyped-call]
    )
    assert openmetrics == plain
    assert {family for family, _ in plain} == {"x_ms", "y_gauge", "b_count"}


@pytest.mark.parametrize("samples", ["jobs 5", "jobs 5\njobs_created 1", "jobs_total 5\njobs 5"])
def test_counters_without_the_suffix_have_a_remark(samples: str) -> None:
    (remark,) = lint(read(f"# HELP jobs Jobs.\n# TYPE jobs counter\n{samples}\n# EOF\n"))
    assert remark.text == 'counter metrics should have "_total" suffix'


def test_histograms_of_gauges_have_no_remarks() -> None:
    samples = 'a_bucket{le="+Inf"} 1\na_gcount 1\na_gsum 1'
    assert lint(read(f"# HELP a A.\n# TYPE a gaugehistogram\n{samples}\n# EOF\n")) == []


def test_counter_that_goes_down_alone_is_a_gauge() -> None:
    other = "".join(family(f"other{number}_total", "counter") for number in range(3))
    before = read("# HELP a_total A.\n# TYPE a_total counter\na_total 5\n" + other)
    after = read("# HELP a_total A.\n# TYPE a_total counter\na_total 3\n" + other)
    assert [tuple(remark) for remark in lint(after, before)] == [
        ("a_total", "counter went down from 5 to 3: use a gauge")
    ]
    # After a restart, all are lower.
    assert lint(read(shop(requests=3)), read(shop(requests=9))) == []


def test_cardinality_names_the_families_and_labels_that_cost_most() -> None:
    rows = "".join(f'a_total{{user="{number}",zone="{number % 3}"}} 1\n' for number in range(60))
    found = cardinality(read(rows + "".join(family(f"b{number}") for number in range(20))))
    assert (found.series, found.families, len(found.costly)) == (80, 21, 10)
    assert tuple(found.costly[0]) == ("a_total", 60, {"user": 60, "zone": 3})


def check(body: str, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    with serving(text(body)) as url:
        main(["check", url, "--window", "0", *options])
    return capsys.readouterr().out


def test_check_prints_costs_and_names(capsys: pytest.CaptureFixture[str]) -> None:
    printed = check(METRICS, capsys)
    assert "NAME      a_counter: counter metrics should have" in printed
    assert "more remarks on names" in printed
    assert " series in " in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_check_prints_mistakes_of_the_set_up(capsys: pytest.CaptureFixture[str]) -> None:
    unmatched = shop(requests=100, route="_unmatched")
    printed = check(unmatched, capsys)
    assert "SET-UP    100% of the requests have no known route." in printed
    assert "SET-UP" not in check(shop(requests=100), capsys)
    assert "SET-UP" not in check(family("node_load1"), capsys)
    assert "SET-UP" not in check(family("http_requests_total", "counter", labels='{code="200"}'), capsys)
    assert "No request was measured" in check(family("web_prom_scrape_series"), capsys)


def test_check_writes_all_of_it_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    document: dict[str, Any] = json.loads(check(METRICS, capsys, "--json"))
    assert set(document) == {"verdicts", "set_up", "cardinality", "lint"}
    assert len(document["lint"]) > 60
    assert {"name", "series", "labels"} == set(document["cardinality"]["costly"][0])
