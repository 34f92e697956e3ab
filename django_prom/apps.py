"""The Django application: its setup after Django has read the settings."""

from __future__ import annotations

import sys
from typing import Any

from django.apps import AppConfig
from django.core.signals import setting_changed

from django_prom import conf, middleware_install
from web_prom.config import PREFIX

# Settings of Django that web-prom depends on: INSTALLED_APPS and MIDDLEWARE for the position of the
# middleware, LANGUAGE_CODE for the language of the route templates.
_DJANGO_SETTINGS = frozenset({"INSTALLED_APPS", "MIDDLEWARE", "LANGUAGE_CODE"})

# Settings whose measurements are also of use in a worker of Celery or RQ.
_MEASURED_IN_JOBS = ("database", "cache", "models", "templates")


class PrometheusConfig(AppConfig):  # type: ignore[misc]
    """Installs the middleware, connects the signals and registers the system checks.

    It creates no metrics: the middleware does, and only a server loads the middleware. If the environment
    names a shared directory, the project's own instruments write to it from here on, also in a management
    command. Only the server creates the directory.
    """

    name = "django_prom"
    verbose_name = "Prometheus"

    def ready(self) -> None:
        """Set up the project. Further calls change nothing.

        Wrong settings raise no error here. The system checks and the middleware report them.
        """
        from django_prom import channels_routes, checks, connections, error_handlers, signals
        from django_prom.decorated_views import DjangoRequests
        from web_prom.decorators.framework_requests import register_framework
        from web_prom.exposition.scrape_context import scrape_context
        from web_prom.multiprocess.writing.activation import share_values

        share_values(making=False)
        checks.register()
        conf.hide_secrets()
        scrape_context(connections.scrape_connections)
        signals.connect()
        register_framework(DjangoRequests())
        channels_routes.patch_url_router()
        error_handlers.watch_error_handlers()
        setting_changed.connect(_on_setting_changed, dispatch_uid=f"{__name__}.setting_changed")
        _apply_settings()


def _apply_settings() -> None:
    from django_prom import signals

    conf.reset()
    signals.set_input_counting(conf.is_on("request_size"))
    middleware_install.install()
    if conf.is_on("enabled") and conf.is_on("database"):
        from django_prom.database import hooks

        hooks.install()
    elif "django_prom.database.hooks" in sys.modules:
        sys.modules["django_prom.database.hooks"].uninstall()
    if conf.is_on("enabled") and conf.is_on("cache"):
        from django_prom import caches

        caches.install()
    elif "django_prom.caches" in sys.modules:
        sys.modules["django_prom.caches"].uninstall()
    if conf.is_on("enabled") and any(conf.is_on(name) for name in _MEASURED_IN_JOBS):
        from django_prom import jobs

        jobs.install()
    elif "django_prom.jobs" in sys.modules:
        sys.modules["django_prom.jobs"].uninstall()


def _on_setting_changed(*, setting: str, **_: Any) -> None:
    if setting in _DJANGO_SETTINGS or setting.startswith(PREFIX):
        _apply_settings()
