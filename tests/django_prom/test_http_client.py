"""The setting PROM_HTTP_CLIENT in a Django project."""

from __future__ import annotations

import requests
from django.test import override_settings
from prometheus_client import CollectorRegistry

from tests.web_prom.http_client.support import calls, serving, total

from .conftest import Site


def test_setting_measures_requests_until_it_is_off(registry: CollectorRegistry) -> None:
    with serving() as server:
        with override_settings(PROM_HTTP_CLIENT=True):
            assert Site()("/hello/") in ("200", "404")
            requests.get(server.url)
            assert calls(registry) == {("GET", "127.0.0.1", "200", ""): 1}
        requests.get(server.url)
        assert total(registry) == 1
