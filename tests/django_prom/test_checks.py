"""``manage.py check`` tells what is wrong, and how to mend it."""

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
    """Return what our checks say, by id; each has a hint."""
    messages = checks.run_checks(tags=["django_prom"], include_deployment_checks=deploy)
    assert all(message.hint for message in messages)
    assert len({message.id for message in messages}) == len(messages)
    return {message.id: message for message in messages}


def test_a_project_that_is_right() -> None:
    """Nothing is said, and no instrument was made to find out."""
    assert found() == {}


def test_the_checks_make_no_instrument(registry: CollectorRegistry) -> None:
    """Nearly every command of manage.py runs them."""
    found(deploy=True)
    assert list(registry.collect()) == []


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("PROM_DURATION_BUCKETS", [], "PROM_DURATION_BUCKETS is []; allowed: upper bounds as numbers"),
        ("PROM_PAHT", "/metrics", "PROM_PAHT is not a setting of web-prom (did you mean PROM_PATH?)"),
        ("PROM_BEARER_TOKEN_FILE", "/no/such", "allowed: the path of a file that this process can read"),
        ("PROM_CONSTANT_LABELS", {"method": "x"}, "reserved"),
    ],
)
def test_e001_settings(key: str, value: object, told: str) -> None:
    """Key, value and what is allowed; nothing else is checked by wrong settings."""
    with override_settings(**{key: value}):
        messages = found(deploy=True)
    assert list(messages) == ["django_prom.E001"]
    assert told in messages["django_prom.E001"].msg
    assert messages["django_prom.E001"].level == checks.ERROR


def test_e002_another_application_on_the_registry(registry: CollectorRegistry) -> None:
    """With other settings; both are named."""
    recorder = Recorder(Config(namespace="other"), registry, owner="the other application")
    message = found()["django_prom.E002"]
    assert message.level == checks.ERROR
    assert "the other application and Django project 'tests.django_prom'" in message.msg
    assert "PROM_NAMESPACE" in message.msg
    del recorder


def test_e003_a_directory_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "file" / "below"))
    message = found()["django_prom.E003"]
    assert message.level == checks.ERROR
    assert "PROMETHEUS_MULTIPROC_DIR" in message.msg


@pytest.mark.parametrize("name", ["new", "new/below/it", "there"])
def test_fault_47_a_check_does_not_change_the_directory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither makes it nor writes to it."""
    (tmp_path / "there").mkdir()
    before = [os.stat(each).st_mtime_ns for each in (tmp_path, tmp_path / "there")]
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / name))
    assert list(found(deploy=True)) == ["django_prom.W001"]
    assert [each.name for each in tmp_path.iterdir()] == ["there"]
    assert list((tmp_path / "there").iterdir()) == []
    assert [os.stat(each).st_mtime_ns for each in (tmp_path, tmp_path / "there")] == before


def test_w001_open_metrics_in_deployment() -> None:
    """Only with ``--deploy``, and only where nothing keeps others away."""
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


def test_w001_is_among_the_security_checks() -> None:
    """Which Django runs by tag, too."""
    messages = checks.run_checks(tags=["security"], include_deployment_checks=True)
    assert "django_prom.W001" in {message.id for message in messages}


def test_w002_urls_that_are_not_included() -> None:
    """Where metrics are wanted."""
    with override_settings(ROOT_URLCONF="tests.django_prom.urls_i18n_bare"):
        message = found()["django_prom.W002"]
        assert 'include("django_prom.urls")' in message.hint
        with override_settings(PROM_PATH=""):
            assert found() == {}


@pytest.mark.parametrize("bind", [":9464", "127.0.0.1:9464"])
def test_fault_82_w002_is_silent_where_an_exporter_gives_the_metrics(
    bind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROM_BIND", bind)
    with override_settings(ROOT_URLCONF="tests.django_prom.urls_i18n_bare"):
        assert found() == {}
        monkeypatch.setenv("PROM_BIND", "")
        assert list(found()) == ["django_prom.W002"]


@pytest.mark.parametrize("environ", [False, True])
def test_fault_82_w002_is_silent_without_a_path(environ: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the settings and from the environment."""
    if environ:
        monkeypatch.setenv("PROM_PATH", "")
        conf.reset()
    with override_settings(
        ROOT_URLCONF="tests.django_prom.urls_i18n_bare", **({} if environ else {"PROM_PATH": ""})
    ):
        assert found(deploy=True) == {}


class Bare:
    """URLs of a project that has no site."""

    urlpatterns: ClassVar[list[Any]] = []


class Own:
    """URLs with a view of the project's own for the metrics."""

    urlpatterns: ClassVar[list[Any]] = [path("metrics", login_required(metrics))]


class CatchAll:
    """URLs with a view for every path."""

    urlpatterns: ClassVar[list[Any]] = [re_path(r"^(.*)$", hello), re_path(r"^.*$", hello)]


@pytest.mark.parametrize(("urls", "warned"), [(Bare, False), (Own, False), (CatchAll, True)])
def test_fault_82_w002_only_where_the_metrics_are_meant_to_be(urls: Any, warned: bool) -> None:
    """Not where a view of the project's own is at the path; a catch-all is none."""
    with override_settings(ROOT_URLCONF=urls):
        assert list(found()) == (["django_prom.W002"] if warned else [])


@pytest.mark.parametrize("key", ["django_prom.W002", "django_prom.W003"])
def test_fault_82_a_check_can_be_silenced(key: str) -> None:
    """As its hint says; a command then says nothing."""
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


def test_fault_82_a_project_without_root_urlconf() -> None:
    """Django's own tests have some."""
    with override_settings():
        del settings.ROOT_URLCONF
        assert found(deploy=True) == {}


def test_w002_leaves_urls_that_cannot_be_imported_to_django() -> None:
    """Which has a check of its own for them."""
    with override_settings(ROOT_URLCONF="tests.django_prom.no_such_module"):
        assert found() == {}


@configured(PROM_INSTALL_MIDDLEWARE=False)
def test_w003_no_middleware() -> None:
    """Switched off, and nowhere listed."""
    assert list(found()) == ["django_prom.W003"]


@configured(MIDDLEWARE=[COMMON, OURS])
def test_w004_a_middleware_above_ours() -> None:
    """Which may answer in its stead; it is named."""
    messages = found()
    assert list(messages) == ["django_prom.W004"]
    assert COMMON in messages["django_prom.W004"].msg


def test_w005_no_watcher() -> None:
    """Where the user places the middleware himself."""
    with override_settings(PROM_INSTALL_MIDDLEWARE=False, MIDDLEWARE=[OURS]):
        assert list(found()) == ["django_prom.W005"]
    with override_settings(PROM_INSTALL_MIDDLEWARE=False, MIDDLEWARE=[OURS, WATCHER]):
        assert found() == {}


@configured(PROM_ENABLED=False, ROOT_URLCONF="tests.django_prom.urls_i18n_bare")
def test_switched_off_nothing_is_missed() -> None:
    """Neither middleware nor URLs."""
    assert found(deploy=True) == {}


@configured(INSTALLED_APPS=["rest_framework"], PROM_PAHT="/")
def test_without_the_app_there_is_nothing_to_check() -> None:
    """Checks stay registered for the life of the process."""
    assert found(deploy=True) == {}
