"""System checks (``manage.py check``)."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, ClassVar

import pytest
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core import checks
from django.core.management import call_command
from django.test import override_settings
from django.urls import path, re_path
from prometheus_client import CollectorRegistry

from django_prom import conf
from django_prom.views import metrics
from web_prom.config import Config
from web_prom.metrics.recorder import Recorder

from .conftest import configured
from .views import hello

OURS = "django_prom.middleware.PrometheusMiddleware"


WATCHER = "django_prom.middleware.watch_exceptions"


COMMON = "django.middleware.common.CommonMiddleware"


def found(*, deploy: bool = False) -> dict[str, Any]:
    """Return the messages of the checks by id. Each has a hint."""
    messages = checks.run_checks(tags=["django_prom"], include_deployment_checks=deploy)
    assert all(message.hint for message in messages)
    assert len({message.id for message in messages}) == len(messages)
    return {message.id: message for message in messages}


def test_correct_project_has_no_messages() -> None:
    assert found() == {}


def test_checks_create_no_metrics(registry: CollectorRegistry) -> None:
    """Nearly every command of manage.py runs them."""
    found(deploy=True)
    assert list(registry.collect()) == []


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("PROM_DURATION_BUCKETS", [], "PROM_DURATION_BUCKETS is []; allowed: upper bounds as numbers"),
        ("PROM_PAHT", "/metrics", "PROM_PAHT is not a setting of web-prom (did you mean PROM_PATH?)"),
        ("PROM_BEARER_TOKEN_FILE", "/no/such", "allowed: the path of a file that this process can read"),
        ("PROM_CONSTANT_LABELS", {"method": "x"}, "reserved"),
    ],
)
def test_e001_reports_wrong_settings(key: str, value: object, message: str) -> None:
    """The message has key, value and what is allowed. No other check runs."""
    with override_settings(**{key: value}):
        messages = found(deploy=True)
    assert list(messages) == ["django_prom.E001"]
    assert message in messages["django_prom.E001"].msg
    assert messages["django_prom.E001"].level == checks.ERROR


def test_e002_reports_a_conflict_on_the_registry(registry: CollectorRegistry) -> None:
    """The message names both applications."""
    recorder = Recorder(Config(namespace="other"), registry, owner="the other application")
    message = found()["django_prom.E002"]
    assert message.level == checks.ERROR
    assert "the other application and Django project 'tests.django_prom'" in message.msg
    assert "PROM_NAMESPACE" in message.msg
    del recorder


def test_e003_reports_an_unusable_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "file" / "below"))
    message = found()["django_prom.E003"]
    assert message.level == checks.ERROR
    assert "PROMETHEUS_MULTIPROC_DIR" in message.msg


@pytest.mark.parametrize("name", ["new", "new/below/it", "there"])
def test_fault_47_checks_do_not_change_the_directory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They neither create it nor write to it."""
    (tmp_path / "there").mkdir()
    before = [os.stat(each).st_mtime_ns for each in (tmp_path, tmp_path / "there")]
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / name))
    assert list(found(deploy=True)) == ["django_prom.W001"]
    assert [each.name for each in tmp_path.iterdir()] == ["there"]
    assert list((tmp_path / "there").iterdir()) == []
    assert [os.stat(each).st_mtime_ns for each in (tmp_path, tmp_path / "there")] == before


def test_w001_warns_of_open_metrics_only_with_deploy() -> None:
    """There is no warning if access is restricted."""
    assert found() == {}
    message = found(deploy=True)["django_prom.W001"]
    assert message.level == checks.WARNING
    assert "/metrics" in message.msg
    for key, value in [
        ("PROM_BEARER_TOKEN", "secret"),
        ("PROM_BASIC_AUTH", "ann:secret"),
        ("PROM_ALLOWED_NETWORKS", ["10.0.0.0/8"]),
        ("PROM_ALLOW_SCRAPE", lambda environ: True),
        ("PROM_PATH", ""),
        ("PROM_ENABLED", False),
    ]:
        with override_settings(**{key: value}):
            assert found(deploy=True) == {}, key


def test_w001_has_the_security_tag() -> None:
    messages = checks.run_checks(tags=["security"], include_deployment_checks=True)
    assert "django_prom.W001" in {message.id for message in messages}


def test_w002_warns_of_missing_urls() -> None:
    """Unless the path is empty."""
    with override_settings(ROOT_URLCONF="tests.django_prom.urls_i18n_bare"):
        message = found()["django_prom.W002"]
        assert 'include("django_prom.urls")' in message.hint
        with override_settings(PROM_PATH=""):
            assert found() == {}


