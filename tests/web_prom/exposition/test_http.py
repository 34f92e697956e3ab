"""A scrape of one process: body, negotiation, methods, filters; prometheus_client's own is the oracle."""

from __future__ import annotations

import gzip
import logging
import math
import re
import threading
from collections import Counter as Counts
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from typing import Any

import prometheus_client
import pytest
import webtest
from hypothesis import given, settings
from hypothesis import strategies as st
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
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.web_prom.support import (
    App,
    Environ,
    Server,
    Waits,
    environ_of,
    errors,
    hello,
    in_progress,
    requests,
    samples,
    serve,
)
from web_prom import PrometheusMiddleware, make_wsgi_app
from web_prom.config import Config
from web_prom.config.secret import Secret
from web_prom.exposition.http import Exposition, Response
from web_prom.exposition.negotiation import accepts_gzip

SETTINGS = settings(deadline=None, max_examples=60, database=None)
TEXT = "text/plain; version=0.0.4; charset=utf-8"

# What Prometheus 3 sends, and some others.
ACCEPTS = [
    None,
    "",
    "*/*",
    "text/plain",
    "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8",
    "text/plain;version=0.0.4",
    "text/plain;version=1.0.0",
    "text/plain; version=1.0.0; escaping=allow-utf-8",
    "text/plain;version=1.0.0;escaping=dots;q=0.5",
    "application/openmetrics-text",
    "application/openmetrics-text; version=0.0.1",
    "application/openmetrics-text; version=1.0.0",
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,"
    "application/openmetrics-text;version=1.0.0;q=0.6,*/*;q=0.1",
]
# Headers that upstream answers with an exception, an odd header, or as it pleases.
BROKEN_ACCEPTS = [
    "application/openmetrics-text; version=abc",
    "application/openmetrics-text; version=",
    "application/openmetrics-text; version=1.a",
    "application/openmetrics-text; version=1.0.0.\x07",
    "application/openmetrics-text; version=1.0.0\xe9",
    "text/plain; version=abc",
    "text/plain; version=..",
    ";;;",
    ",,,",
    ";=;=",
    "=",
    "\x00",
    "é" * 100,
    "a" * 10_000,
    "application/openmetrics-text;" * 100,
]


@pytest.fixture
def filled(registry: CollectorRegistry) -> CollectorRegistry:
    """Return the registry with an instrument of each type, a custom collector, and a measured request."""
    Counter("shop_orders", "Orders.", ["site"], registry=registry).labels('a"b\\c\nd').inc(
        2, {"trace_id": "x"}
    )
    Gauge("shop_baskets", "Help with \\ and\nnewline.", registry=registry).set(-0.5)
    Histogram("shop_time_seconds", "Help.", unit="seconds", registry=registry).observe(0.3)
    Summary("shop_size", "Help.", ["site"], registry=registry).labels("größe").observe(7)
    Info("shop_build", "Help.", registry=registry).info({"version": "1"})
    Enum("shop_state", "Help.", states=["on", "off"], registry=registry).state("off")

    class Custom:
        def collect(self) -> Iterable[Any]:
            family = prometheus_client.metrics_core.UntypedMetricFamily("shop_custom", "Help.", labels=["a"])
            family.add_metric(["x"], float("nan"), timestamp=1700000000.5)
            family.add_metric(["y"], float("inf"))
            yield family

    registry.register(Custom())
    serve(PrometheusMiddleware(hello, registry=registry))
    return registry


def scrape(app: Any, **environ: Any) -> tuple[str | None, dict[str, str], bytes]:
    server = Server()
    body = server.run(app, environ_of("/metrics", **environ))
    assert len({name.lower() for name, _ in server.headers}) == len(server.headers), "no header twice"
    return server.status, dict(server.headers), body


def without_ours(body: bytes) -> bytes:
    """Remove the families about the scrape itself; they stand last."""
    lines = body.splitlines(keepends=True)
    # The escaping by dots doubles underscores.
    return b"".join(line for line in lines if not re.search(rb"web_+prom_+scrape_", line))


# Bodies ----------------------------------------------------------------------------------------------


