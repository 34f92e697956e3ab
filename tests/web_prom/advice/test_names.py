"""Each verdict under all namings and namespaces, also beside metrics of the service with similar names."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tests.web_prom.support import serve
from web_prom import PrometheusMiddleware
from web_prom.advice.advise import verdicts
from web_prom.advice.scrapes import Scrape, Window
from web_prom.advice.verdict import Verdict
from web_prom.live.advised_scrape import AdvisedScrape
from web_prom.live.text_samples import TextReader
from web_prom.metrics.conventions import NAMINGS
from web_prom.wsgi import set_route

POOL = 'db_client_connection_pool_name="main"'
ROUTE = 'method="GET",route="/fails"'

all_namings = pytest.mark.parametrize("naming", NAMINGS)
all_namespaces = pytest.mark.parametrize("namespace", ["", "shop", "http", "web_shop"])


def application(environ: Any, start_response: Any) -> list[bytes]:
    set_route(environ, "/fails")
    raise ValueError("broken")


def own_metrics(registry: CollectorRegistry) -> None:
    """Register metrics of the service whose names end like those of web-prom."""
    labels = ["upstream", "method"]
    for name in (
        "upstream_http_request_duration_seconds",
        "upstream_http_server_request_duration_seconds",
        "upstream_request_duration_seconds",
        "upstream_django_http_requests_latency_seconds_by_view_method",
    ):
        Histogram(name, "", labels, registry=registry).labels("a", "GET").observe(900)
    for name in ("upstream_http_requests", "upstream_requests", "upstream_http_request_db_repeated_queries"):
        Counter(name, "", labels, registry=registry).labels("a", "GET").inc(5)
    Histogram("upstream_http_request_queue_seconds", "", registry=registry)
    Gauge("upstream_db_client_connection_count", "", ["db"], registry=registry).labels("a").set(3)


def found(before: str, after: str, *, is_live: bool) -> dict[str, Verdict]:
    if is_live:
        reader = TextReader()
        earlier = AdvisedScrape(reader.read(before.encode()), 0)
        window = Window(AdvisedScrape(reader.read(after.encode()), 30), earlier)
    else:
        window = Window(Scrape(after, 30), Scrape(before, 0))
    return {verdict.name: verdict for verdict in verdicts(window)}


def other_families(prefix: str, count: int) -> str:
    """Return families that have the namespace, and no naming."""
    return (
        f'{prefix}http_request_queue_seconds_bucket{{le="5.0"}} 0\n'
        f'{prefix}http_request_queue_seconds_bucket{{le="+Inf"}} {count}\n'
        f"{prefix}http_request_queue_seconds_sum {count * 9}\n"
        f"{prefix}http_request_db_queries_total{{{ROUTE}}} {count * 40}\n"
        f"{prefix}http_request_db_repeated_queries_total{{{ROUTE}}} {count * 30}\n"
        f'{prefix}db_client_connection_count{{{POOL},db_client_connection_state="used"}} 5\n'
        f"{prefix}db_client_connection_max{{{POOL}}} 5\n"
        f'{prefix}django_migrations_unapplied{{db_namespace="main"}} 2\n'
    )


@all_namings
@all_namespaces
@pytest.mark.parametrize("own", ["none", "before", "after"])
@pytest.mark.parametrize("is_live", [False, True], ids=["parsed", "live"])
def test_verdicts_are_the_same_under_all_names(
    registry: CollectorRegistry, naming: str, namespace: str, own: str, is_live: bool
) -> None:
    if own == "before":
        own_metrics(registry)
    app = PrometheusMiddleware(application, registry=registry, naming=naming, namespace=namespace)
    if own == "after":
        own_metrics(registry)

    def scrape(count: int) -> str:
        for _ in range(count):
            with contextlib.suppress(ValueError):
                serve(app, "/fails")
        text = generate_latest(registry).decode()
        lines = text.splitlines(keepends=True)
        # The application has these families, without values.
        own_queue = [line for line in lines if "upstream" in line or "http_request_queue" not in line]
        prefix = f"{namespace}_" if namespace else ""
        return (
            "".join(own_queue) + 'http_server_worker_capacity{worker="0"} 4\n' + other_families(prefix, count)
        )

    verdict = found(scrape(1), scrape(50), is_live=is_live)

    assert {"errors", "repeated_queries", "queue_time", "pool_exhausted", "unapplied_migrations"} < set(
        verdict
    )
    assert (
        verdict["errors"].summary
        == "100.0% of GET /fails ended in a server error: 50 of 50 requests in 30 s."
    )
    assert verdict["repeated_queries"].numbers["repeated_per_request"] == pytest.approx(29.4)
    assert set(verdict) & {"workers", "workers_idle"}


def test_repeated_queries_of_views_have_a_lower_limit() -> None:
    """The naming has the name of the view, and queries have the route: both are of the same method."""

    def text(count: int) -> str:
        view = 'method="GET",view="shop.views.item"'
        return (
            f"django_http_requests_latency_seconds_by_view_method_count{{{view}}} {count}\n"
            f"django_http_requests_latency_seconds_by_view_method_sum{{{view}}} {count}\n"
            f'django_http_responses_total_by_status_view_method_total{{{view},status="200"}} {count}\n'
            f'django_http_responses_total_by_status_view_method_total{{method="GET",view="b",status="200"}} '
            f"{count}\n"
            f'http_request_db_queries_total{{method="GET",route="/items/<int:item>"}} {count * 20}\n'
            f'http_request_db_repeated_queries_total{{method="GET",route="/items/<int:item>"}} {count * 18}\n'
        )

    assert found(text(0), text(10), is_live=False)["repeated_queries"].summary == (
        "GET /items/<int:item> repeats queries at least 9 times in each request, "
        "which sends at least 10 queries."
    )


def served(prefix: str, count: int, *, route: str = "route") -> str:
    labels = f'method="GET",{route}="/a"'
    return (
        f"{prefix}http_request_duration_seconds_count{{{labels}}} {count}\n"
        f"{prefix}http_request_duration_seconds_sum{{{labels}}} {count}\n"
        f'{prefix}http_requests_total{{{labels},status="500"}} {count}\n'
    )


@pytest.mark.parametrize(
    ("own", "real"), [("a_", ""), ("z_", ""), ("", "shop_"), ("a_", "shop_"), ("z_", "shop_")]
)
def test_window_takes_the_family_with_the_labels_of_web_prom(own: str, real: str) -> None:
    """A service that measured requests itself sets PROM_NAMESPACE, because two families have one name."""
    for text in (
        served(own, 5, route="path") + served(real, 7),
        served(real, 7) + served(own, 5, route="path"),
    ):
        assert Window(Scrape(text, 1)).duration == f"{real}http_request_duration_seconds"


@pytest.mark.parametrize("own", ["a_", "z_"])
def test_window_takes_the_family_without_a_namespace_if_the_labels_are_equal(own: str) -> None:
    assert Window(Scrape(served(own, 5) + served("", 7), 1)).duration == "http_request_duration_seconds"


def test_window_takes_the_namespace_that_most_families_have() -> None:
    text = served("", 5) + served("shop_", 7) + "shop_http_requests_in_progress 1\n"
    window = Window(Scrape(text, 1))
    assert (window.duration, window.names.prefix) == ("shop_http_request_duration_seconds", "shop")


def test_window_takes_no_duration_of_calls() -> None:
    labels = 'upstream="a",code="200"'
    text = f"upstream_http_request_duration_seconds_sum{{{labels}}} 5\n"
    assert Window(Scrape(text, 1)).duration == ""


@pytest.mark.parametrize("own", ["a_", "z_"])
@pytest.mark.parametrize("naming", NAMINGS)
def test_window_takes_the_naming_of_the_application_beside_requests_of_a_service(
    registry: CollectorRegistry, naming: str, own: str
) -> None:
    app = PrometheusMiddleware(application, registry=registry, naming=naming)
    with contextlib.suppress(ValueError):
        serve(app, "/fails")
    text = generate_latest(registry).decode()
    expected = Window(Scrape(text, 1)).names
    for both in (served(own, 5) + text, text + served(own, 5)):
        names = Window(Scrape(both, 1)).names
        assert (names.naming, names.prefix) == (expected.naming, expected.prefix)
        assert names.naming == NAMINGS[naming]
