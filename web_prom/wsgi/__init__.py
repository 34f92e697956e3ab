"""Measuring WSGI applications: the middleware, and one request between server and application."""

from web_prom.wsgi.middleware import PrometheusMiddleware, set_route

__all__ = ["PrometheusMiddleware", "set_route"]
