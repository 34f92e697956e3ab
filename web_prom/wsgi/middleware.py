"""The WSGI middleware: measures any WSGI application and answers scrapes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry

from web_prom.config.settings import Config
from web_prom.exposition.scrape_context import ContextFactory
from web_prom.hooks import ExtraLabel, RouteResolver
from web_prom.metrics.layers import find_outer, forward, is_counted_by, measured_protocols
from web_prom.metrics.queue_time import CONNECTION_KEY, HEADER_KEY
from web_prom.metrics.recording import RECORDING_KEY
from web_prom.metrics.request_start import WSGI_KEYS, start_key_getter
from web_prom.metrics.websocket import WEBSOCKET_LABELS
from web_prom.middleware import Middleware, scrape_paths, set_route
from web_prom.types import Environ, Headers, StartResponse, WSGIApp
from web_prom.wsgi.endpoint import metrics_app
from web_prom.wsgi.exchange import WSGIExchange, WSGIExchangeWithSizes
from web_prom.wsgi.static_files import with_static_routes
from web_prom.wsgi.upgrades import (
    UpgradeExchange,
    UpgradeExchangeWithSizes,
    UpgradeRecording,
    asks_for_websocket,
)

__all__ = ["PrometheusMiddleware", "set_route"]

logger = logging.getLogger("web_prom")


class PrometheusMiddleware(Middleware):
    """Measure a WSGI application and answer scrapes.

    ::

        application = PrometheusMiddleware(application)

    The application sets its route template with :func:`set_route`. If a request passes several measured
    layers, each registry counts it once: by its outermost layer. Safe to share between threads and
    processes: it has no state of a request.

    Args:
        app: The WSGI application.
        registry: The registry of the metrics.
        config: Settings that are already loaded, instead of ``options``.
        resolve_route: Called with the recording when the response starts, while the application is still
            running; sets the route. Framework adapters pass their own.
        owner: The application's name, for messages.
        scrape_context: Returns a context manager that is entered around each response to a scrape, and
            around each custom collector in its thread (:mod:`web_prom.exposition.scrape_context`).
        attribute_getters: Functions that return an attribute of a naming from the framework's request and
            response. Framework adapters pass their own.
        is_debug: Returns whether the application is debugged. Then the live page needs no access control.
        **options: Settings by their names in lower case, without the prefix ``PROM_``. They take precedence
            over the environment. Without an adapter, extra labels are computed from the environ and the
            pair of status line and headers, or None if the application raises before it starts a response.

    Raises:
        ConfigError: A setting is unknown or not allowed.
        ConflictError: An application with other settings uses the registry.
        DirectoryError: PROMETHEUS_MULTIPROC_DIR cannot be used.
        TypeError: ``registry`` is not a registry.
    """

    def __init__(
        self,
        app: WSGIApp,
        *,
        registry: CollectorRegistry = REGISTRY,
        config: Config | None = None,
        resolve_route: RouteResolver | None = None,
        owner: str = "a WSGI application",
        scrape_context: ContextFactory | None = None,
        attribute_getters: Mapping[str, ExtraLabel] = MappingProxyType({}),
        is_debug: Callable[[], bool] = lambda: False,
        **options: object,
    ) -> None:
        super().__init__(
            registry,
            config,
            options,
            resolve_route=resolve_route,
            owner=owner,
            scrape_context=scrape_context,
            attribute_getters=attribute_getters,
            is_debug=is_debug,
        )
        self._app = app
        if self._enabled:
            self._app = with_static_routes(app)
            # PEP 3333: each character of a path in the environ is one byte.
            self._scrape_paths = self._answered_paths(
                scrape_paths(self._config.path.encode().decode("latin-1"))
            )
            self._metrics_app = metrics_app(self._live or self._exposition)
            self._exchange_class = self._recording_class(
                WSGIExchangeWithSizes if self._measures_sizes else WSGIExchange
            )
            # The metrics of WebSockets cannot be created if they have a label twice.
            labels = {*self._config.constant_labels, *self._config.extra_labels}
            upgrade_class = self._recording_class(
                UpgradeExchangeWithSizes if self._measures_sizes else UpgradeExchange
            )
            self._upgrade_class = None if labels & WEBSOCKET_LABELS else upgrade_class
            queue_time = self.recorder.queue_time
            self._observe_queue_time = None if queue_time is None else queue_time.observe
            self._start_key = start_key_getter(self.recorder.naming.start_attributes, WSGI_KEYS)
            if self._live is not None:
                self._start_key = self._live.starting(self._start_key)
            # An adapter computes them from the framework's request and response.
            self._extra_from_environ = bool(self._config.extra_labels) and resolve_route is None

    # One function, because each call of a function takes time in each request.
    def __call__(  # noqa: C901, PLR0912
        self, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Serve one request."""
        if not self._enabled:
            return self._app(environ, start_response)
        if environ.get("PATH_INFO", "") in self._scrape_paths:
            return self._metrics_app(environ, start_response)
        outer = find_outer(environ) if RECORDING_KEY in environ or measured_protocols.asgi else None
        if outer is not None and is_counted_by(outer, self.recorder):
            try:
                return self._app(environ, self._with_outer_route(outer, start_response))
            except BaseException as error:
                self._resolve_outer_route(outer, error)
                raise
        try:
            make = self._exchange_factory(environ) if "HTTP_UPGRADE" in environ else self._exchange_class
            start_key = self._start_key
            exchange = environ[RECORDING_KEY] = make(self.recorder, start_key(environ))
        except Exception:
            without_method = self._start_without_method(environ)
            if without_method is None:
                return self._app(environ, start_response)
            exchange = without_method
        exchange._start_response = start_response
        exchange.content_length = ""
        # Most servers give neither key, and then observe() does nothing.
        if CONNECTION_KEY in environ or HEADER_KEY in environ:
            observe_queue_time = self._observe_queue_time
            if observe_queue_time is not None:
                observe_queue_time(environ)
        if self._measures_sizes:
            exchange.on_start(environ)
        start = (
            self._with_extra_labels(exchange, environ)
            if self._extra_from_environ
            else exchange.start_response
        )
        if outer is not None:
            exchange.outer = outer
            start = self._with_forwarding(exchange, start)
        app = self._app
        try:
            body = app(environ, start)
        except BaseException as error:
            exchange.on_exception(error)
            if outer is not None:
                forward(exchange, outer)
            exchange.finish()
            raise
        try:
            return exchange.wrap_body(body, environ)
        except Exception:
            self.recorder.record_internal_error("follow")
            exchange.finish()
            return body

    def _exchange_factory(self, environ: Environ) -> Callable[..., WSGIExchange]:
        """Return the function that creates the exchange of a request with the header ``Upgrade``."""
        if self._upgrade_class is None or not asks_for_websocket(environ):
            return self._exchange_class
        return partial(self._upgrade_class, environ=environ)

    def _start_without_method(self, environ: Environ) -> WSGIExchange | None:
        """Start the exchange of a request whose environ has no REQUEST_METHOD, as in some tests.

        Return None if the exchange failed to start for another reason; that is counted as an error of the
        instrumentation.
        """
        try:
            if "REQUEST_METHOD" not in environ:
                exchange = environ[RECORDING_KEY] = self._exchange_class(self.recorder, None)
                return exchange
        except Exception:
            logger.debug("the recording of a request without a method failed to start", exc_info=True)
        self.recorder.record_internal_error("start")
        return None

    def _with_extra_labels(self, exchange: WSGIExchange, environ: Environ) -> StartResponse:
        """Return a ``start_response`` that also computes the extra labels."""
        exchange.labels_environ = environ

        def start(status: str, headers: Headers, *exc_info: Any) -> Callable[[bytes], object]:
            write = exchange.start_response(status, headers, *exc_info)
            if not exchange.extra:
                exchange.compute_extra_labels(environ, (status, headers))
            exchange.labels_environ = None  # the environ refers to the exchange
            return write

        return start

    def _with_forwarding(self, exchange: WSGIExchange, start_response: StartResponse) -> StartResponse:
        """Return a ``start_response`` that also sets route and exceptions on the outer recording.

        The outer recording is of another registry.
        """

        def start(*args: Any) -> Callable[[bytes], object]:
            write = start_response(*args)
            try:
                forward(exchange, exchange.outer)
            except Exception:
                self.recorder.record_internal_error("annotate")
            return write

        return start

    def _with_outer_route(self, outer: Any, start_response: StartResponse) -> StartResponse:
        """Return a ``start_response`` that first sets the route on the recording of an outer layer."""
        if isinstance(outer, UpgradeRecording):
            outer.route_resolvers.append(self.recorder.resolve_route)

        def start(*args: Any) -> Callable[[bytes], object]:
            try:
                self.recorder.resolve_route(outer)
            except Exception:
                self.recorder.record_internal_error("annotate")
            return start_response(*args)

        return start

    def _resolve_outer_route(self, outer: Any, error: BaseException) -> None:
        """Set the route on the recording of an outer layer after an exception of the application."""
        try:
            outer.add_exception(error)
            if outer.status is None:
                self.recorder.resolve_route(outer)
        except Exception:
            self.recorder.record_internal_error("annotate")
