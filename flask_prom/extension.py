"""The extension: from Flask's configuration, signals and routing to calls of the core."""

from __future__ import annotations

import os
from typing import Any

from flask import (
    Flask,
    got_request_exception,
    has_request_context,
    request,
    request_finished,
    request_started,
)
from prometheus_client import REGISTRY, CollectorRegistry

from flask_prom.first_requests import watch_first_requests
from flask_prom.routes import Routes, current_request
from web_prom.config import Config
from web_prom.errors import ConflictError
from web_prom.exposition.scrape_context import scrape_context
from web_prom.metrics.recording import RECORDING_KEY, Recording
from web_prom.metrics.routes import exclude
from web_prom.wsgi import PrometheusMiddleware

EXTENSION = "web_prom"
"""The key of an application's :class:`Measured` in ``app.extensions``."""


class FlaskProm:
    """Measure Flask applications and answer scrapes at ``/metrics``.

    ::

        prom = FlaskProm()

        def create_app():
            app = Flask(__name__)
            prom.init_app(app)
            return app

    One object serves any number of applications. It keeps nothing but its options and may be shared
    between threads and processes.

    A scrape is answered inside of the application's context (``app.app_context()``), in each thread that
    works for it: custom collectors and callbacks of gauges may use ``current_app``, ``g`` and ``db.session``,
    and ``teardown_appcontext`` functions run afterwards.

    Args:
        app: An application to measure at once.
        registry: Where the metrics are; prometheus_client's default registry if left out.
        **options: The settings of README's table by their names in small letters, without the prefix
            (``namespace="shop"``). They win over ``app.config``, which wins over the environment.

    Raises:
        ConfigError: As :meth:`init_app`, if ``app`` is given.
    """

    def __init__(
        self, app: Flask | None = None, *, registry: CollectorRegistry | None = None, **options: object
    ) -> None:
        self._registry = REGISTRY if registry is None else registry
        self._options = options
        if app is not None:
            self.init_app(app)

    exclude = staticmethod(exclude)

    def init_app(self, app: Flask) -> None:
        """Measure an application: read its ``PROM_`` settings, wrap ``app.wsgi_app``, connect its signals.

        Calling it again for the same application and settings does nothing.

        Raises:
            ConfigError: A ``PROM_`` key is unknown or its value not allowed.
            ConflictError: The application is measured with other settings already, or another
                application on the same registry is.
            DirectoryError: PROMETHEUS_MULTIPROC_DIR cannot be used.
        """
        config = Config.load(self._options, settings=app.config, environ=os.environ)
        measured = app.extensions.get(EXTENSION)
        if measured is not None:
            if (measured.config, measured.registry) != (config, self._registry):
                raise ConflictError(
                    f"Flask application {app.name!r} is measured already, with other settings: "
                    f"{measured.config} before and {config} now; call init_app() once, "
                    "or with the same settings and registry"
                )
            return
        app.extensions[EXTENSION] = Measured(app, config, self._registry)


class Measured:
    """One measured application: what ties Flask's signals to the recording of each request.

    Signals hold their receivers weakly; ``app.extensions`` keeps this object, and it keeps them.
    """

    def __init__(self, app: Flask, config: Config, registry: CollectorRegistry) -> None:
        self.config = config
        self.registry = registry
        if not config.enabled:
            return
        self._routes = Routes(app)
        self._watched: Any = None
        inner = app.wsgi_app
        middleware = PrometheusMiddleware(
            inner,
            registry=registry,
            config=config,
            resolve_route=self._resolve_route_and_labels
            if config.extra_labels
            else self._routes.resolve_route,
            owner=f"Flask application {app.name!r}",
            scrape_context=app.app_context,
        )
        # Also for expositions of the registry that are not this application's (start_http_server).
        scrape_context(app.app_context, registry)
        # The bound method: to call the object takes 0.1 us more of each request.
        app.wsgi_app = middleware.__call__  # type: ignore[method-assign]
        self._watch_handled_exceptions(app)
        # Another extension that answers exceptions itself may be initialised later (flask-restx).
        watch_first_requests(app, lambda: self._watch_handled_exceptions(app))
        got_request_exception.connect(self._on_exception, app)
        # A signal with a receiver costs each request more than all of our counting, so these two are
        # connected only where nothing cheaper tells the same: a middleware between us and Flask may start
        # the response after Flask has left its context, and only request_finished gives the final response.
        if getattr(inner, "__func__", None) is not Flask.wsgi_app:
            request_started.connect(self._on_started, app)
        if config.extra_labels:
            request_finished.connect(self._on_finished, app)

    def _resolve_route_and_labels(self, recording: Recording) -> None:
        self._routes.resolve_route(recording)
        if not recording.extra:  # an after_request hook raised: there is no final response
            current = current_request(recording)
            if current is not None:
                recording.compute_extra_labels(current, None)

    def _on_started(self, _app: Flask, **_: Any) -> None:
        recording = request.environ.get(RECORDING_KEY)
        if recording is not None:
            self._routes.resolve_route(recording)

    def _on_finished(self, _app: Flask, response: Any, **_: Any) -> None:
        recording = request.environ.get(RECORDING_KEY)
        if recording is not None:
            recording.compute_extra_labels(request._get_current_object(), response)  # type: ignore[attr-defined]

    def _on_exception(self, _app: Flask, exception: BaseException, **_: Any) -> None:
        self._note(exception)

    def _watch_handled_exceptions(self, app: Flask) -> None:
        # got_request_exception is not sent for an exception that an error handler answered.
        handle = app.handle_user_exception
        if handle is self._watched:
            return

        def note_and_handle(*args: Any) -> Any:
            self._note(args[-1])
            return handle(*args)

        self._watched = app.handle_user_exception = note_and_handle  # type: ignore[assignment, method-assign]

    def _note(self, error: BaseException) -> None:
        recording = request.environ.get(RECORDING_KEY) if has_request_context() else None
        if recording is not None:
            recording.add_exception(error)
            self._routes.resolve_route(recording)
