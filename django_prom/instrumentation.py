"""Measuring a Django project that a server has loaded: see :mod:`web_prom.instrumentation`."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig, apps
from django.core.exceptions import MiddlewareNotUsed
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.base import BaseHandler
from django.core.handlers.exception import convert_exception_to_response

from django_prom import middleware_install, signals


def instrument(application: Any, asgi: bool) -> bool | None:
    """Prepare the project of a handler of Django to be measured.

    The app prepares the project as if it were in ``INSTALLED_APPS``. Its middleware is put around those
    that the handler has made: making them twice would repeat what they do as they start. ``/metrics`` is
    not among the project's urls: the exporter answers scrapes (``PROM_BIND``).

    Returns:
        None for another object, and for a handler of the other protocol, around which the middleware of
        the server's protocol counts. False for a project that uses web-prom itself. True for one that is
        measured now.

    Raises:
        ImproperlyConfigured: A setting is not allowed.
    """
    kind = type(application)
    # The handler of static files stands around another one.
    if not issubclass(kind, BaseHandler) or getattr(kind, "handles_files", False):
        return None
    if apps.is_installed("django_prom"):
        return False
    if issubclass(kind, ASGIHandler) != asgi:
        return None
    middleware_install.is_instrumented = True
    AppConfig.create("django_prom").ready()
    _surround(application)
    return True


def _surround(handler: Any) -> None:
    from django_prom.middleware import PrometheusMiddleware

    if handler._middleware_chain is None:  # it will be made of the settings, where ours stands now
        return
    try:
        outermost = PrometheusMiddleware(handler._middleware_chain)
    except MiddlewareNotUsed:
        return
    handler._middleware_chain = convert_exception_to_response(outermost)
    handler._exception_middleware.insert(0, signals.note)
