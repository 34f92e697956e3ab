"""The setup of a project, and changes of settings by tests."""

from __future__ import annotations

from collections.abc import Iterator
from pprint import pformat
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, MiddlewareNotUsed
from django.core.signals import got_request_exception, request_finished, request_started
from django.test import Client, modify_settings, override_settings
from django.urls import reverse
from django.views.debug import SafeExceptionReporterFilter
from prometheus_client import CollectorRegistry

from django_prom import conf
from django_prom.middleware import PrometheusMiddleware
from django_prom.middleware_install import install
from tests.web_prom.support import errors, exceptions, requests, samples
from web_prom.config.credentials import Secret
from web_prom.errors import ConfigError, ConflictError

from . import views
from .conftest import Site, configured

HERE = "tests.django_prom.middleware"


OURS = "django_prom.middleware.PrometheusMiddleware"


WATCHER = "django_prom.middleware.watch_exceptions"


SECURITY = "django.middleware.security.SecurityMiddleware"


COMMON = "django.middleware.common.CommonMiddleware"


def present() -> Any:
    """Return the present setting."""
    return settings.MIDDLEWARE


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Check that overrides leave the settings of the project unchanged."""
    before = list(settings.MIDDLEWARE)
    yield
    assert list(settings.MIDDLEWARE) == before == [OURS, SECURITY, COMMON, WATCHER]


def test_fault_17_app_installs_the_middleware() -> None:
    """The settings module does not name it."""
    from tests.django_prom import settings as module

    assert module.MIDDLEWARE == [SECURITY, COMMON]
    assert present() == [OURS, SECURITY, COMMON, WATCHER]


def test_fault_77_debug_page_hides_secrets() -> None:
    """Django 4.2 hides settings by words in their names, and BASIC_AUTH has none of these words."""
    secrets = {"PROM_BASIC_AUTH": "ann:hush", "PROM_BEARER_TOKEN": "hush"}
    with override_settings(**secrets):
        apps.get_app_config("django_prom").ready()
        assert "hush" not in pformat({name: getattr(settings, name) for name in secrets})
        shown = SafeExceptionReporterFilter().get_safe_settings()
        assert "hush" not in pformat(shown)
        assert conf.config().basic_auth == Secret("ann:hush")
        assert Client().get("/metrics", headers={"Authorization": "Bearer hush"}).status_code == 200
        assert Client().get("/metrics").status_code == 401


def test_fault_14_ready_can_be_called_many_times() -> None:
    receivers = [len(signal.receivers) for signal in (request_started, got_request_exception)]
    before = present()
    apps.get_app_config("django_prom").ready()
    install()
    assert present() is before
    assert present() == [OURS, SECURITY, COMMON, WATCHER]
    assert receivers == [len(signal.receivers) for signal in (request_started, got_request_exception)]


def test_fault_14_handlers_share_one_set_of_families(registry: CollectorRegistry) -> None:
    """The server and each test client load the project."""
    for _ in range(3):
        Site()("/")
        Client().get("/")
    assert requests(registry) == {("GET", "/", "200"): 6}


@pytest.mark.parametrize("kind", [list, tuple])
def test_override_of_middleware_keeps_one_entry(
    kind: type[Any], site: Site, registry: CollectorRegistry
) -> None:
    """The user's own object does not change."""
    of_user = kind([COMMON])
    with override_settings(MIDDLEWARE=of_user):
        assert present() == kind([OURS, COMMON, WATCHER])
        with override_settings(MIDDLEWARE=kind([SECURITY])):
            assert present() == kind([OURS, SECURITY, WATCHER])
        assert present() == kind([OURS, COMMON, WATCHER])
        site("/")
    assert of_user == kind([COMMON])
    assert requests(registry) == {("GET", "/", "200"): 1}


