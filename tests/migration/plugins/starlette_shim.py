"""The API of starlette-exporter over web-prom, as far as its own tests of the output need it.

A plugin for the pytest process that runs these tests. It replaces the library's middleware.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import starlette_exporter
from starlette.requests import Request
from starlette_exporter.labels import ResponseHeaderLabel

from web_prom.asgi import PrometheusMiddleware as Middleware


class PrometheusMiddleware:
    """Translates the library's arguments as docs/how-to/migrating.rst says. Others raise."""

    _metrics: Any = None

    def __init__(self, app: Any, **arguments: Any) -> None:
        options: dict[str, Any] = {"naming": "starlette-exporter", "zero_errors": False}
        is_grouped = arguments.pop("group_unhandled_paths", False)
        if not arguments.pop("group_paths", True):
            raise NotImplementedError("no counterpart of group_paths=False")
        if not arguments.pop("filter_unhandled_paths", True) and not is_grouped:
            raise NotImplementedError("no counterpart of filter_unhandled_paths=False")
        arguments.pop("always_use_int_status", None)
        if "prefix" in arguments:
            options["namespace"] = arguments.pop("prefix")
        if "buckets" in arguments:
            options["duration_buckets"] = arguments.pop("buckets")
        options["exclude"] = [_literal(path) for path in arguments.pop("skip_paths", ())]
        for name in arguments.pop("optional_metrics", ()):
            options[name.replace("_body", "")] = True
        constant = {"app_name": arguments.pop("app_name", "starlette")}
        extra = {}
        for name, value in arguments.pop("labels", {}).items():
            if callable(value):
                extra[name] = _label(value)
            else:
                constant[name] = value
        if arguments:
            raise NotImplementedError(f"no counterpart of {', '.join(arguments)}")
        self._app = Middleware(app, constant_labels=constant, extra_labels=extra, **options)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection."""
        await self._app(scope, receive, send)


def _literal(pattern: str) -> str:
    if re.escape(pattern) != pattern:
        raise NotImplementedError("no counterpart of regular expressions")
    return pattern


def _label(function: Any) -> Any:
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
        raise NotImplementedError("no counterpart of asynchronous labels")
    if isinstance(function, ResponseHeaderLabel):
        return lambda _scope, message: function(
            {str(key, "latin-1").lower(): str(value, "latin-1") for key, value in message["headers"]}
        )
    return lambda scope, _message: function(Request(scope))


starlette_exporter.PrometheusMiddleware = PrometheusMiddleware