def test_the_body_is_upstreams_followed_by_what_is_told_about_the_scrape(filled: CollectorRegistry) -> None:
    status, headers, body = scrape(make_wsgi_app(filled))
    assert status == "200 OK"
    assert headers["Content-Type"] == TEXT
    upstream = generate_latest(filled)
    assert body.startswith(upstream)
    assert without_ours(body) == upstream
    rest = body[len(upstream) :].decode().splitlines()
    names = [line.split()[0] for line in rest if not line.startswith("#")]
    assert names == ["web_prom_scrape_series", "web_prom_scrape_duration_seconds"]


def test_the_number_of_series_is_that_of_the_samples(filled: CollectorRegistry) -> None:
    _, _, body = scrape(make_wsgi_app(filled))
    lines = [line for line in body.decode().splitlines() if not line.startswith("#")]
    (series,) = (line.split()[1] for line in lines if line.startswith("web_prom_scrape_series "))
    assert float(series) == len(lines) - 2


def test_the_duration_of_a_scrape_is_in_it(filled: CollectorRegistry) -> None:
    _, _, body = scrape(make_wsgi_app(filled))
    (line,) = (
        line for line in body.decode().splitlines() if line.startswith("web_prom_scrape_duration_seconds ")
    )
    assert 0 < float(line.split()[1]) < 60


def test_openmetrics_has_units_exemplars_and_an_end(filled: CollectorRegistry) -> None:
    _, headers, body = scrape(make_wsgi_app(filled), HTTP_ACCEPT="application/openmetrics-text")
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert body.endswith(b"\n# EOF\n")
    assert body.count(b"# EOF") == 1
    assert b"# UNIT shop_time_seconds seconds" in body
    assert b'trace_id="x"' in body
    assert without_ours(body) == generate_openmetrics(filled)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("accept", ACCEPTS)
def test_fault_31_accept_is_answered_as_upstream_answers_it(
    accept: str | None, filled: CollectorRegistry
) -> None:
    environ = {} if accept is None else {"HTTP_ACCEPT": accept}
    upstream = Server()
    expected = upstream.run(prometheus_client.make_wsgi_app(filled), environ_of("/metrics", **environ))
    status, headers, body = scrape(make_wsgi_app(filled), **environ)
    assert status == upstream.status
    assert headers["Content-Type"] == dict(upstream.headers)["Content-Type"]
    assert without_ours(body) == expected


class Native:
    """A collector with a native histogram, which OpenMetrics has from version 2 on."""

    def collect(self) -> Iterable[Any]:
        samples = pytest.importorskip("prometheus_client.samples")
        if not hasattr(samples, "NativeHistogram"):
            pytest.skip("this prometheus_client has no native histograms")
        family = prometheus_client.metrics_core.HistogramMetricFamily("native", "Help.", buckets=None)
        value = samples.NativeHistogram(1.0, 2.0, 3, 4.0, 5.0)
        family.add_sample("native", {}, 0, None, None, value)
        yield family


@pytest.mark.parametrize("escaping", ["", ";escaping=allow-utf-8", ";escaping=dots", ";escaping=values"])
@pytest.mark.parametrize(
    "version", ["0.0.4", "1", "1.0.0", "1.0.7", "1.9999.0.0", "2", "2.0.0", "2.5", "77.1"]
)
def test_fault_70_a_version_that_a_client_invents_is_answered_as_upstream_answers_it(
    version: str, escaping: str
) -> None:
    registry = CollectorRegistry()
    registry.register(Native())
    for media_type in ("application/openmetrics-text", "text/plain"):
        accept = f"{media_type};version={version}{escaping}"
        upstream = Server()
        expected = upstream.run(
            prometheus_client.make_wsgi_app(registry), environ_of("/metrics", HTTP_ACCEPT=accept)
        )
        _, headers, body = scrape(make_wsgi_app(registry), HTTP_ACCEPT=accept)
        assert headers["Content-Type"] == dict(upstream.headers)["Content-Type"]
        assert without_ours(body) == expected


