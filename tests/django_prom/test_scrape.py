"""Scrapes of a Django project: paths, access, formats."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path
from typing import Any

import pytest
from django.test import Client, override_settings
from django.utils import translation
from prometheus_client import CollectorRegistry, Counter

from django_prom.mounts import find_mounts
from django_prom.views import metrics
from tests.web_prom.support import Server, environ_of, in_progress, python, requests
from web_prom.wsgi import PrometheusMiddleware as WSGIMiddleware

from .conftest import Site, configured, site_environ

HERE = "tests.django_prom.middleware"


def headers(site: Site) -> dict[str, str]:
    """Return the headers of the last response."""
    names = [name for name, _ in site.last.headers]
    assert len(names) == len(set(names))
    return dict(site.last.headers)


def test_scrape_contains_metrics_of_the_project(site: Site, registry: CollectorRegistry) -> None:
    """They are in the same registry."""
    Counter("orders", "Orders placed.", registry=registry).inc(3)
    assert site("/metrics") == "200"
    assert "orders_total 3.0" in site.text
    assert "http_requests_in_progress 0.0" in site.text


def test_scrapes_are_not_counted(site: Site, client: Client, registry: CollectorRegistry) -> None:
    """Neither by the middleware nor by the view."""
    for _ in range(2):
        site("/metrics")
        client.get("/metrics")
    assert requests(registry) == {}
    assert in_progress(registry) == 0


@configured(MIDDLEWARE=[f"{HERE}.login"])
def test_fault_18_scrape_needs_no_login(site: Site, registry: CollectorRegistry) -> None:
    """The middleware answers first."""
    assert site("/metrics") == "200"
    assert site("/") == "302"


@configured(ALLOWED_HOSTS=["example.org"])
def test_fault_18_scrape_needs_no_allowed_host(site: Site) -> None:
    """Prometheus uses the address of the pod. Other requests are refused."""
    assert site("/metrics", HTTP_HOST="10.1.2.3:8000") == "200"
    assert site("/", HTTP_HOST="10.1.2.3:8000") == "400"


@configured(SECURE_SSL_REDIRECT=True)
def test_fault_18_scrape_is_not_redirected_to_https(site: Site) -> None:
    assert site("/metrics") == "200"
    assert site("/") == "301"


@pytest.mark.parametrize("more", [{"SCRIPT_NAME": "/shop"}, {"SCRIPT_NAME": "/shop/"}, {"SCRIPT_NAME": ""}])
def test_scrape_path_is_below_the_script_name(
    more: dict[str, str], site: Site, registry: CollectorRegistry
) -> None:
    """The project is mounted in a larger application."""
    assert site("/metrics", **more) == "200"
    assert site("/shop/metrics", **more) == "404"
    assert site("/users/1/", **more) == "200"
    assert ("GET", "/users/<int:pk>/", "200") in requests(registry)


@configured(FORCE_SCRIPT_NAME="/forced")
def test_scrape_works_with_a_forced_script_name(site: Site) -> None:
    assert site("/metrics") == "200"
    assert site.text.startswith("# HELP")


@configured(ROOT_URLCONF="tests.django_prom.urls_hosts")
def test_scrape_path_is_below_an_include(site: Site) -> None:
    assert site("/internal/metrics") == "200"
    assert site("/metrics") == "404"


@configured(PROM_PATH="/internal/métriques/")
def test_scrape_path_can_be_changed(site: Site) -> None:
    """It can have characters that WSGI passes as bytes."""
    assert find_mounts("tests.django_prom.urls").paths[0] == "/internal/métriques/"
    assert site("/internal/métriques/".encode().decode("latin-1")) == "200"
    assert site("/metrics") == "404"


@configured(PROM_PATH="")
def test_empty_path_answers_no_scrapes(site: Site, registry: CollectorRegistry) -> None:
    """Requests are still measured."""
    assert site("/metrics") == "404"
    assert site("/") == "200"
    assert requests(registry) == {("GET", "_unmatched", "404"): 1, ("GET", "/", "200"): 1}


@configured(ROOT_URLCONF="tests.django_prom.urls_i18n_bare")
def test_urls_without_an_include_answer_no_scrapes(site: Site) -> None:
    """The path can belong to the project."""
    assert site("/metrics") == "404"


@pytest.mark.parametrize(("language", "other"), [("en", "de"), ("de", "en")])
def test_scrape_works_inside_i18n_patterns(
    language: str, other: str, site: Site, registry: CollectorRegistry
) -> None:
    """The middleware answers in the default language, the view in all others."""
    with (
        override_settings(
            ROOT_URLCONF="tests.django_prom.urls_i18n",
            MIDDLEWARE=[
                "django.middleware.locale.LocaleMiddleware",
                "django.middleware.common.CommonMiddleware",
            ],
            LANGUAGE_CODE=language,
        ),
        translation.override(other),  # the language of the last request in this thread
    ):
        assert site(f"/{language}/metrics", HTTP_HOST="10.1.2.3") == "200"
        assert site(f"/{other}/metrics", HTTP_HOST="10.1.2.3") == "400"
        assert site(f"/{other}/metrics") == "200"
        with override_settings(LANGUAGE_CODE=other):
            assert site(f"/{other}/metrics", HTTP_HOST="10.1.2.3") == "200"
            assert site(f"/{language}/metrics", HTTP_HOST="10.1.2.3") == "400"
    assert requests(registry) == {}


@configured(PROM_INSTALL_MIDDLEWARE=False)
def test_view_answers_without_the_middleware(site: Site) -> None:
    """Nothing is measured."""
    assert site("/metrics") == "200"
    assert site("/") == "200"
    assert site("/metrics") == "200"
    assert "http_requests_total" not in site.text


def test_view_needs_no_login() -> None:
    """LoginRequiredMiddleware of Django 5.1 and newer reads this attribute."""
    assert metrics.login_required is False  # type: ignore[attr-defined]


@configured(
    PROM_INSTALL_MIDDLEWARE=False,
    MIDDLEWARE=[f"{HERE}.either", "django_prom.middleware.PrometheusMiddleware"],
)
def test_middleware_in_a_lower_position_answers_scrapes(site: Site, registry: CollectorRegistry) -> None:
    assert site("/metrics") == "200"
    assert requests(registry) == {}


def test_scrape_below_an_outer_middleware_is_not_counted(registry: CollectorRegistry) -> None:
    """The outer middleware has another scrape path."""
    from django.core.wsgi import get_wsgi_application

    app = WSGIMiddleware(get_wsgi_application(), registry=registry, path="/other")
    for _ in range(2):
        server = Server()
        server.run(app, site_environ("/metrics"))
        assert server.status == "200 OK"
    assert requests(registry) == {}


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("text/plain", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text; version=1.0.0"),
        ("*/*", "text/plain"),
    ],
)
def test_fault_31_accept_selects_the_format(accept: str, content_type: str, site: Site) -> None:
    """Content-Type names the format."""
    assert site("/metrics", HTTP_ACCEPT=accept) == "200"
    assert headers(site)["Content-Type"].startswith(content_type)
    assert site.text.endswith("# EOF\n") == ("openmetrics" in accept)


def test_fault_32_unusual_headers_are_handled(site: Site) -> None:
    """``version=abc``, ``gzip;q=0``, Vary, HEAD."""
    assert site("/metrics", HTTP_ACCEPT="application/openmetrics-text; version=abc") == "200"
    assert site("/metrics", HTTP_ACCEPT_ENCODING="gzip;q=0") == "200"
    assert "Content-Encoding" not in headers(site)
    assert headers(site)["Vary"] == "Accept, Accept-Encoding"
    assert headers(site)["Cache-Control"] == "no-store"
    assert site("/metrics", HTTP_ACCEPT_ENCODING="gzip") == "200"
    assert headers(site)["Content-Encoding"] == "gzip"
    body = b"".join(site.last.sent)
    assert gzip.decompress(body).startswith(b"# HELP")
    assert headers(site)["Content-Length"] == str(len(body))
    assert site("/metrics", "HEAD") == "200"
    assert site.last.sent == [b""]
    assert int(headers(site)["Content-Length"]) > 0


@pytest.mark.parametrize("install", [True, False])
def test_scrape_allows_only_safe_methods(install: bool, site: Site) -> None:
    """The middleware and the view give the same answers."""
    with override_settings(PROM_INSTALL_MIDDLEWARE=install):
        assert site("/metrics", "POST") == "405"
        assert headers(site)["Allow"] == "GET, HEAD, OPTIONS"
        assert site("/metrics", "OPTIONS") == "200"
        assert headers(site)["Allow"] == "GET, HEAD, OPTIONS"
        assert "text/html" not in headers(site).get("Content-Type", "")


def test_scrape_can_be_filtered_by_name(site: Site) -> None:
    """With ``name[]``."""
    assert site("/metrics", QUERY_STRING="name[]=http_requests_in_progress") == "200"
    assert [line for line in site.text.splitlines() if not line.startswith("#")] == [
        "http_requests_in_progress 0.0"
    ]


@configured(PROM_BEARER_TOKEN="secret", PROM_BASIC_AUTH="ann:secret")
def test_scrape_is_protected_by_credentials(site: Site) -> None:
    """One header has both challenges, because a response of Django has each header once."""
    assert site("/metrics") == "401"
    assert headers(site)["WWW-Authenticate"] == 'Bearer, Basic realm="metrics", charset="UTF-8"'
    assert site("/metrics", HTTP_AUTHORIZATION="Bearer secret") == "200"


@configured(PROM_ALLOWED_NETWORKS=["10.0.0.0/8"])
def test_scrape_is_protected_by_networks(site: Site) -> None:
    """The address of the socket counts."""
    assert site("/metrics", REMOTE_ADDR="10.1.2.3") == "200"
    assert site("/metrics", REMOTE_ADDR="192.0.2.1") == "403"
    assert site("/metrics", REMOTE_ADDR="192.0.2.1", HTTP_X_FORWARDED_FOR="10.1.2.3") == "403"


def test_fault_15_workers_without_a_directory_log_a_warning(
    site: Site, client: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server says that it has several processes. Django's test client says so too, with one process."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    with caplog.at_level(logging.WARNING, "web_prom"):
        client.get("/metrics")
        assert caplog.messages == []
        site("/metrics", **{"wsgi.multiprocess": True})
        assert "PROMETHEUS_MULTIPROC_DIR is not set" in caplog.text


def test_path_with_the_same_end_is_not_a_scrape(site: Site, registry: CollectorRegistry) -> None:
    assert site("/users/metrics") == site("/xmetrics") == "404"
    assert requests(registry) == {("GET", "_unmatched", "404"): 2}


def test_import_error_of_the_urls_is_raised(registry: CollectorRegistry) -> None:
    """Django reports it."""
    from django.core.handlers.wsgi import WSGIHandler

    with override_settings(ROOT_URLCONF="tests.django_prom.no_such_module"):
        handler: Any = WSGIHandler()
        with pytest.raises(ModuleNotFoundError):
            handler(environ_of("/metrics", HTTP_HOST="testserver"), Server().start_response)
    assert requests(registry) == {("GET", "_unmatched", "500"): 1}


ROWS = """
    import sys, django
    from django.conf import settings
    settings.configure(
        INSTALLED_APPS=["django_prom"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}},
        PROM_COLLECTOR_TIMEOUT=60,
    )
    django.setup()
    from django.db import connections
    from django.test import RequestFactory
    from django_prom.views import metrics
    from prometheus_client import REGISTRY
    from prometheus_client.core import GaugeMetricFamily

    class Rows:
        used = []
        def describe(self):
            return []
        def collect(self):
            self.used.append(connections["default"])
            with connections["default"].cursor() as cursor:
                cursor.execute("SELECT 7")
                (rows,) = cursor.fetchone()
            yield GaugeMetricFamily("shop_rows", "Help.", value=rows)

    REGISTRY.register(Rows())
    text = metrics(RequestFactory().get("/metrics")).content.decode()
    (used,) = Rows.used
    print("shop_rows 7.0" in text, used is connections["default"], used.connection)
"""


@pytest.mark.slow
def test_database_connection_of_a_collector_is_closed(tmp_path: Path) -> None:
    """The collector runs in its own thread, where no request starts or ends."""
    assert python(ROWS, str(tmp_path / "db.sqlite3")) == "True False None\n"
