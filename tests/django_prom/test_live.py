"""The live page in a Django project: where the metrics are mounted, its access, and its requests."""

from __future__ import annotations

import asyncio
import json

import pytest
from django.test import AsyncClient, Client
from prometheus_client import CollectorRegistry

from django_prom.mounts import find_mounts
from django_prom.views import live
from tests.web_prom.live.support import valid
from tests.web_prom.support import in_progress, python, requests
from web_prom.live.keeper import HistoryKeeper

from .conftest import Site, configured

FILES = ("/live/", "/live/snapshot.json", "/live/history.json")
HERE = {"REMOTE_ADDR": "127.0.0.1"}


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[HistoryKeeper]:
    """Keep the keepers that were started. They start no thread here."""
    found: list[HistoryKeeper] = []

    def keep(keeper: HistoryKeeper) -> None:
        found.append(keeper)

    monkeypatch.setattr(HistoryKeeper, "start", keep)
    return found


@configured(PROM_LIVE=True, PROM_ALLOWED_NETWORKS="127.0.0.1")
def test_page_is_shown_where_the_metrics_are(
    site: Site, registry: CollectorRegistry, started: list[HistoryKeeper]
) -> None:
    assert site("/", **HERE) == "200"
    assert started
    assert [site(path, **HERE) for path in FILES] == ["200", "200", "200"]
    assert site("/live", **HERE) == "308"
    assert dict(site.last.headers)["Location"] == "live/"
    assert site("/live/snapshot.json", **HERE) == "200"
    snapshot = valid(json.loads(site.text))
    assert sum(sum(row["counts"]) for row in snapshot["requests"]["routes"]) == 1
    assert sum(requests(registry).values()) == 1
    assert in_progress(registry) == 0


@configured(PROM_LIVE=True, ROOT_URLCONF="tests.django_prom.urls_i18n", PROM_ALLOWED_NETWORKS="127.0.0.1")
def test_page_is_found_below_the_prefix_of_an_include(site: Site, registry: CollectorRegistry) -> None:
    for scrapes, page in zip(
        find_mounts("tests.django_prom.urls_i18n").paths,
        find_mounts("tests.django_prom.urls_i18n", live).paths,
        strict=True,
    ):
        assert page == scrapes.removesuffix("/metrics") + "/live"
        assert site(f"{page}/snapshot.json", **HERE) == "200"


@configured(
    PROM_LIVE=True, PROM_BEARER_TOKEN="s3cret", SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https")
)
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_cookie_of_the_page_is_sent_over_https_only_if_the_client_uses_it(
    is_async: bool, scheme: str, client: Client, async_client: AsyncClient
) -> None:
    headers = {"Authorization": "Bearer s3cret", "X-Forwarded-Proto": scheme}
    if is_async:
        response = asyncio.run(async_client.get("/live/session", headers=headers))
    else:
        response = client.get("/live/session", headers=headers)
    assert ("Secure" in response["Set-Cookie"]) is (scheme == "https")


@configured(PROM_LIVE=True)
def test_page_is_open_in_debug_mode_alone(site: Site) -> None:
    assert site("/live/") == "403"
    assert "PROM_BASIC_AUTH_FILE" in site.text


@configured(PROM_LIVE=True, DEBUG=True)
def test_page_is_open_in_debug_mode(site: Site) -> None:
    assert site("/live/") == "200"


@configured(PROM_LIVE=True, PROM_LIVE_PATH="/internal/now", DEBUG=True)
def test_page_is_at_the_path_of_the_settings(site: Site, client: Client) -> None:
    assert site("/internal/now/") == "200"
    assert client.get("/internal/now/snapshot.json").json()["version"] == 1
    assert site("/live/") == "404"


def test_page_does_not_exist_by_default(site: Site) -> None:
    assert site("/live/") == "404"


@pytest.mark.slow
def test_off_imports_nothing() -> None:
    code = """
        import os, sys
        os.environ["DJANGO_SETTINGS_MODULE"] = "tests.django_prom.settings"
        import django
        django.setup()
        from django.test import Client
        Client().get("/"), Client().get("/metrics")
        print([name for name in sys.modules if name.startswith("web_prom.live")])
    """
    assert python(code).strip() == "[]"
