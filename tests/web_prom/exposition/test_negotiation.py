"""Content negotiation: the Accept headers, with prometheus_client as the oracle, and gzip."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from typing import Any

import prometheus_client
import pytest
import webtest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, generate_latest

from tests.web_prom.exposition.support import scrape, without_scrape_metrics
from tests.web_prom.support import Server, environ_of
from web_prom import make_wsgi_app
from web_prom.exposition.negotiation import accepts_gzip

SETTINGS = settings(deadline=None, max_examples=60, database=None)


# The headers of Prometheus 3 and of other clients.
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


# Headers for which prometheus_client raises, or returns an unusual content type.
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


@pytest.mark.parametrize("accept", ACCEPTS)
def test_fault_31_format_is_the_one_that_prometheus_client_chooses(
    accept: str | None, filled: CollectorRegistry
) -> None:
    environ = {} if accept is None else {"HTTP_ACCEPT": accept}
    upstream = Server()
    expected = upstream.run(prometheus_client.make_wsgi_app(filled), environ_of("/metrics", **environ))
    status, headers, body = scrape(make_wsgi_app(filled), **environ)
    assert status == upstream.status
    assert headers["Content-Type"] == dict(upstream.headers)["Content-Type"]
    assert without_scrape_metrics(body) == expected


class Native:
    """A collector with a native histogram, which is in OpenMetrics from version 2 on."""

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
def test_fault_70_unknown_version_is_answered_as_prometheus_client_does(version: str, escaping: str) -> None:
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
        assert without_scrape_metrics(body) == expected


@pytest.mark.parametrize("accept", BROKEN_ACCEPTS)
def test_fault_32_invalid_accept_header_gets_a_valid_format(accept: str, filled: CollectorRegistry) -> None:
    status, headers, body = scrape(make_wsgi_app(filled), HTTP_ACCEPT=accept)
    assert status == "200 OK"
    content_type = headers["Content-Type"]
    assert content_type.startswith(("text/plain; version=", "application/openmetrics-text; version="))
    assert content_type.isascii()
    assert content_type.isprintable()
    assert b"shop_orders_total" in body


@SETTINGS
@given(st.text(st.characters(max_codepoint=255)), st.text(st.characters(max_codepoint=255)), st.text())
def test_fault_32_random_headers_and_queries_are_answered(accept: str, encoding: str, query: str) -> None:
    registry = CollectorRegistry()
    Counter("x", "Help.", registry=registry)
    environ = {"HTTP_ACCEPT": accept, "HTTP_ACCEPT_ENCODING": encoding, "QUERY_STRING": query}
    status, headers, body = scrape(make_wsgi_app(registry), **environ)
    assert status == "200 OK"
    assert int(headers["Content-Length"]) == len(body)


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
def test_fault_32_gzip_is_used_if_the_client_accepts_it(
    header: str, accepted: bool, filled: CollectorRegistry
) -> None:
    assert accepts_gzip(header) is accepted
    _, headers, body = scrape(make_wsgi_app(filled), HTTP_ACCEPT_ENCODING=header)
    assert (headers.get("Content-Encoding") == "gzip") is accepted
    assert headers["Content-Length"] == str(len(body))
    text = gzip.decompress(body) if accepted else body
    assert without_scrape_metrics(text) == generate_latest(filled)


def test_compression_can_be_disabled(filled: CollectorRegistry) -> None:
    _, headers, body = scrape(make_wsgi_app(filled, disable_compression=True), HTTP_ACCEPT_ENCODING="gzip")
    assert "Content-Encoding" not in headers
    assert body.startswith(b"# HELP")


def test_gzip_body_is_decoded_by_webtest(filled: CollectorRegistry) -> None:
    client = webtest.TestApp(make_wsgi_app(filled))
    response = client.get("/metrics", headers={"Accept-Encoding": "gzip"})
    response.decode_content()
    assert "shop_orders_total" in response.text