@pytest.mark.parametrize("accept", BROKEN_ACCEPTS)
def test_fault_32_a_broken_accept_header_is_answered_in_a_format_that_prometheus_reads(
    accept: str, filled: CollectorRegistry
) -> None:
    status, headers, body = scrape(make_wsgi_app(filled), HTTP_ACCEPT=accept)
    assert status == "200 OK"
    content_type = headers["Content-Type"]
    assert content_type.startswith(("text/plain; version=", "application/openmetrics-text; version="))
    assert content_type.isascii()
    assert content_type.isprintable()
    assert b"shop_orders_total" in body


@SETTINGS
@given(st.text(st.characters(max_codepoint=255)), st.text(st.characters(max_codepoint=255)), st.text())
def test_fault_32_no_header_and_no_query_makes_a_scrape_fail(accept: str, encoding: str, query: str) -> None:
    registry = CollectorRegistry()
    Counter("x", "Help.", registry=registry)
    environ = {"HTTP_ACCEPT": accept, "HTTP_ACCEPT_ENCODING": encoding, "QUERY_STRING": query}
    status, headers, body = scrape(make_wsgi_app(registry), **environ)
    assert status == "200 OK"
    assert int(headers["Content-Length"]) == len(body)


@SETTINGS
@given(st.lists(st.text(), min_size=1, max_size=5, unique=True), st.floats())
def test_any_label_value_survives_the_way_through_the_text_format(values: list[str], number: float) -> None:
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
def test_any_extra_label_value_can_be_scraped(values: list[str]) -> None:
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


# Compression -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("deflate, gzip", True),
        ("gzip;q=1.0, identity;q=0.5", True),
        ("gzip ; q=0.1", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
        ("gzip;Q=0.000", False),
        ("gzip;q=0, *", False),
        ("*, gzip;q=0", False),
        ("*", True),
        ("*;q=0", False),
        ("identity, *;q=0", False),
        ("identity", False),
        ("br, zstd", False),
        ("gzip;q=abc", False),
        ("gzip;q=", False),
        ("gzip;q", False),
        ("gzip;", True),
        ("gzip;x=y", True),
        ("gzipped", False),
        ("notgzip", False),
        (";;;,,,", False),
        ("q=1", False),
    ],
)
def test_fault_32_gzip_is_sent_to_those_who_take_it(
    header: str, accepted: bool, filled: CollectorRegistry
) -> None:
    assert accepts_gzip(header) is accepted
    _, headers, body = scrape(make_wsgi_app(filled), HTTP_ACCEPT_ENCODING=header)
    assert (headers.get("Content-Encoding") == "gzip") is accepted
    assert headers["Content-Length"] == str(len(body))
    text = gzip.decompress(body) if accepted else body
    assert without_ours(text) == generate_latest(filled)


def test_compression_can_be_switched_off(filled: CollectorRegistry) -> None:
    _, headers, body = scrape(make_wsgi_app(filled, disable_compression=True), HTTP_ACCEPT_ENCODING="gzip")
    assert "Content-Encoding" not in headers
    assert body.startswith(b"# HELP")


def test_webtest_unpacks_what_it_asked_for(filled: CollectorRegistry) -> None:
    client = webtest.TestApp(make_wsgi_app(filled))
    response = client.get("/metrics", headers={"Accept-Encoding": "gzip"})
    response.decode_content()
    assert "shop_orders_total" in response.text


# Methods and headers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_fault_32_head_has_the_headers_of_get_and_no_body(
    encoding: str, filled: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web_prom.exposition.gatherer.perf_counter", lambda: 1.0)
    app = make_wsgi_app(filled)
    got = scrape(app, HTTP_ACCEPT_ENCODING=encoding)
    status, headers, body = scrape(app, method="HEAD", HTTP_ACCEPT_ENCODING=encoding)
    assert (status, headers) == got[:2]
    assert int(headers["Content-Length"]) == len(got[2]) > 0
    assert body == b""


def test_options_tells_the_methods(filled: CollectorRegistry) -> None:
    status, headers, body = scrape(make_wsgi_app(filled), method="OPTIONS")
    assert status == "200 OK"
    assert headers["Allow"] == "GET, HEAD, OPTIONS"
    assert body == b""
    assert headers["Content-Length"] == "0"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "TRACE", "BREW", "get", ""])
