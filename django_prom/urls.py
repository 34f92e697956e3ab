"""The URLs of metrics and live page, for the project's URLs: ``path("", include("django_prom.urls"))``.

The middleware answers scrapes at this path before any other code. Without the middleware the view answers.
"""

from __future__ import annotations

from typing import Any

from django.urls import clear_url_caches, path

from django_prom import conf
from django_prom.views import live, live_file, metrics
from web_prom.config import Config
from web_prom.errors import WebPromError

app_name = "django_prom"
urlpatterns: list[Any] = []


def mount() -> None:
    """Put the view at the path of the settings, in the list that the project includes."""
    try:
        config = conf.config()
    except WebPromError:
        config = Config()  # an error here would prevent the system checks, which report the wrong setting
    mounted = config.enabled and config.path
    urlpatterns[:] = [path(config.path[1:], metrics, name="metrics")] if mounted else []
    if config.enabled and config.live:
        name = config.live_path[1:]
        urlpatterns.append(path(name, live, name="live"))
        urlpatterns.append(path(f"{name}/<path:rest>", live_file))
        urlpatterns.append(path(f"{name}/", live_file, {"rest": ""}))


def reset() -> None:
    """Mount the view again after a change of settings."""
    mount()
    clear_url_caches()


mount()