def test_override_by_a_copy_moves_the_entries_to_the_ends(site: Site) -> None:
    """Entries that a test adds to a copy are between the two entries of web-prom."""
    with modify_settings(MIDDLEWARE={"prepend": f"{HERE}.plain", "append": f"{HERE}.either"}):
        assert present() == [OURS, f"{HERE}.plain", SECURITY, COMMON, f"{HERE}.either", WATCHER]
    with override_settings(MIDDLEWARE=[*settings.MIDDLEWARE, f"{HERE}.either"]):
        assert present() == [OURS, SECURITY, COMMON, f"{HERE}.either", WATCHER]
    with modify_settings(MIDDLEWARE={"remove": [OURS, WATCHER]}):
        assert present() == [OURS, SECURITY, COMMON, WATCHER]


def test_position_set_by_the_user_is_kept() -> None:
    """watch_exceptions, which the user did not list, is last."""
    with override_settings(MIDDLEWARE=[SECURITY, OURS, COMMON]):
        assert present() == [SECURITY, OURS, COMMON, WATCHER]
    with override_settings(MIDDLEWARE=[OURS, WATCHER, COMMON]):
        assert present() == [OURS, WATCHER, COMMON]


@pytest.mark.parametrize("key", ["PROM_INSTALL_MIDDLEWARE", "PROM_ENABLED"])
def test_installation_can_be_disabled(key: str, registry: CollectorRegistry) -> None:
    """The list is as the user wrote it, also after a further override."""
    with override_settings(**{key: False}):
        assert present() == [SECURITY, COMMON]
        with override_settings(MIDDLEWARE=[COMMON]):
            assert present() == [COMMON]
        assert Site()("/") == "200"
    assert requests(registry) == {}


@configured(PROM_ENABLED=False, MIDDLEWARE=[OURS, WATCHER])
def test_disabled_project_has_no_metrics_and_no_scrapes(site: Site, registry: CollectorRegistry) -> None:
    """The user has listed the middleware."""
    assert site("/metrics") == "404"
    assert site("/fail/") == "500"
    assert list(registry.collect()) == []
    with pytest.raises(MiddlewareNotUsed):
        PrometheusMiddleware(lambda request: None)


def test_override_of_installed_apps_removes_the_middleware() -> None:
    """It is added again with the app."""
    with override_settings(INSTALLED_APPS=["rest_framework"]):
        assert present() == [SECURITY, COMMON]
        with override_settings(INSTALLED_APPS=["django_prom"]):
            assert present() == [OURS, SECURITY, COMMON, WATCHER]
        assert present() == [SECURITY, COMMON]


def test_override_of_apps_and_middleware_together() -> None:
    """Django reports one change after the other."""
    with override_settings(INSTALLED_APPS=["rest_framework"], MIDDLEWARE=[COMMON]):
        assert present() == [COMMON]
    with override_settings(MIDDLEWARE=[COMMON], INSTALLED_APPS=["django_prom"]):
        assert present() == [OURS, COMMON, WATCHER]


def test_missing_or_invalid_middleware_setting_is_ignored() -> None:
    """Django itself reports an invalid value."""
    with override_settings():
        del settings.MIDDLEWARE
        install()
        assert not hasattr(settings, "MIDDLEWARE")
    with override_settings(MIDDLEWARE=None):
        assert settings.MIDDLEWARE is None


def test_changed_settings_apply_immediately(client: Client, registry: CollectorRegistry) -> None:
    """Also for a client that has loaded its middleware."""
    client.get("/")
    with override_settings(PROM_BEARER_TOKEN="secret"):
        assert client.get("/metrics").status_code == 401
    assert reverse("django_prom:metrics") == "/metrics"
    with override_settings(PROM_PATH="/elsewhere"):
        assert client.get("/metrics").status_code == 404
        assert client.get("/elsewhere").status_code == 200
        assert reverse("django_prom:metrics") == "/elsewhere"
    with override_settings(PROM_EXCLUDE=["/"]):
        client.get("/")
    with override_settings(PROM_ENABLED=False):
        client.get("/")
    assert client.get("/metrics").status_code == 200
    assert requests(registry) == {("GET", "/", "200"): 1, ("GET", "_unmatched", "404"): 1}