def test_other_methods_are_refused(method: str, filled: CollectorRegistry) -> None:
    status, headers, body = scrape(make_wsgi_app(filled), method=method)
    assert status == "405 Method Not Allowed"
    assert headers["Allow"] == "GET, HEAD, OPTIONS"
    assert b"shop" not in body
    assert headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize(
    "environ",
    [{}, {"method": "HEAD"}, {"method": "OPTIONS"}, {"method": "POST"}, {"HTTP_ACCEPT_ENCODING": "gzip"}],
)
def test_fault_32_caches_are_told_what_the_answer_depends_on(
    environ: dict[str, str], filled: CollectorRegistry
) -> None:
    _, headers, _ = scrape(make_wsgi_app(filled), **environ)
    assert headers["Vary"] == "Accept, Accept-Encoding"
    assert headers["Cache-Control"] == "no-store"


def test_an_exposition_gives_plain_values_for_an_adapter(filled: CollectorRegistry) -> None:
    response = Exposition(filled).respond({"REQUEST_METHOD": "GET"})
    assert isinstance(response, Response)
    assert response.status == "200 OK"
    assert ("Content-Type", TEXT) in response.headers
    assert isinstance(response.body, bytes)


def test_it_is_mounted_anywhere(filled: CollectorRegistry) -> None:
    for path in ("/", "/metrics", "/any/thing", ""):
        assert b"shop_orders_total" in serve(make_wsgi_app(filled), path)


# Filters ---------------------------------------------------------------------------------------------


def restricted(registry: CollectorRegistry, *names: str) -> list[str]:
    """Return the sample lines that upstream gives for these names."""
    return sorted(generate_latest(registry.restricted_registry(names)).decode().splitlines())


@pytest.mark.parametrize(
    "names",
    [
        ["shop_orders_total"],
        ["shop_baskets"],
        ["shop_time_seconds_sum", "shop_time_seconds_count"],
        ["shop_build_info", "shop_state"],
        ["http_requests_total", "http_requests_in_progress"],
        ["shop_orders"],  # the family's name is no sample's
        ["no_such_metric"],
        ["no_such_metric", "shop_baskets"],
        [""],
        ["%00"],
    ],
)
def test_fault_24_names_restrict_the_scrape_as_upstream_does(
    names: list[str], filled: CollectorRegistry
) -> None:
    query = "&".join(f"name[]={name}" for name in names)
    status, _, body = scrape(make_wsgi_app(filled), QUERY_STRING=query)
    assert status == "200 OK"
    if names == [""]:
        assert without_ours(body) == generate_latest(filled), "an empty one is none, as with upstream"
    else:
        assert sorted(body.decode().splitlines()) == restricted(filled, *names)


def test_custom_collectors_are_found_by_name(filled: CollectorRegistry) -> None:
    """Upstream cannot: they do not describe their names."""
    _, _, body = scrape(make_wsgi_app(filled), QUERY_STRING="name[]=shop_custom")
    lines = body.decode().splitlines()
    assert [line.split("{")[0] for line in lines if not line.startswith("#")] == ["shop_custom"] * 2


def test_names_filter_the_families_about_the_scrape_too(filled: CollectorRegistry) -> None:
    _, _, body = scrape(
        make_wsgi_app(filled), QUERY_STRING="name[]=web_prom_scrape_series&name[]=shop_baskets"
    )
    assert b"\nweb_prom_scrape_series 1.0\n" in body
    assert b"web_prom_scrape_duration" not in body


def test_other_parameters_filter_nothing(filled: CollectorRegistry) -> None:
    _, _, body = scrape(make_wsgi_app(filled), QUERY_STRING="name=shop_baskets&x=y&&=%zz")
    assert without_ours(body) == generate_latest(filled)


def test_a_restricted_registry_can_be_exposed(filled: CollectorRegistry) -> None:
    _, _, body = scrape(make_wsgi_app(filled.restricted_registry(["shop_baskets"])))
    assert b"shop_baskets -0.5" in body
    assert b"shop_orders" not in body


