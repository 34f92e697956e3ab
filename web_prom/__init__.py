"""Measure Python web applications with Prometheus: the core that flask_prom and django_prom build on.

The names below are imported when they are first used. Importing this package alone reads no
environment and imports nothing: gunicorn reads web_prom.gunicorn before a worker of type gevent has
patched the standard library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from web_prom.asgi import make_asgi_app
    from web_prom.config import Config
    from web_prom.errors import ConfigError, ConflictError, DirectoryError, WebPromError
    from web_prom.exclusion import exclude
    from web_prom.exporter.threaded import start_http_server
    from web_prom.exposition import make_wsgi_app
    from web_prom.multiprocess.collector import collector_for
    from web_prom.multiprocess.takeover import share_values
    from web_prom.registration import get_or_create
    from web_prom.wsgi import PrometheusMiddleware

__all__ = [
    "Config",
    "ConfigError",
    "ConflictError",
    "DirectoryError",
    "PrometheusMiddleware",
    "WebPromError",
    "collector_for",
    "exclude",
    "get_or_create",
    "make_asgi_app",
    "make_wsgi_app",
    "share_values",
    "start_http_server",
]

_HOMES = {
    "Config": "config",
    "ConfigError": "errors",
    "ConflictError": "errors",
    "DirectoryError": "errors",
    "PrometheusMiddleware": "wsgi",
    "WebPromError": "errors",
    "collector_for": "multiprocess.collector",
    "exclude": "exclusion",
    "get_or_create": "registration",
    "make_asgi_app": "asgi",
    "make_wsgi_app": "exposition",
    "share_values": "multiprocess.takeover",
    "start_http_server": "exporter.threaded",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"web_prom.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
