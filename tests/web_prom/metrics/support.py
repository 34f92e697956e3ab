"""An application whose paths are its routes, and functions that measure it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry

from tests.web_prom.support import App, Environ, hello
from web_prom import PrometheusMiddleware
from web_prom.metrics.recorder import Recorder
from web_prom.wsgi import set_route


def routed(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """Set the path as the route, as an application does by mistake."""
    set_route(environ, environ["PATH_INFO"])
    return hello(environ, start_response)


def measure(registry: CollectorRegistry, app: App = routed, **options: Any) -> PrometheusMiddleware:
    """Return the application, measured with the options."""
    return PrometheusMiddleware(app, registry=registry, **options)


def label(_request: Any, _response: Any) -> str:
    """Return the value of an extra label."""
    return "x"


def names_of_writes(recorder: Recorder) -> list[str]:
    """Return the qualified names of the functions that write an application's requests."""
    return [getattr(write, "__qualname__", "") for write in recorder.writers.values()]