# Failures --------------------------------------------------------------------------------------------


class Broken:
    """A collector that fails."""

    def collect(self) -> Iterable[Any]:
        yield prometheus_client.metrics_core.GaugeMetricFamily("before", "Help.", 1)
        raise RuntimeError("hush: the password")


def test_a_collector_that_raises_costs_its_own_families_and_a_line_in_the_log(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator whom one collector blinds for all the others is worse off."""
    Gauge("first", "Help.", registry=registry)
    registry.register(Broken())
    Gauge("last", "Help.", registry=registry).set_function(lambda: 1 // 0)
    app = PrometheusMiddleware(hello, registry=registry)
    for _ in range(2):
        status, _, body = scrape(app)
        assert status == "200 OK"
    assert b"\nfirst 0.0\n" in body
    assert b"before" not in body
    assert b"last" not in body.replace(b'stage="collector last"', b"")
    assert b"hush" not in body
    for name in ("Broken", "last"):
        assert f'errors_total{{stage="collector {name}"}} '.encode() in body
    assert len(caplog.records) == 2
    assert caplog.records[0].exc_info is not None
    assert "hush" in str(caplog.records[0].exc_info[1])


def test_a_failure_is_counted_where_nothing_but_scrapes_is_set_up(registry: CollectorRegistry) -> None:
    registry.register(Broken())
    app = make_wsgi_app(registry)
    scrape(app)
    assert b'errors_total{stage="collector Broken"} 2.0' in scrape(app)[2]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_source_that_raises_makes_a_500_without_detail_and_a_line_in_the_log(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Where there is nothing to show but what fails, up == 0 says so."""
    status, headers, body = scrape(make_wsgi_app(Broken()), method=method, HTTP_ACCEPT_ENCODING="gzip")
    assert status == "500 Internal Server Error"
    assert b"hush" not in body
    assert "Content-Encoding" not in headers
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert "hush" in str(record.exc_info[1])


def test_a_scrape_that_failed_leaves_the_next_one_alone(registry: CollectorRegistry) -> None:
    Gauge("x", "Help.", registry=registry)
    broken = Broken()
    registry.register(broken)
    app = make_wsgi_app(registry)
    scrape(app)
    registry.unregister(broken)
    for _ in range(2):
        assert scrape(app)[0] == "200 OK"
        assert errors(registry) == {("collector Broken",): 1}


def test_an_application_whose_scrapes_fail_is_served(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web_prom.exposition.http.Gatherer.gather", lambda *_: 1 // 0)
    app = PrometheusMiddleware(hello, registry=registry)
    assert scrape(app)[0] == "500 Internal Server Error"
    assert serve(app, "/") == b"hello"


# Overlapping scrapes ---------------------------------------------------------------------------------


class Slow:
    """A collector that waits until a test lets it go on."""

    def __init__(self) -> None:
        self.runs = 0
        self.here = threading.Event()
        self.leave = threading.Event()

    def collect(self) -> Iterable[Any]:
        self.runs += 1
        self.here.set()
        assert self.leave.wait(30)
        yield prometheus_client.metrics_core.GaugeMetricFamily("runs", "Help.", self.runs)


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_fault_26_forty_overlapping_scrapes_run_a_collector_a_few_times(
    encoding: str, registry: CollectorRegistry, flight_waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And pack the text as often; everybody gets what was begun after they came."""
    slow, packed = Slow(), []
    registry.register(slow)
    app = make_wsgi_app(registry)
    compress = gzip.compress

    def counted(*args: Any, **options: Any) -> bytes:
        packed.append(1)
        return compress(*args, **options)

    monkeypatch.setattr(gzip, "compress", counted)
    with ThreadPoolExecutor(40) as pool:
        first = pool.submit(scrape, app, HTTP_ACCEPT_ENCODING=encoding)
        assert slow.here.wait(30)
        others = [pool.submit(scrape, app, HTTP_ACCEPT_ENCODING=encoding) for _ in range(39)]
        flight_waits.wait_for(38)
        slow.leave.set()
        bodies = [future.result(30)[2] for future in [first, *others]]
    assert slow.runs == 2
    assert len(packed) == (2 if encoding else 0)
    texts = [gzip.decompress(body) if encoding else body for body in bodies]
    assert b"\nruns 1.0\n" in texts[0]
    assert not any(b"\nruns 1.0\n" in text for text in texts[1:])


def test_fault_70_invented_versions_and_escapings_share_one_text(
    registry: CollectorRegistry, flight_waits: Waits
) -> None:
    slow = Slow()
    registry.register(slow)
    app = make_wsgi_app(registry)
    invented = [
        f"application/openmetrics-text;version=1.{number}.0;escaping=my-{number};q=0.{number}"
        for number in range(30)
    ]
    with ThreadPoolExecutor(40) as pool:
        first = pool.submit(scrape, app)
        assert slow.here.wait(30)
        others = [pool.submit(scrape, app, HTTP_ACCEPT=accept) for accept in invented]
        flight_waits.wait_for(29)
        slow.leave.set()
        answers = [future.result(30) for future in [first, *others]]
    assert slow.runs == 2
    assert [status for status, _, _ in answers] == ["200 OK"] * 31


def test_fault_70_different_names_are_bounded_and_never_hold_up_a_scrape_of_everything(
    registry: CollectorRegistry,
) -> None:
    slow = Slow()
    registry.register(slow)
    app = make_wsgi_app(registry)
    with ThreadPoolExecutor(60) as pool:
        first = pool.submit(scrape, app)
        assert slow.here.wait(30)
        named = [
            pool.submit(scrape, app, QUERY_STRING=f"name[]=runs&name[]=x{number}") for number in range(50)
        ]
        for future in islice(as_completed(named), 34):
            status, headers, _ = future.result()
            assert (status, headers["Retry-After"]) == ("503 Service Unavailable", "1")
        whole = pool.submit(scrape, app)
        slow.leave.set()
        first.result(30)
        assert whole.result(30)[0] == "200 OK"
        statuses = Counts(future.result(30)[0] for future in named)
    assert statuses == {"200 OK": 16, "503 Service Unavailable": 34}


def test_scrapes_that_ask_for_something_else_share_nothing(
    filled: CollectorRegistry, flight_waits: Waits
) -> None:
    asked: list[dict[str, Any]] = [
        {},
        {"HTTP_ACCEPT": "application/openmetrics-text"},
        {"HTTP_ACCEPT_ENCODING": "gzip"},
        {"QUERY_STRING": "name[]=shop_baskets"},
        {"QUERY_STRING": "name[]=shop_state"},
    ]
    slow = Slow()
    filled.register(slow)
    app = make_wsgi_app(filled)
    with ThreadPoolExecutor(11) as pool:
        first = pool.submit(scrape, app)
        assert slow.here.wait(30)
        together = [pool.submit(scrape, app, **environ) for environ in asked * 2]
        flight_waits.wait_for(5)
        slow.leave.set()
        first.result(30)
        answers = [future.result(30) for future in together]
    filled.unregister(slow)
    for environ, answer in zip(asked * 2, answers, strict=True):
        alone = scrape(app, **environ)
        assert without_numbers(answer) == without_numbers(alone)


def without_numbers(answer: tuple[str | None, dict[str, str], bytes]) -> Any:
    """Return an answer as far as the next scrape has it, too."""
    status, headers, body = answer
    text = gzip.decompress(body) if headers.get("Content-Encoding") else body
    lines = [line for line in text.splitlines() if b"runs" not in line and b"web_prom_scrape" not in line]
    return status, headers["Content-Type"], lines


# Several workers and no directory --------------------------------------------------------------------


def warnings_of_lone_workers(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if "PROMETHEUS_MULTIPROC_DIR is not set" in line]


def test_fault_15_several_workers_without_a_directory_are_warned_of_once(
    filled: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_wsgi_app(filled)
    for _ in range(3):
        assert scrape(app, **{"wsgi.multiprocess": True})[0] == "200 OK"
    (warning,) = warnings_of_lone_workers(caplog)
    assert "web_prom.gunicorn" in warning, "with the remedy"


def test_one_worker_is_not_warned(filled: CollectorRegistry, caplog: pytest.LogCaptureFixture) -> None:
    scrape(make_wsgi_app(filled), **{"wsgi.multiprocess": False})
    Exposition(filled, Config()).respond({})
    assert warnings_of_lone_workers(caplog) == []


def test_where_the_server_does_not_tell_it_is_looked_for_a_few_times(
    filled: CollectorRegistry, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers that start later count; where there are none, scrapes are not slowed for ever."""
    answers = iter([False, True])
    monkeypatch.setattr("web_prom.exposition.http.has_siblings", lambda: next(answers))
    exposition = Exposition(filled)
    for expected in (0, 1, 1):
        exposition.respond({"wsgi.multiprocess": None})
        assert len(warnings_of_lone_workers(caplog)) == expected
    looks: list[None] = []
    monkeypatch.setattr("web_prom.exposition.http.has_siblings", lambda: looks.append(None))
    exposition = Exposition(filled)
    for _ in range(5):
        exposition.respond({})
    assert len(looks) == 3


def test_who_may_not_scrape_causes_no_warning(
    filled: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    environ: Environ = {"REQUEST_METHOD": "GET", "wsgi.multiprocess": True}
    assert Exposition(filled, Config(bearer_token=Secret("x"))).respond(environ).status == "401 Unauthorized"
    assert warnings_of_lone_workers(caplog) == []


# Mounted below a measured application -----------------------------------------------------------------------


def mounted_at(path: str, inner: App, outer: App) -> App:
    """Return what a dispatcher makes of two applications."""

    def dispatch(environ: Environ, start_response: Any) -> Any:
        if environ["PATH_INFO"].startswith(path):
            rest = environ["PATH_INFO"].removeprefix(path)
            environ = {**environ, "SCRIPT_NAME": path, "PATH_INFO": rest}
            return inner(environ, start_response)
        return outer(environ, start_response)

    return dispatch


def flask_at_shop(registry: CollectorRegistry) -> App:
    from flask import Flask

    from flask_prom import FlaskProm

    app = Flask("shop")
    FlaskProm(app, registry=registry)
    measured: App = PrometheusMiddleware(mounted_at("/shop", app, hello), registry=registry, path="")
    return measured


def dispatcher_inside_of_flask(registry: CollectorRegistry) -> App:
    from flask import Flask

    from flask_prom import FlaskProm

    app = Flask("shop")
    app.wsgi_app = mounted_at("/shop", make_wsgi_app(registry), app.wsgi_app)  # type: ignore[assignment]
    FlaskProm(app, registry=registry)
    return app


MOUNTS = {
    "make_wsgi_app": lambda registry: PrometheusMiddleware(
        mounted_at("/shop", make_wsgi_app(registry), hello), registry=registry, path=""
    ),
    "a measured application": lambda registry: PrometheusMiddleware(
        mounted_at("/shop", PrometheusMiddleware(hello, registry=registry), hello), registry=registry, path=""
    ),
    "a Flask application": flask_at_shop,
    "a dispatcher inside of Flask": dispatcher_inside_of_flask,
}


@pytest.mark.parametrize("mount", MOUNTS.values(), ids=MOUNTS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("more", [{}, {"HTTP_UPGRADE": "websocket"}], ids=["", "upgrade"])
def test_fault_79_a_mounted_scrape_is_not_in_progress(
    registry: CollectorRegistry, mount: Any, method: str, more: Any
) -> None:
    """And neither counted nor an error, whatever the client asks for beside it."""
    app = mount(registry)
    for _ in range(2):
        body = serve(app, "/shop/metrics", method, **more)
        if method == "GET":
            assert b"\nhttp_requests_in_progress 0.0\n" in body
    assert requests(registry) == {}
    assert in_progress(registry) == 0
    assert errors(registry) == {}
    assert samples(registry, "websocket_connections_total", "code") == {}
    assert registry.get_sample_value("websocket_connections_in_progress") in {None, 0}
