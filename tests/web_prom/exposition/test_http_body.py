"""The body of a scrape of one process, and its restriction by name; prometheus_client is the oracle."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.web_prom.exposition.support import scrape, without_scrape_metrics
from tests.web_prom.support import hello, serve
from web_prom import PrometheusMiddleware, make_wsgi_app

SETTINGS = settings(deadline=None, max_examples=60, database=None)


TEXT = "text/plain; version=0.0.4; charset=utf-8"


def test_body_is_that_of_prometheus_client_followed_by_scrape_metrics(filled: CollectorRegistry) -> None:
    status, headers, body = scrape(make_wsgi_app(filled))
    assert status == "200 OK"
    assert headers["Content-Type"] == TEXT
    upstream = generate_latest(filled)
    assert body.startswith(upstream)
    assert without_scrape_metrics(body) == upstream
    rest = body[len(upstream) :].decode().splitlines()
    names = [line.split()[0] for line in rest if not line.startswith("#")]
    assert names == ["web_prom_scrape_series", "web_prom_scrape_duration_seconds"]


def test_scrape_series_counts_the_samples(filled: CollectorRegistry) -> None:
    _, _, body = scrape(make_wsgi_app(filled))
    lines = [line for line in body.decode().splitlines() if not line.startswith("#")]
    (series,) = (line.split()[1] for line in lines if line.startswith("web_prom_scrape_series "))
    assert float(series) == len(lines) - 2


def test_scrape_duration_is_in_the_body(filled: CollectorRegistry) -> None:
    _, _, body = scrape(make_wsgi_app(filled))
    (line,) = (
        line for line in body.decode().splitlines() if line.startswith("web_prom_scrape_duration_seconds ")
    )
    assert 0 < float(line.split()[1]) < 60


def test_openmetrics_contains_units_exemplars_and_one_eof(filled: CollectorRegistry) -> None:
    _, headers, body = scrape(make_wsgi_app(filled), HTTP_ACCEPT="application/openmetrics-text")
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert body.endswith(b"\n# EOF\n")
    assert body.count(b"# EOF") == 1
    assert b"# UNIT shop_time_seconds seconds" in body
    assert b'trace_id="x"' in body
    assert without_scrape_metrics(body) == generate_openmetrics(filled)  # type: ignore[no-untyped-call]


@SETTINGS
@given(st.lists(st.text(), min_size=1, max_size=5, unique=True), st.floats())
def test_any_label_value_is_parsed_back_from_the_text(values: list[str], number: float) -> None:
    registry = CollectorRegistry()
    gauge = Gauge("x", "Help.", ["label"], registry=registry)
    for value in values:
        gauge.labels(value).set(number)
    _, _, body = scrape(make_wsgi_app(registry))
    families = {family.name: family for family in text_string_to_metric_families(body.decode("utf-8"))}
    assert {sample.labels["label"] for sample in families["x"].samples} == set(values)
    for sample in families["x"].samples:
        assert sample.value == number or (math.isnan(sample.value) and math.isnan(number))


@SETTINGS
@given(st.lists(st.text(st.characters(exclude_categories=[])), min_size=1, max_size=4))
def test_any_extra_label_value_is_in_a_valid_text(values: list[str]) -> None:
    registry = CollectorRegistry()
    left = iter(values)
    app = PrometheusMiddleware(
        hello,
        registry=registry,
        extra_labels={"tenant": lambda request, response: next(left)},
        resolve_route=lambda recording: recording.compute_extra_labels(None, None),
    )
    for _ in values:
        serve(app)
    _, _, body = scrape(app)
    counted = [
        sample.value
        for family in text_string_to_metric_families(body.decode("utf-8"))
        for sample in family.samples
        if sample.name == "http_requests_total"
    ]
    assert sum(counted) == len(values)


def restricted(registry: CollectorRegistry, *names: str) -> list[str]:
    """Return the sample lines of prometheus_client for these names."""
    return sorted(generate_latest(registry.restricted_registry(names)).decode().splitlines())


@pytest.mark.parametrize(
    "names",
    [
        ["shop_orders_total"],
        ["shop_baskets"],
        ["shop_time_seconds_sum", "shop_time_seconds_count"],
        ["shop_build_info", "shop_state"],
        ["http_requests_total", "http_requests_in_progress"],
        ["shop_orders"],  # the name of a family, not of a sample
        ["no_such_metric"],
        ["no_such_metric", "shop_baskets"],
        [""],
        ["%00"],
    ],
)
def test_fault_24_names_restrict_the_body_as_prometheus_client_does(
    names: list[str], filled: CollectorRegistry
) -> None:
    query = "&".join(f"name[]={name}" for name in names)
    status, _, body = scrape(make_wsgi_app(filled), QUERY_STRING=query)
    assert status == "200 OK"
    if names == [""]:
        assert without_scrape_metrics(body) == generate_latest(filled), (
            "an empty one is none, as with upstream"
        )
    else:
        assert sorted(body.decode().splitlines()) == restricted(filled, *names)


def test_names_select_families_of_custom_collectors(filled: CollectorRegistry) -> None:
    """prometheus_client cannot select them, because they do not describe their names."""
    _, _, body = scrape(make_wsgi_app(filled), QUERY_STRING="name[]=shop_custom")
    lines = body.decode().splitlines()
    assert [line.split("{")[0] for line in lines if not line.startswith("#")] == ["shop_custom"] * 2


def test_names_select_scrape_metrics(filled: CollectorRegistry) -> None:
    _, _, body = scrape(
        make_wsgi_app(filled), QUERY_STRING="name[]=web_prom_scrape_series&name[]=shop_baskets"
    )
    assert b"\nweb_prom_scrape_series 1.0\n" in body
    assert b"web_prom_scrape_duration" not in body


def test_other_query_parameters_are_ignored(filled: CollectorRegistry) -> None:
    _, _, body = scrape(make_wsgi_app(filled), QUERY_STRING="name=shop_baskets&x=y&&=%zz")
    assert without_scrape_metrics(body) == generate_latest(filled)


def test_restricted_registry_is_exposed(filled: CollectorRegistry) -> None:
    _, _, body = scrape(make_wsgi_app(filled.restricted_registry(["shop_baskets"])))
    assert b"shop_baskets -0.5" in body
    assert b"shop_orders" not in body
