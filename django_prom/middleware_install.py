"""Adds the entries of web-prom to ``settings.MIDDLEWARE``, unless the user has added them."""

from __future__ import annotations

from collections.abc import Sequence

from django.apps import apps
from django.conf import settings

from django_prom import conf

MIDDLEWARE = "django_prom.middleware.PrometheusMiddleware"
"""The first entry. It measures the time and the status of the whole project."""

EXCEPTION_MIDDLEWARE = "django_prom.middleware.watch_exceptions"
"""The last entry. It sees exceptions before another middleware answers them."""


is_instrumented = False
"""Whether the server measures the project, and the app is not in ``INSTALLED_APPS``."""


class InstalledEntry(str):
    """An entry of ``MIDDLEWARE`` that web-prom added, not the user.

    The type survives a copy of the list, for example in ``modify_settings``.
    """

    __slots__ = ()


def install() -> None:
    """Add the entries to ``settings.MIDDLEWARE`` or remove them, as the present settings require.

    The user's list or tuple is not changed. A new one of the same type replaces it in the present settings,
    and is discarded when ``override_settings`` ends.
    """
    present = getattr(settings, "MIDDLEWARE", None)
    if not isinstance(present, list | tuple):
        return
    of_user = [entry for entry in present if not isinstance(entry, InstalledEntry)]
    required = _with_entries(of_user) if _is_required() else of_user
    if list(present) != required:
        settings.MIDDLEWARE = tuple(required) if isinstance(present, tuple) else required


def _is_required() -> bool:
    is_in_use = is_instrumented or apps.is_installed("django_prom")
    return is_in_use and conf.is_on("enabled") and conf.is_on("install_middleware")


def _with_entries(of_user: Sequence[str]) -> list[str]:
    first = [] if MIDDLEWARE in of_user else [InstalledEntry(MIDDLEWARE)]
    last = [] if EXCEPTION_MIDDLEWARE in of_user else [InstalledEntry(EXCEPTION_MIDDLEWARE)]
    return [*first, *of_user, *last]
