"""Measure Python web applications with Prometheus: the core that flask_prom and django_prom build on.

The names below are imported when they are used for the first time. The import of this package alone reads no
environment and imports no other module. This is necessary because gunicorn reads web_prom.gunicorn before a
worker of type gevent patches the standard library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from web_prom.advice.advise import advise
    from web_prom.asgi.endpoint import make_asgi_app
    from web_prom.config.client_labels import header, limited
    from web_prom.config.settings import Config
    from web_prom.decorators.functions import count, exception_type, observe, time, track_in_progress
    from web_prom.errors import ConfigError, ConflictError, DirectoryError, WebPromError
    from web_prom.http_server.start_http_server import start_http_server
    from web_prom.metrics.get_or_create import get_or_create
    from web_prom.metrics.routes import exclude
    from web_prom.multiprocess.reading.collector import collector_for
    from web_prom.multiprocess.writing.activation import share_values
    from web_prom.wsgi.endpoint import make_wsgi_app
    from web_prom.wsgi.live import make_live_app
    from web_prom.wsgi.middleware import PrometheusMiddleware

    __version__: str

__all__ = [
    "Config",
    "ConfigError",
    "ConflictError",
    "DirectoryError",
    "PrometheusMiddleware",
    "WebPromError",
    "advise",
    "collector_for",
    "count",
    "exception_type",
    "exclude",
    "get_or_create",
    "header",
    "limited",
    "make_asgi_app",
    "make_live_app",
    "make_wsgi_app",
    "observe",
    "share_values",
    "start_http_server",
    "time",
    "track_in_progress",
]

_MODULES = {
    "Config": "config.settings",
    "ConfigError": "errors",
    "ConflictError": "errors",
    "DirectoryError": "errors",
    "PrometheusMiddleware": "wsgi.middleware",
    "WebPromError": "errors",
    "advise": "advice.advise",
    "collector_for": "multiprocess.reading.collector",
    "count": "decorators.functions",
    "exception_type": "decorators.functions",
    "exclude": "metrics.routes",
    "get_or_create": "metrics.get_or_create",
    "header": "config.client_labels",
    "limited": "config.client_labels",
    "make_asgi_app": "asgi.endpoint",
    "make_live_app": "wsgi.live",
    "make_wsgi_app": "wsgi.endpoint",
    "observe": "decorators.functions",
    "share_values": "multiprocess.writing.activation",
    "start_http_server": "http_server.start_http_server",
    "time": "decorators.functions",
    "track_in_progress": "decorators.functions",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"web_prom.{_MODULES[name]}"), name)
    if name == "__version__":
        return _find_version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _find_version() -> str:
    """Return the version of the installed distribution, or ``0+unknown`` if it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("web-prom")
    except PackageNotFoundError:  # a checkout that is only on the import path
        return "0+unknown"
