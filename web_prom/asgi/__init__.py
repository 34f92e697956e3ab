"""ASGI: the middleware, :func:`set_route` and the scrape endpoint :func:`make_asgi_app`."""

from web_prom.asgi.endpoint import make_asgi_app
from web_prom.asgi.middleware import PrometheusMiddleware, set_route

__all__ = ["PrometheusMiddleware", "make_asgi_app", "set_route"]
