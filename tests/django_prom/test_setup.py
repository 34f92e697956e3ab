"""Two lines are all that a project needs; the middleware stands in its place whatever tests override."""

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
    """Return the middleware of this moment."""
    return settings.MIDDLEWARE


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Whatever a test overrides, the project is what it was afterwards."""
    before = list(settings.MIDDLEWARE)
    yield
    assert list(settings.MIDDLEWARE) == before == [OURS, SECURITY, COMMON, WATCHER]


def test_fault_17_the_app_places_the_middleware() -> None:
    """One line in INSTALLED_APPS did that; the settings module names neither."""
    from tests.django_prom import settings as module

    assert module.MIDDLEWARE == [SECURITY, COMMON]
    assert present() == [OURS, SECURITY, COMMON, WATCHER]


def test_fault_77_the_debug_page_does_not_show_a_secret() -> None:
    """The page of Django 4.2 hides settings by words in their names; BASIC_AUTH is none of them."""
    secrets = {"PROM_BASIC_AUTH": "ann:hush", "PROM_BEARER_TOKEN": "hush"}
    with override_settings(**secrets):
        apps.get_app_config("django_prom").ready()
        assert "hush" not in pformat({name: getattr(settings, name) for name in secrets})
        shown = SafeExceptionReporterFilter().get_safe_settings()
        assert "hush" not in pformat(shown)
        assert conf.config().basic_auth == Secret("ann:hush")
        assert Client().get("/metrics", headers={"Authorization": "Bearer hush"}).status_code == 200
        assert Client().get("/metrics").status_code == 401


def test_fault_14_ready_may_come_often() -> None:
    """Nothing is doubled."""
    receivers = [len(signal.receivers) for signal in (request_started, got_request_exception)]
    before = present()
    apps.get_app_config("django_prom").ready()
    install()
    assert present() is before
    assert present() == [OURS, SECURITY, COMMON, WATCHER]
    assert receivers == [len(signal.receivers) for signal in (request_started, got_request_exception)]


def test_fault_14_many_handlers_share_one_set_of_families(registry: CollectorRegistry) -> None:
    """A project is often loaded more than once: by the server, by each test client."""
    for _ in range(3):
        Site()("/")
        Client().get("/")
    assert requests(registry) == {("GET", "/", "200"): 6}


@pytest.mark.parametrize("kind", [list, tuple])
def test_an_override_of_middleware_neither_doubles_nor_loses_it(
    kind: type[Any], site: Site, registry: CollectorRegistry
) -> None:
    """The user's own object stays as it is."""
    theirs = kind([COMMON])
    with override_settings(MIDDLEWARE=theirs):
        assert present() == kind([OURS, COMMON, WATCHER])
        with override_settings(MIDDLEWARE=kind([SECURITY])):
            assert present() == kind([OURS, SECURITY, WATCHER])
        assert present() == kind([OURS, COMMON, WATCHER])
        site("/")
    assert theirs == kind([COMMON])
    assert requests(registry) == {("GET", "/", "200"): 1}


def test_an_override_by_a_copy_of_the_list(site: Site) -> None:
    """What others put around a copy of the list stands inside ours again."""
    with modify_settings(MIDDLEWARE={"prepend": f"{HERE}.plain", "append": f"{HERE}.either"}):
        assert present() == [OURS, f"{HERE}.plain", SECURITY, COMMON, f"{HERE}.either", WATCHER]
    with override_settings(MIDDLEWARE=[*settings.MIDDLEWARE, f"{HERE}.either"]):
        assert present() == [OURS, SECURITY, COMMON, f"{HERE}.either", WATCHER]
    with modify_settings(MIDDLEWARE={"remove": [OURS, WATCHER]}):
        assert present() == [OURS, SECURITY, COMMON, WATCHER]


def test_the_users_own_place_is_respected() -> None:
    """Wherever it is; the watcher, which he knows nothing of, stands last."""
    with override_settings(MIDDLEWARE=[SECURITY, OURS, COMMON]):
        assert present() == [SECURITY, OURS, COMMON, WATCHER]
    with override_settings(MIDDLEWARE=[OURS, WATCHER, COMMON]):
        assert present() == [OURS, WATCHER, COMMON]


@pytest.mark.parametrize("key", ["PROM_INSTALL_MIDDLEWARE", "PROM_ENABLED"])
def test_it_can_be_switched_off(key: str, registry: CollectorRegistry) -> None:
    """Then the list is as the user wrote it, and the next override changes nothing."""
    with override_settings(**{key: False}):
        assert present() == [SECURITY, COMMON]
        with override_settings(MIDDLEWARE=[COMMON]):
            assert present() == [COMMON]
        assert Site()("/") == "200"
    assert requests(registry) == {}


