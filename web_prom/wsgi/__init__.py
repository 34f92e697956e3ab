"""WSGI: the middleware and :func:`set_route`."""

from web_prom.wsgi.middleware import PrometheusMiddleware, set_route

__all__ = ["PrometheusMiddleware", "set_route"]
