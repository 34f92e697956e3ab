"""Measuring ASGI applications: the middleware, requests, WebSockets, and the scrape endpoint."""

from web_prom.asgi.middleware import PrometheusMiddleware, make_asgi_app, set_route

__all__ = ["PrometheusMiddleware", "make_asgi_app", "set_route"]