@configured(PROM_ENABLED=False, MIDDLEWARE=[OURS, WATCHER])
def test_switched_off_nothing_is_made_or_answered(site: Site, registry: CollectorRegistry) -> None:
    """Although the user listed the middleware himself."""
    assert site("/metrics") == "404"
    assert site("/fail/") == "500"
    assert list(registry.collect()) == []
    with pytest.raises(MiddlewareNotUsed):
        PrometheusMiddleware(lambda request: None)


def test_an_override_of_installed_apps_without_it() -> None:
    """The middleware goes with the app, and comes back with it."""
    with override_settings(INSTALLED_APPS=["rest_framework"]):
        assert present() == [SECURITY, COMMON]
        with override_settings(INSTALLED_APPS=["django_prom"]):
            assert present() == [OURS, SECURITY, COMMON, WATCHER]
        assert present() == [SECURITY, COMMON]


def test_an_override_of_both_at_once() -> None:
    """Django tells of one after the other."""
    with override_settings(INSTALLED_APPS=["rest_framework"], MIDDLEWARE=[COMMON]):
        assert present() == [COMMON]
    with override_settings(MIDDLEWARE=[COMMON], INSTALLED_APPS=["django_prom"]):
        assert present() == [OURS, COMMON, WATCHER]


def test_settings_may_have_no_middleware_at_all() -> None:
    """Deleted for a test, or something odd that Django itself will complain of."""
    with override_settings():
        del settings.MIDDLEWARE
        install()
        assert not hasattr(settings, "MIDDLEWARE")
    with override_settings(MIDDLEWARE=None):
        assert settings.MIDDLEWARE is None


def test_settings_count_at_once(client: Client, registry: CollectorRegistry) -> None:
    """Also for a client whose middleware is loaded already."""
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


def test_the_environment_is_read(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings win over it."""
    monkeypatch.setenv("PROM_PATH", "/from-environ")
    monkeypatch.setenv("PROM_NAMESPACE", "shop")
    with override_settings(PROM_NAMESPACE="store"):
        assert conf.config().path == "/from-environ"
        assert conf.config().namespace == "store"
        assert site("/from-environ") == "200"
        assert "store_http_requests_in_progress" in site.text


@configured(PROM_DURATION_BUCKETS=[2, 1])
def test_bad_settings_stop_the_server_and_nothing_before(site: Site) -> None:
    """A server that starts is measured; ready() leaves the word to the checks."""
    apps.get_app_config("django_prom").ready()
    assert present() == [OURS, SECURITY, COMMON, WATCHER]
    with pytest.raises(ImproperlyConfigured, match=r"PROM_DURATION_BUCKETS is .* ascending order") as raised:
        site("/")
    assert isinstance(raised.value.__cause__, ConfigError)


def test_bad_settings_later_do_not_fail_requests(
    client: Client, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """They are not measured, and that is said once."""
    client.get("/")
    with override_settings(PROM_PAHT="/x"):
        assert client.get("/").status_code == client.get("/").status_code == 200
    assert requests(registry) == {("GET", "/", "200"): 1}
    assert caplog.messages == ["requests are not measured"]


def test_two_projects_that_do_not_agree(registry: CollectorRegistry, site: Site) -> None:
    """On one registry that is an error, which names both."""
    from flask import Flask

    from flask_prom import FlaskProm

    FlaskProm(Flask("shop"), registry=registry, duration_buckets=[1, 2])
    with pytest.raises(ImproperlyConfigured, match="Flask application 'shop' and Django project") as raised:
        site("/")
    assert isinstance(raised.value.__cause__, ConflictError)


def test_signals_that_nobody_needs_are_not_connected(site: Site) -> None:
    """Each costs every request: one is for a middleware above ours, one for the bytes of request bodies."""
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


def test_signals_sent_by_others_are_no_error() -> None:
    """Some packages send Django's signals without a request, to close connections."""
    with override_settings(PROM_REQUEST_SIZE=True):
        request_started.send(sender=None)
        request_finished.send(sender=None)
        got_request_exception.send(sender=None)
        got_request_exception.send(sender=None, request=None)


def test_an_exception_signal_without_an_exception(site: Site, registry: CollectorRegistry) -> None:
    """Nothing is counted for it, not even where the request ends badly."""

    def send(request: Any) -> None:
        got_request_exception.send(sender=None, request=request)

    views.hooks["view"] = send
    with override_settings(MIDDLEWARE=[f"{HERE}.Failing"]):
        assert site("/") == "500"
    assert exceptions(registry) == {}


@configured(PROM_NAMING="opentelemetry")
def test_the_names_may_be_those_of_opentelemetry(site: Site, registry: CollectorRegistry) -> None:
    """The method is in capitals, as Django has it; the rest is what the server told."""
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
