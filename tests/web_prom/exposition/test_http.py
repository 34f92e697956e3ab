"""The HTTP part of a scrape: methods, headers, failures, and the warning about other workers."""

from __future__ import annotations

import logging

import pytest
from prometheus_client import CollectorRegistry, Gauge

from tests.web_prom.exposition.support import Broken, scrape
from tests.web_prom.support import Environ, errors, hello, serve
from web_prom import PrometheusMiddleware, make_wsgi_app
from web_prom.config import Config
from web_prom.config.credentials import Secret
from web_prom.exposition.http import Exposition, Response

TEXT = "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_fault_32_head_returns_the_headers_of_get_without_a_body(
    encoding: str, filled: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web_prom.exposition.gatherer.perf_counter", lambda: 1.0)
    app = make_wsgi_app(filled)
    got = scrape(app, HTTP_ACCEPT_ENCODING=encoding)
    status, headers, body = scrape(app, method="HEAD", HTTP_ACCEPT_ENCODING=encoding)
    assert (status, headers) == got[:2]
    assert int(headers["Content-Length"]) == len(got[2]) > 0
    assert body == b""


def test_options_lists_the_methods(filled: CollectorRegistry) -> None:
    status, headers, body = scrape(make_wsgi_app(filled), method="OPTIONS")
    assert status == "200 OK"
    assert headers["Allow"] == "GET, HEAD, OPTIONS"
    assert body == b""
    assert headers["Content-Length"] == "0"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "TRACE", "BREW", "get", ""])
def test_other_methods_are_rejected(method: str, filled: CollectorRegistry) -> None:
    status, headers, body = scrape(make_wsgi_app(filled), method=method)
    assert status == "405 Method Not Allowed"
    assert headers["Allow"] == "GET, HEAD, OPTIONS"
    assert b"shop" not in body
    assert headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize(
    "environ",
    [{}, {"method": "HEAD"}, {"method": "OPTIONS"}, {"method": "POST"}, {"HTTP_ACCEPT_ENCODING": "gzip"}],
)
def test_fault_32_cache_headers_are_in_every_answer(
    environ: dict[str, str], filled: CollectorRegistry
) -> None:
    _, headers, _ = scrape(make_wsgi_app(filled), **environ)
    assert headers["Vary"] == "Accept, Accept-Encoding"
    assert headers["Cache-Control"] == "no-store"


def test_respond_returns_plain_values(filled: CollectorRegistry) -> None:
    response = Exposition(filled).respond({"REQUEST_METHOD": "GET"})
    assert isinstance(response, Response)
    assert response.status == "200 OK"
    assert ("Content-Type", TEXT) in response.headers
    assert isinstance(response.body, bytes)


def test_make_wsgi_app_answers_at_any_path(filled: CollectorRegistry) -> None:
    for path in ("/", "/metrics", "/any/thing", ""):
        assert b"shop_orders_total" in serve(make_wsgi_app(filled), path)


def test_failing_collector_is_counted_and_only_its_families_are_missing(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """One failing collector does not hide the metrics of all others."""
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


def test_failing_collector_is_counted_without_a_middleware(registry: CollectorRegistry) -> None:
    registry.register(Broken())
    app = make_wsgi_app(registry)
    scrape(app)
    assert b'errors_total{stage="collector Broken"} 2.0' in scrape(app)[2]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_failing_source_is_answered_with_500_and_logged(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    """If the only source fails, ``up == 0`` shows it."""
    status, headers, body = scrape(make_wsgi_app(Broken()), method=method, HTTP_ACCEPT_ENCODING="gzip")
    assert status == "500 Internal Server Error"
    assert b"hush" not in body
    assert "Content-Encoding" not in headers
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert "hush" in str(record.exc_info[1])


def test_scrape_after_a_failed_one_succeeds(registry: CollectorRegistry) -> None:
    Gauge("x", "Help.", registry=registry)
    broken = Broken()
    registry.register(broken)
    app = make_wsgi_app(registry)
    scrape(app)
    registry.unregister(broken)
    for _ in range(2):
        assert scrape(app)[0] == "200 OK"
        assert errors(registry) == {("collector Broken",): 1}


def test_application_is_served_while_scrapes_fail(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web_prom.exposition.http.Gatherer.gather", lambda *_: 1 // 0)
    app = PrometheusMiddleware(hello, registry=registry)
    assert scrape(app)[0] == "500 Internal Server Error"
    assert serve(app, "/") == b"hello"


def warnings_about_workers(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if "PROMETHEUS_MULTIPROC_DIR is not set" in line]


def test_fault_15_several_workers_without_a_directory_are_logged_once(
    filled: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_wsgi_app(filled)
    for _ in range(3):
        assert scrape(app, **{"wsgi.multiprocess": True})[0] == "200 OK"
    (warning,) = warnings_about_workers(caplog)
    assert "web_prom.gunicorn" in warning, "with the remedy"


def test_one_worker_is_not_logged(filled: CollectorRegistry, caplog: pytest.LogCaptureFixture) -> None:
    scrape(make_wsgi_app(filled), **{"wsgi.multiprocess": False})
    Exposition(filled, Config()).respond({})
    assert warnings_about_workers(caplog) == []


def test_other_workers_are_searched_in_the_first_scrapes_only(
    filled: CollectorRegistry, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers that start later are found. If there are none, only the first scrapes take longer."""
    answers = iter([False, True])
    monkeypatch.setattr("web_prom.exposition.http.has_sibling_workers", lambda: next(answers))
    exposition = Exposition(filled)
    for expected in (0, 1, 1):
        exposition.respond({"wsgi.multiprocess": None})
        assert len(warnings_about_workers(caplog)) == expected
    looks: list[None] = []
    monkeypatch.setattr("web_prom.exposition.http.has_sibling_workers", lambda: looks.append(None))
    exposition = Exposition(filled)
    for _ in range(5):
        exposition.respond({})
    assert len(looks) == 3


def test_refused_scrape_logs_no_warning(filled: CollectorRegistry, caplog: pytest.LogCaptureFixture) -> None:
    environ: Environ = {"REQUEST_METHOD": "GET", "wsgi.multiprocess": True}
    assert Exposition(filled, Config(bearer_token=Secret("x"))).respond(environ).status == "401 Unauthorized"
    assert warnings_about_workers(caplog) == []
