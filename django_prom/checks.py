"""System checks of a project's settings and setup. Each message has a remedy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.urls import Resolver404, get_resolver
from django.utils import translation

from django_prom import conf, features, middleware_install
from django_prom.mounts import Mounts, find_mounts
from django_prom.patterns import template_of_text
from web_prom.config import Config
from web_prom.errors import ConfigError, ConflictError, DirectoryError
from web_prom.exposition.access_control import AccessControl
from web_prom.metrics.families import existing_families
from web_prom.multiprocess.directory.checks import check_writable
from web_prom.multiprocess.directory.environment import DIR_VARIABLE

TAG = "django_prom"
"""``manage.py check --tag django_prom`` runs only these checks."""

_NO_START = "A server that loads the middleware does not start until this is fixed."


def register() -> None:
    """Register the checks. Further calls change nothing."""
    checks.register(check_settings, TAG)
    checks.register(check_security, TAG, checks.Tags.security, deploy=True)


def check_settings(**_: Any) -> list[Any]:
    """Report wrong settings and missing parts of the setup."""
    config, errors = _load_config()
    if config is None or not config.enabled:
        return errors
    return [
        *errors,
        *_check_names(config),
        *_check_shared_state(config),
        *_check_urls(config),
        *_check_middleware(),
    ]


def check_security(**_: Any) -> list[Any]:
    """Report metrics that everybody can read."""
    config, _errors = _load_config()
    if config is None or not config.enabled or not config.path or not AccessControl(config).is_open:
        return []
    mounts = _find_mounts()
    if mounts is None or not mounts.is_mounted:
        return []
    paths = ", ".join(mounts.paths) or config.path
    return [
        checks.Warning(
            f"Everybody who can reach this project can read its metrics at {paths}.",
            hint=(
                "Set PROM_BEARER_TOKEN_FILE, PROM_BASIC_AUTH_FILE, PROM_ALLOWED_NETWORKS or "
                "PROM_ALLOW_SCRAPE. If a proxy restricts access, add 'django_prom.W001' to "
                "SILENCED_SYSTEM_CHECKS."
            ),
            id="django_prom.W001",
        )
    ]


def _load_config() -> tuple[Config | None, list[Any]]:
    if not apps.is_installed("django_prom"):  # checks stay registered if INSTALLED_APPS is overridden
        return None, []
    try:
        return conf.config(), []
    except ConfigError as error:
        return None, [checks.Error(str(error), hint=_NO_START, id="django_prom.E001")]


def _check_names(config: Config) -> Iterator[Any]:
    """Check that what settings name exists in the project."""
    try:
        features.check(config)
    except ConfigError as error:
        yield checks.Error(str(error), hint=_NO_START, id="django_prom.E004")


def _check_shared_state(config: Config) -> Iterator[Any]:
    """Check the registry and the shared directory, which the middleware needs, without a change of them.

    A management command must not leave files in the workers' directory, and must not create the directory:
    often root runs migrate, and another user runs the server.
    """
    families = existing_families(conf.REGISTRY)
    try:
        if families is not None:
            families.check_compatible(config, conf.owner())
    except ConflictError as error:
        yield checks.Error(str(error), hint=_NO_START, id="django_prom.E002")
    try:
        if os.environ.get(DIR_VARIABLE):
            check_writable(os.environ[DIR_VARIABLE])
    except DirectoryError as error:
        yield checks.Error(str(error), hint=_NO_START, id="django_prom.E003")


def _check_urls(config: Config) -> Iterator[Any]:
    mounts = _find_mounts()
    if not config.path or mounts is None or mounts.is_mounted or _is_answered_elsewhere(config.path):
        return
    yield checks.Warning(
        f"Nothing answers a scrape at {config.path}: the project's URLs do not include django_prom.urls.",
        hint=(
            'Add path("", include("django_prom.urls")) to urlpatterns, or set PROM_PATH to "" if the '
            "metrics are read in another way, or add 'django_prom.W002' to SILENCED_SYSTEM_CHECKS."
        ),
        id="django_prom.W002",
    )


def _is_answered_elsewhere(path: str) -> bool:
    """Tell whether an exporter or a view of the project answers scrapes, or the project has no URLs."""
    if os.environ.get("PROM_BIND"):
        return True
    resolver = get_resolver(settings.ROOT_URLCONF)
    if not resolver.url_patterns:
        return True
    try:
        with translation.override(settings.LANGUAGE_CODE):
            match = resolver.resolve(path)
    except Resolver404:
        return False
    # A view whose pattern matches every path does not count.
    return template_of_text(match.route).rstrip("/") == path.rstrip("/")


def _find_mounts() -> Mounts | None:
    try:
        return find_mounts(settings.ROOT_URLCONF)
    except Exception:
        return None  # the URLs cannot be imported, and Django's own check reports the reason


def _check_middleware() -> Iterator[Any]:
    present = list(settings.MIDDLEWARE)
    if middleware_install.MIDDLEWARE not in present:
        yield checks.Warning(
            f"No request is measured: {middleware_install.MIDDLEWARE} is not in MIDDLEWARE.",
            hint=(
                "Put it first, or remove PROM_INSTALL_MIDDLEWARE: then the app does it. If a WSGI or ASGI "
                "middleware around the project measures it, add 'django_prom.W003' to SILENCED_SYSTEM_CHECKS."
            ),
            id="django_prom.W003",
        )
        return
    if present[0] != middleware_install.MIDDLEWARE:
        yield checks.Warning(
            f"Requests that {present[0]} answers are not measured: it is above "
            f"{middleware_install.MIDDLEWARE}.",
            hint="Put it first, or remove it from MIDDLEWARE: then the app puts it first.",
            id="django_prom.W004",
        )
    if middleware_install.EXCEPTION_MIDDLEWARE not in present:
        yield checks.Warning(
            "Exceptions that another middleware's process_exception answers are not counted: "
            f"{middleware_install.EXCEPTION_MIDDLEWARE} is not in MIDDLEWARE.",
            hint="Put it last, or remove PROM_INSTALL_MIDDLEWARE: then the app does it.",
            id="django_prom.W005",
        )
