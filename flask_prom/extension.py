"""The Flask extension: reads the configuration, wraps the application and connects its signals."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
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

from flask_prom.decorated_views import FlaskRequests
from flask_prom.first_requests import watch_first_requests
from flask_prom.routes import FlaskRouteResolver, current_request, endpoint_of, failed_request
from web_prom.config import Config
from web_prom.decorators.framework_requests import register_framework
from web_prom.errors import ConflictError
from web_prom.exposition.scrape_context import scrape_context
from web_prom.metrics.conventions import NAMINGS
from web_prom.metrics.recording import RECORDING_KEY, Recording
from web_prom.metrics.routes import exclude
from web_prom.wsgi import PrometheusMiddleware

register_framework(FlaskRequests())

EXTENSION = "web_prom"
"""The key of an application's :class:`Instrumentation` in ``app.extensions``."""


class FlaskProm:
    """Measure Flask applications and answer scrapes at ``/metrics``.

    ::

        prom = FlaskProm()

        def create_app():
            app = Flask(__name__)
            prom.init_app(app)
            return app

    One object can instrument several applications. It keeps only its options, and may be shared between
    threads and processes.

    A scrape is answered inside the application context (``app.app_context()``), in each thread that takes
    part. So custom collectors and callbacks of gauges can use ``current_app``, ``g`` and ``db.session``, and
    ``teardown_appcontext`` functions run afterwards.

    Args:
        app: An application to instrument at once.
        registry: The registry of the metrics; prometheus_client's default registry if omitted.
        **options: Settings by their names in lower case, without the prefix ``PROM_`` (``namespace="shop"``).
            They take precedence over ``app.config``, which takes precedence over the environment.

    Raises:
        ConfigError: See :meth:`init_app`, if ``app`` is given.
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
        """Instrument an application: read its ``PROM_`` settings, wrap ``app.wsgi_app``, connect its signals.

        A second call for the same application with the same settings does nothing.

        Raises:
            ConfigError: A ``PROM_`` key is unknown or its value is not allowed.
            ConflictError: The application is already instrumented with other settings, or another
                application on the same registry has other settings.
            DirectoryError: PROMETHEUS_MULTIPROC_DIR cannot be used.
            TypeError: The registry of this object is not a registry.
        """
        config = Config.load(self._options, settings=app.config, environ=os.environ)
        existing = app.extensions.get(EXTENSION)
        if existing is not None:
            if (existing.config, existing.registry) != (config, self._registry):
                raise ConflictError(
                    f"Flask application {app.name!r} is already measured with other settings: "
                    f"{existing.config} before, {config} now; call init_app() once, "
                    "or with the same settings and registry"
                )
            return
        app.extensions[EXTENSION] = Instrumentation(app, config, self._registry)


class Instrumentation:
    """The middleware and the signal receivers of one Flask application.

    Signals refer to their receivers weakly. ``app.extensions`` keeps this object alive, and so the receivers.

    Args:
        app: The application.
        config: Its settings.
        registry: The registry of the metrics.

    Attributes:
        config: The settings.
        registry: The registry.
    """

    def __init__(self, app: Flask, config: Config, registry: CollectorRegistry) -> None:
        self.config = config
        self.registry = registry
        if not config.enabled:
            return
        self._resolver = FlaskRouteResolver(app)
        self._patched_handler: Callable[..., Any] | None = None
        inner = app.wsgi_app
        resolve_route = self._resolver.resolve_route
        has_labels = bool(config.extra_labels or NAMINGS[config.naming].request_attributes)
        middleware = PrometheusMiddleware(
            inner,
            registry=registry,
            config=config,
            resolve_route=self._resolve_route_and_labels if has_labels else resolve_route,
            owner=f"Flask application {app.name!r}",
            scrape_context=app.app_context,
            attribute_getters={"view": endpoint_of},
            is_debug=lambda: app.debug,
        )
        self._recorder = middleware.recorder
        if config.templates:
            from flask_prom.templates import measure_templates

            self._render_times = measure_templates(app, middleware.recorder)
        if config.database:
            from flask_prom.engines import EngineFinder
            from web_prom.database.sqlalchemy_hooks import instrument_all

            self._engine_finder = EngineFinder(app, middleware.recorder)
            instrument_all(self._engine_finder)
        self._measure_caches: Callable[[], None] | None = None
        if config.cache:
            from web_prom.cache.flask_caching import measure_application

            self._measure_caches = partial(measure_application, app, middleware.recorder)
            self._measure_caches()
        # Also for other endpoints of the registry (start_http_server).
        scrape_context(app.app_context, registry)
        # The bound method, because a call of the object takes 0.1 us longer.
        app.wsgi_app = middleware.__call__  # type: ignore[method-assign]
        self._record_handled_exceptions(app)
        if has_labels:
            self._label_unhandled_exceptions(app)
        watch_first_requests(app, lambda: self._on_first_request(app))
        got_request_exception.connect(self._on_exception, app)
        # A signal with a receiver takes longer than the whole measurement of a request. So these two signals
        # are connected only if they are needed. A middleware between this one and Flask may start the
        # response after the request context has ended; then the route is resolved at request_started. Extra
        # labels need the final response, which only request_finished has.
        if getattr(inner, "__func__", None) is not Flask.wsgi_app:
            request_started.connect(self.on_request_started, app)
        if has_labels:
            request_finished.connect(self._on_request_finished, app)

    def _on_first_request(self, app: Flask) -> None:
        """Do what depends on extensions that are initialised later: flask-restx, Flask-Caching."""
        self._record_handled_exceptions(app)  # flask-restx may replace handle_user_exception
        if self._measure_caches is not None:
            self._measure_caches()

    def on_request_started(self, _app: Flask, **_: Any) -> None:
        """Resolve the route of the current request: a receiver of ``request_started``."""
        self._change_recording(self._resolver.resolve_route)

    def _on_request_finished(self, _app: Flask, response: Any, **_: Any) -> None:
        recording = request.environ.get(RECORDING_KEY)
        if recording is not None:
            current = request._get_current_object()  # type: ignore[attr-defined]
            recording.compute_extra_labels(current, response, self._recorder)

    def _on_exception(self, _app: Flask, exception: BaseException, **_: Any) -> None:
        self._record_exception(exception)

    def _resolve_route_and_labels(self, recording: Recording) -> None:
        self._resolver.resolve_route(recording)
        # An after_request function raised, or an exception left Flask. So there is no final response.
        if not recording.extra:
            current = current_request(recording) or failed_request(recording)
            if current is not None:
                recording.compute_extra_labels(current, None, self._recorder)

    def _label_unhandled_exceptions(self, app: Flask) -> None:
        """Patch ``handle_exception`` to compute the extra labels of an exception that leaves Flask.

        The request context has ended when the middleware gets the exception.
        """
        handle = app.handle_exception

        def handle_or_label(error: Exception) -> Any:
            try:
                return handle(error)
            except BaseException:
                self._change_recording(self._resolve_route_and_labels)
                raise

        app.handle_exception = handle_or_label  # type: ignore[assignment, method-assign]

    def _record_handled_exceptions(self, app: Flask) -> None:
        """Patch ``handle_user_exception``, unless it is patched.

        ``got_request_exception`` is not sent for an exception that an error handler answers.
        """
        handle = app.handle_user_exception
        if handle is self._patched_handler:
            return

        def record_and_handle(*args: Any) -> Any:
            self._record_exception(args[-1])
            return handle(*args)

        app.handle_user_exception = record_and_handle  # type: ignore[assignment, method-assign]
        self._patched_handler = record_and_handle

    def _record_exception(self, error: BaseException) -> None:
        self._change_recording(lambda recording: self._add_exception(recording, error))

    def _add_exception(self, recording: Recording, error: BaseException) -> None:
        recording.add_exception(error)
        self._resolver.resolve_route(recording)

    @staticmethod
    def _change_recording(change: Callable[[Recording], None]) -> None:
        """Call a function with the recording of the current request, if there is one. Never raises."""
        recording = request.environ.get(RECORDING_KEY) if has_request_context() else None
        if recording is not None:
            try:
                change(recording)
            except Exception:
                recording.recorder.record_internal_error("annotate")
