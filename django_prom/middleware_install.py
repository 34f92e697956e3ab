"""Where the middleware stands in ``settings.MIDDLEWARE``, unless the user has placed it himself."""

from __future__ import annotations

from collections.abc import Sequence

from django.apps import apps
from django.conf import settings

from django_prom import conf

MIDDLEWARE = "django_prom.middleware.PrometheusMiddleware"
"""Measures; stands first, so that its time and status are those of the whole project."""

WATCHER = "django_prom.middleware.watch_exceptions"
"""Sees exceptions; stands last, so that it sees them before another middleware answers them."""


is_instrumented = False
"""Whether the server measures the project, which does not have the app in ``INSTALLED_APPS``."""


class Placed(str):
    """An entry of ``MIDDLEWARE`` that we put there, not the user.

    It stays recognisable in a copy of the list, such as ``modify_settings`` makes.
    """

    __slots__ = ()


def place() -> None:
    """Make ``settings.MIDDLEWARE`` what it has to be now; changes nothing where it is that already.

    The user's own list or tuple is never touched: another one of its kind takes its place in the settings
    that are in force, which are gone when ``override_settings`` ends.
    """
    present = getattr(settings, "MIDDLEWARE", None)
    if not isinstance(present, list | tuple):
        return
    theirs = [entry for entry in present if not isinstance(entry, Placed)]
    wanted = _with_ours(theirs) if _is_wanted() else theirs
    if list(present) != wanted:
        settings.MIDDLEWARE = tuple(wanted) if isinstance(present, tuple) else wanted


def _is_wanted() -> bool:
    installed = is_instrumented or apps.is_installed("django_prom")
    return installed and conf.wants("enabled") and conf.wants("install_middleware")


def _with_ours(theirs: Sequence[str]) -> list[str]:
    first = [] if MIDDLEWARE in theirs else [Placed(MIDDLEWARE)]
    last = [] if WATCHER in theirs else [Placed(WATCHER)]
    return [*first, *theirs, *last]
