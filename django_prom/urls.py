"""Where Django finds ``/metrics``: ``path("", include("django_prom.urls"))``.

The middleware answers there itself, before anything else; the view stands in where it is not installed.
"""

from __future__ import annotations

from typing import Any

from django.urls import clear_url_caches, path

from django_prom import conf
from django_prom.views import metrics
from web_prom.config import Config
from web_prom.errors import WebPromError

app_name = "django_prom"
urlpatterns: list[Any] = []


def mount() -> None:
    """Put the view where the settings want it, in the list that the project has included."""
    try:
        config = conf.config()
    except WebPromError:
        config = Config()  # the checks report it; they cannot if this import fails
    mounted = config.enabled and config.path
    urlpatterns[:] = [path(config.path[1:], metrics, name="metrics")] if mounted else []


def reset() -> None:
    """Mount the view again, after settings changed."""
    mount()
    clear_url_caches()


mount()