def test_settings_take_precedence_over_the_environment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROM_PATH", "/from-environ")
    monkeypatch.setenv("PROM_NAMESPACE", "shop")
    with override_settings(PROM_NAMESPACE="store"):
        assert conf.config().path == "/from-environ"
        assert conf.config().namespace == "store"
        assert site("/from-environ") == "200"
        assert "store_http_requests_in_progress" in site.text


@configured(PROM_DURATION_BUCKETS=[2, 1])
def test_wrong_settings_prevent_the_start_of_a_server(site: Site) -> None:
    """ready() raises no error, because the checks report wrong settings."""
    apps.get_app_config("django_prom").ready()
    assert present() == [OURS, SECURITY, COMMON, WATCHER]
    with pytest.raises(ImproperlyConfigured, match=r"PROM_DURATION_BUCKETS is .* ascending order") as raised:
        site("/")
    assert isinstance(raised.value.__cause__, ConfigError)


def test_wrong_settings_after_the_start_do_not_fail_requests(
    client: Client, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """Requests are not measured, and this is logged once."""
    client.get("/")
    with override_settings(PROM_PAHT="/x"):
        assert client.get("/").status_code == client.get("/").status_code == 200
    assert requests(registry) == {("GET", "/", "200"): 1}
    assert caplog.messages == ["requests are not measured"]


def test_conflict_with_another_application_is_reported(registry: CollectorRegistry, site: Site) -> None:
    from flask import Flask

    from flask_prom import FlaskProm

    FlaskProm(Flask("shop"), registry=registry, duration_buckets=[1, 2])
    with pytest.raises(ImproperlyConfigured, match="Flask application 'shop' and Django project") as raised:
        site("/")
    assert isinstance(raised.value.__cause__, ConflictError)


def test_signals_are_connected_only_if_needed(site: Site) -> None:
    """Each makes requests slower: one for a middleware above, one for request sizes."""
    request_finished.disconnect(dispatch_uid="django_prom.signals.finished")
    finished, started = len(request_finished.receivers), len(request_started.receivers)
    site("/")
    assert len(request_finished.receivers) == finished
    with override_settings(MIDDLEWARE=[SECURITY, OURS]):
        Site()("/")
    assert len(request_finished.receivers) == finished + 1
    with override_settings(PROM_REQUEST_SIZE=True):
        assert len(request_started.receivers) == started + 1
    assert len(request_started.receivers) == started


def test_signals_without_a_request_are_ignored() -> None:
    """Some packages send them to close connections."""
    with override_settings(PROM_REQUEST_SIZE=True):
        request_started.send(sender=None)
        request_finished.send(sender=None)
        got_request_exception.send(sender=None)
        got_request_exception.send(sender=None, request=None)


def test_exception_signal_without_an_exception_is_ignored(site: Site, registry: CollectorRegistry) -> None:
    """Also if the request ends with a server error."""

    def send(request: Any) -> None:
        got_request_exception.send(sender=None, request=request)

    views.hooks["view"] = send
    with override_settings(MIDDLEWARE=[f"{HERE}.Failing"]):
        assert site("/") == "500"
    assert exceptions(registry) == {}


@configured(PROM_NAMING="opentelemetry")
def test_opentelemetry_naming_is_supported(site: Site, registry: CollectorRegistry) -> None:
    """Django has the method in capitals. The other attributes are those of the server."""
    site("/users/7/", "post")
    site("/fail/")
    site("/nowhere/")
    labels = ("http_request_method", "url_scheme", "network_protocol_version", "http_route", "error_type")
    assert samples(registry, "http_server_request_duration_seconds_count", *labels) == {
        ("POST", "http", "1.0", "/users/<int:pk>/", ""): 1,
        ("GET", "http", "1.0", "/fail/", "ValueError"): 1,
        ("GET", "http", "1.0", "", ""): 1,
    }
    gauge = ("http_request_method", "url_scheme")
    assert set(samples(registry, "http_server_active_requests", *gauge).values()) == {0}
    assert errors(registry) == {}
