"""ASGI: the middleware, :func:`set_route`, :func:`make_asgi_app` for scrapes and :func:`make_live_app`."""

from web_prom.asgi.endpoint import make_asgi_app
from web_prom.asgi.live import make_live_app
from web_prom.asgi.middleware import PrometheusMiddleware, set_route

__all__ = ["PrometheusMiddleware", "make_asgi_app", "make_live_app", "set_route"]
