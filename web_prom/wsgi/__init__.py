"""WSGI: the middleware, :func:`set_route` and the live page :func:`make_live_app`."""

from web_prom.wsgi.live import make_live_app
from web_prom.wsgi.middleware import PrometheusMiddleware, set_route

__all__ = ["PrometheusMiddleware", "make_live_app", "set_route"]