@pytest.mark.parametrize("bind", [":9464", "127.0.0.1:9464"])
def test_fault_82_w002_is_silent_with_an_exporter(bind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROM_BIND", bind)
    with override_settings(ROOT_URLCONF="tests.django_prom.urls_i18n_bare"):
        assert found() == {}
        monkeypatch.setenv("PROM_BIND", "")
        assert list(found()) == ["django_prom.W002"]


@pytest.mark.parametrize("environ", [False, True])
def test_fault_82_w002_is_silent_without_a_path(environ: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """PROM_PATH is empty in the settings or in the environment."""
    if environ:
        monkeypatch.setenv("PROM_PATH", "")
        conf.reset()
    with override_settings(
        ROOT_URLCONF="tests.django_prom.urls_i18n_bare", **({} if environ else {"PROM_PATH": ""})
    ):
        assert found(deploy=True) == {}


class NoUrls:
    """The URLs of a project without pages."""

    urlpatterns: ClassVar[list[Any]] = []


class OwnView:
    """URLs with another view for the metrics."""

    urlpatterns: ClassVar[list[Any]] = [path("metrics", login_required(metrics))]


class CatchAll:
    """URLs with a view that matches every path."""

    urlpatterns: ClassVar[list[Any]] = [re_path(r"^(.*)$", hello), re_path(r"^.*$", hello)]


@pytest.mark.parametrize(("urls", "warned"), [(NoUrls, False), (OwnView, False), (CatchAll, True)])
def test_fault_82_w002_is_silent_if_another_view_has_the_path(urls: Any, warned: bool) -> None:
    """A view that matches every path does not count."""
    with override_settings(ROOT_URLCONF=urls):
        assert list(found()) == (["django_prom.W002"] if warned else [])


@pytest.mark.parametrize("key", ["django_prom.W002", "django_prom.W003"])
def test_fault_82_checks_can_be_silenced(key: str) -> None:
    """The hint says how."""
    with override_settings(
        ROOT_URLCONF="tests.django_prom.urls_i18n_bare",
        MIDDLEWARE=[COMMON],
        PROM_INSTALL_MIDDLEWARE=False,
        SILENCED_SYSTEM_CHECKS={"django_prom.W002", "django_prom.W003"} - {key},
    ):
        assert key in found()[key].hint
        with override_settings(SILENCED_SYSTEM_CHECKS=["django_prom.W002", "django_prom.W003"]):
            output = io.StringIO()
            call_command("check", fail_level="WARNING", stdout=output, stderr=output)
    assert "no issues (2 silenced)" in output.getvalue()


def test_fault_82_project_without_root_urlconf_has_no_messages() -> None:
    """Django's own tests have such settings."""
    with override_settings():
        del settings.ROOT_URLCONF
        assert found(deploy=True) == {}


def test_w002_ignores_urls_that_cannot_be_imported() -> None:
    """Django has its own check for them."""
    with override_settings(ROOT_URLCONF="tests.django_prom.no_such_module"):
        assert found() == {}


@configured(PROM_INSTALL_MIDDLEWARE=False)
def test_w003_warns_of_a_missing_middleware() -> None:
    assert list(found()) == ["django_prom.W003"]


@configured(MIDDLEWARE=[COMMON, OURS])
def test_w004_warns_of_a_middleware_above() -> None:
    """The message names it."""
    messages = found()
    assert list(messages) == ["django_prom.W004"]
    assert COMMON in messages["django_prom.W004"].msg


def test_w005_warns_of_a_missing_exception_middleware() -> None:
    with override_settings(PROM_INSTALL_MIDDLEWARE=False, MIDDLEWARE=[OURS]):
        assert list(found()) == ["django_prom.W005"]
    with override_settings(PROM_INSTALL_MIDDLEWARE=False, MIDDLEWARE=[OURS, WATCHER]):
        assert found() == {}


@configured(PROM_ENABLED=False, ROOT_URLCONF="tests.django_prom.urls_i18n_bare")
def test_disabled_project_has_no_messages() -> None:
    """Neither about the middleware nor about URLs."""
    assert found(deploy=True) == {}


@configured(INSTALLED_APPS=["rest_framework"], PROM_PAHT="/")
def test_project_without_the_app_has_no_messages() -> None:
    """Checks stay registered until the process exits."""
    assert found(deploy=True) == {}
