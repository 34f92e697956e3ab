"""Measuring a Django project that a server has loaded: see :mod:`web_prom.instrumentation`."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig, apps
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.base import BaseHandler

from django_prom import placement


def instrument(application: Any) -> bool:
    """Measure the project if the application is a handler of Django's; return whether it is.

    The app prepares the project as if it were in ``INSTALLED_APPS``, and the handler loads its middleware
    again. ``/metrics`` is not among the project's urls: the exporter answers scrapes (``PROM_BIND``).

    Raises:
        ImproperlyConfigured: A setting is not allowed.
    """
    if not isinstance(application, BaseHandler):
        return False
    if not apps.is_installed("django_prom"):
        placement.is_instrumented = True
        AppConfig.create("django_prom").ready()
        application.load_middleware(is_async=isinstance(application, ASGIHandler))
    return True
