"""What is computed from two scrapes: rates, resets and quantiles."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from web_prom.advice.scrapes import Scrape, Window


def window(before: str, after: str, seconds: float = 10.0) -> Window:
    return Window(Scrape(after, 1000.0 + seconds), Scrape(before, 1000.0))


def test_window_increase_adds_up_all_series() -> None:
    found = window('a_total{x="1"} 1\na_total{x="2"} 5\n', 'a_total{x="1"} 4\na_total{x="2"} 5\n')
    assert found.increase("a_total") == 3
    assert found.rate("a_total") == 0.3


def test_window_increase_counts_a_reset_from_zero() -> None:
    assert window("a_total 100\n", "a_total 7\n").increase("a_total") == 7


def test_window_increase_counts_a_new_series_whole() -> None:
    assert window('a_total{x="1"} 1\n', 'a_total{x="1"} 1\na_total{x="2"} 2\n').increase("a_total") == 2


def test_window_increase_is_unknown_without_the_metric_or_a_second_scrape() -> None:
    assert window("", "").increase("a_total") is None
    assert Window(Scrape("a_total 1\n", 1.0)).increase("a_total") is None
    assert Window(Scrape("a_total 1\n", 1.0)).quantile("a", 0.5) is None


@pytest.mark.parametrize(
    ("quantile", "seconds"), [(0.25, 0.05), (0.5, 0.1), (0.75, 0.55), (0.95, 0.91), (1.0, 1.0)]
)
def test_window_quantile_is_linear_within_a_bucket(quantile: float, seconds: float) -> None:
    registry = CollectorRegistry()
    histogram = Histogram("h", "", registry=registry, buckets=(0.1, 1.0))
    for _ in range(7):
        histogram.observe(5.0)
    before = generate_latest(registry).decode()
    for value in (0.05, 0.07, 0.5, 0.6):
        histogram.observe(value)
    found = window(before, generate_latest(registry).decode())
    assert found.quantile("h", quantile) == pytest.approx(seconds)


def test_window_quantile_beyond_the_bounds_is_the_highest_bound() -> None:
    before, after = (
        'h_bucket{le="1"} 0\nh_bucket{le="+Inf"} 0\n',
        'h_bucket{le="1"} 0\nh_bucket{le="+Inf"} 5\n',
    )
    assert window(before, after).quantile("h", 0.5) == 1.0


def test_window_quantile_is_unknown_where_nothing_was_observed() -> None:
    text = 'h_bucket{le="1"} 4\nh_bucket{le="+Inf"} 5\n'
    assert window(text, text).quantile("h", 0.5) is None


@pytest.mark.parametrize(
    "name",
    [
        "http_request_duration_seconds",
        "http_server_request_duration_seconds",
        "shop_http_request_duration_seconds",
        "flask_http_request_duration_seconds",
        "starlette_request_duration_seconds",
        "django_http_requests_latency_seconds_by_view_method",
    ],
)
def test_window_finds_the_duration_in_each_naming(name: str) -> None:
    assert Window(Scrape(f"{name}_sum 1\n", 1.0)).duration == name


def test_window_has_no_duration_where_none_is_measured() -> None:
    assert Window(Scrape("a_sum 1\n", 1.0)).duration == ""


def test_scrape_takes_families() -> None:
    registry = CollectorRegistry()
    Counter("a", "", ["x"], registry=registry).labels("1").inc(3)
    scrape = Scrape(registry.collect(), 1.0)
    assert scrape.total("a_total") == 3
    assert scrape.sum_by_label("a_total", "x") == {"1": 3}
    assert scrape.total("b") is None


@pytest.mark.parametrize("text", ["<html>", "a{", "\x00", "a b"])
def test_scrape_refuses_what_is_no_metrics(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - upstream's own words
        Scrape(text, 1.0)
