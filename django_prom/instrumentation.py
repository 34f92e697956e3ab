"""Measures a Django project that a server has loaded: see :mod:`web_prom.instrumentation`."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig, apps
from django.core.exceptions import MiddlewareNotUsed
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.base import BaseHandler
from django.core.handlers.exception import convert_exception_to_response

from django_prom import middleware_install, signals


def instrument(application: Any, asgi: bool) -> bool | None:
    """Measure the project of one of Django's handlers.

    The project is set up as if the app were in ``INSTALLED_APPS``. The handler has created its middlewares,
    and creating them again would repeat the work of their start. So the middleware of web-prom is put
    around them. ``/metrics`` is not among the project's URLs: the exporter answers scrapes (``PROM_BIND``).

    Returns:
        True if the project is measured now. False if the project uses web-prom itself. None for any other
        object, and for a handler of the other protocol: the server's middleware counts its requests.

    Raises:
        ImproperlyConfigured: A setting is not allowed.
    """
    handler_class = type(application)
    # The handler of static files contains another handler.
    if not issubclass(handler_class, BaseHandler) or getattr(handler_class, "handles_files", False):
        return None
    if apps.is_installed("django_prom"):
        return False
    if issubclass(handler_class, ASGIHandler) != asgi:
        return None
    middleware_install.is_instrumented = True
    AppConfig.create("django_prom").ready()
    _wrap_middleware_chain(application)
    return True


def _wrap_middleware_chain(handler: Any) -> None:
    from django_prom.middleware import PrometheusMiddleware

    if handler._middleware_chain is None:  # Django creates it later from MIDDLEWARE, which has our entries
        return
    try:
        outermost = PrometheusMiddleware(handler._middleware_chain)
    except MiddlewareNotUsed:
        return
    handler._middleware_chain = convert_exception_to_response(outermost)
    handler._exception_middleware.insert(0, signals.add_exception)
