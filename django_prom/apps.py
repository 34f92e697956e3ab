"""The application that ``INSTALLED_APPS`` names: what happens when Django has read its settings."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core.signals import setting_changed

from django_prom import conf, middleware_install
from web_prom.config import PREFIX

# What counts besides our own settings: where the middleware stands, and the language of the templates.
_OTHERS = frozenset({"INSTALLED_APPS", "MIDDLEWARE", "LANGUAGE_CODE"})


class PrometheusConfig(AppConfig):  # type: ignore[misc]
    """Puts the middleware in its place, connects the signals and registers the checks.

    It makes no instrument: that is for the middleware, which only a server loads. Where the environment
    names a shared directory, the project's own instruments write to slots of it from here on, in a command
    too; the directory itself is the server's to make.
    """

    name = "django_prom"
    verbose_name = "Prometheus"

    def ready(self) -> None:
        """Prepare the project; any number of times. Bad settings are left to checks and middleware."""
        from django_prom import checks, connections, consumers, signals
        from web_prom.exposition.scrape_context import scrape_context
        from web_prom.multiprocess.writing.activation import share_values

        share_values(making=False)
        checks.register()
        conf.hide_secrets()
        scrape_context(connections.around_scrape)
        signals.connect()
        consumers.connect()
        setting_changed.connect(_on_setting_changed, dispatch_uid=f"{__name__}.setting_changed")
        _apply()


def _apply() -> None:
    from django_prom import signals

    conf.reset()
    signals.count_input(conf.wants("request_size"))
    middleware_install.place()


def _on_setting_changed(*, setting: str, **_: Any) -> None:
    if setting in _OTHERS or setting.startswith(PREFIX):
        _apply()
