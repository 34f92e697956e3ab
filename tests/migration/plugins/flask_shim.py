"""The API of prometheus-flask-exporter over web-prom, as far as its own tests of the output need it.

A plugin for the pytest process that runs these tests. It puts itself in the place of the library.
"""

from __future__ import annotations

import sys
from typing import Any

import flask
from prometheus_client import CollectorRegistry

import web_prom
from flask_prom import FlaskProm

NO_PREFIX = "#no_prefix"


class PrometheusMetrics:
    """Translates the library's arguments as docs/how-to/migrating.rst says. Others raise."""

    version = web_prom.__version__
    do_not_track = exclude_all_metrics = staticmethod(lambda: FlaskProm.exclude)

    def __init__(  # noqa: PLR0917 - the library's signature
        self,
        app: flask.Flask | None,
        path: str | None = "/metrics",
        defaults_prefix: str = "flask",
        group_by: str = "path",
        buckets: Any = None,
        default_labels: Any = None,
        registry: CollectorRegistry | None = None,
        **others: Any,
    ) -> None:
        default_labels = others.pop("static_labels", default_labels)
        if others:
            raise NotImplementedError(f"no counterpart of {', '.join(others)}")
        if defaults_prefix == NO_PREFIX:
            raise NotImplementedError("no counterpart of NO_PREFIX")
        if group_by not in ("path", "endpoint", "url_rule"):
            raise NotImplementedError(f"no counterpart of group_by={group_by!r}")
        naming = "prometheus-flask-exporter"
        options: dict[str, Any] = {
            "naming": naming if group_by == "path" else f"{naming}:{group_by}",
            "path": path or "",
            "zero_errors": False,
        }
        if defaults_prefix != "flask":
            options["namespace"] = defaults_prefix
        if buckets:
            options["duration_buckets"] = buckets
        labels = default_labels or {}
        options["constant_labels"] = {key: value for key, value in labels.items() if not callable(value)}
        options["extra_labels"] = {key: _label(value) for key, value in labels.items() if callable(value)}
        self._prom = FlaskProm(registry=registry, **options)
        if app is not None:
            self.init_app(app)

    @classmethod
    def for_app_factory(cls, **arguments: Any) -> PrometheusMetrics:
        """Return an object that instruments an application later."""
        return cls(None, **arguments)

    def init_app(self, app: flask.Flask) -> None:
        """Instrument an application."""
        self._prom.init_app(app)

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(f"no counterpart of PrometheusMetrics.{name}")


def _label(function: Any) -> Any:
    takes_response = function.__code__.co_argcount
    return lambda _request, response: function(response) if takes_response else function()


sys.modules["prometheus_flask_exporter"] = sys.modules[__name__]
