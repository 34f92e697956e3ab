"""System checks: what is wrong or doubtful in a project's set-up, and the remedy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.urls import Resolver404, get_resolver
from django.utils import translation

from django_prom import conf, middleware_install
from django_prom.mounts import Mounts, mounts
from django_prom.patterns import guess
from web_prom.config import Config
from web_prom.errors import ConfigError, ConflictError, DirectoryError
from web_prom.exposition.access_control import AccessControl
from web_prom.metrics.families import existing_families
from web_prom.multiprocess.directory.checks import check_writable
from web_prom.multiprocess.directory.environment import DIR_VARIABLE

TAG = "django_prom"
"""``manage.py check --tag django_prom`` runs these checks alone."""

_NO_START = "Until this is mended, a server that loads the middleware does not start."


def register() -> None:
    """Register the checks; any number of times."""
    checks.register(check_settings, TAG)
    checks.register(check_security, TAG, checks.Tags.security, deploy=True)


def check_settings(**_: Any) -> list[Any]:
    """Report settings that are wrong, and parts of the set-up that are missing."""
    config, errors = _read()
    if config is None or not config.enabled:
        return errors
    return [*errors, *_check_shared(config), *_check_urls(config), *_check_middleware()]


def check_security(**_: Any) -> list[Any]:
    """Report metrics that are open to everybody."""
    config, _errors = _read()
    if config is None or not config.enabled or not config.path or not AccessControl(config).is_open:
        return []
    mounted = _mounts()
    if mounted is None or not mounted.is_somewhere:
        return []
    paths = ", ".join(mounted.paths) or config.path
    return [
        checks.Warning(
            f"Everybody who reaches this project can read its metrics at {paths}.",
            hint=(
                "Set PROM_BEARER_TOKEN_FILE, PROM_BASIC_AUTH_FILE, PROM_ALLOWED_NETWORKS or "
                "PROM_ALLOW_SCRAPE. If a proxy keeps others away, add 'django_prom.W001' to "
                "SILENCED_SYSTEM_CHECKS."
            ),
            id="django_prom.W001",
        )
    ]


def _read() -> tuple[Config | None, list[Any]]:
    if not apps.is_installed("django_prom"):  # checks stay registered when INSTALLED_APPS is overridden
        return None, []
    try:
        return conf.config(), []
    except ConfigError as error:
        return None, [checks.Error(str(error), hint=_NO_START, id="django_prom.E001")]


def _check_shared(config: Config) -> Iterator[Any]:
    """Check what the middleware needs when it makes the instruments, and make nothing.

    A command must not leave files in the directory of the workers, and must not make the directory: often
    root runs migrate, and another user runs the server.
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
    mounted = _mounts()
    if not config.path or mounted is None or mounted.is_somewhere or _is_read_elsewhere(config.path):
        return
    yield checks.Warning(
        f"Nothing answers a scrape at {config.path}: the project's URLs do not include django_prom.urls.",
        hint=(
            'Add path("", include("django_prom.urls")) to urlpatterns, or set PROM_PATH to "" if the '
            "metrics are read elsewhere, or add 'django_prom.W002' to SILENCED_SYSTEM_CHECKS."
        ),
        id="django_prom.W002",
    )


def _is_read_elsewhere(path: str) -> bool:
    """Tell whether an exporter or a view of the project gives the metrics, or there is no site at all."""
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
    # A view that takes every path is none for this one.
    return guess(match.route).rstrip("/") == path.rstrip("/")


def _mounts() -> Mounts | None:
    try:
        return mounts(settings.ROOT_URLCONF)
    except Exception:
        return None  # the URLs cannot be imported; Django's own check tells why


def _check_middleware() -> Iterator[Any]:
    present = list(settings.MIDDLEWARE)
    if middleware_install.MIDDLEWARE not in present:
        yield checks.Warning(
            f"No request is measured: {middleware_install.MIDDLEWARE} is not in MIDDLEWARE.",
            hint=(
                "Put it first, or leave that to the app: remove PROM_INSTALL_MIDDLEWARE. If a WSGI or ASGI "
                "middleware around the project measures it, add 'django_prom.W003' to SILENCED_SYSTEM_CHECKS."
            ),
            id="django_prom.W003",
        )
        return
    if present[0] != middleware_install.MIDDLEWARE:
        yield checks.Warning(
            f"Requests that {present[0]} answers are not measured: it stands above "
            f"{middleware_install.MIDDLEWARE}.",
            hint="Put the measuring middleware first, or take it out of MIDDLEWARE: the app puts it there.",
            id="django_prom.W004",
        )
    if middleware_install.WATCHER not in present:
        yield checks.Warning(
            "Exceptions that another middleware's process_exception answers are not counted: "
            f"{middleware_install.WATCHER} is not in MIDDLEWARE.",
            hint="Put it last, or leave that to the app: remove PROM_INSTALL_MIDDLEWARE.",
            id="django_prom.W005",
        )
