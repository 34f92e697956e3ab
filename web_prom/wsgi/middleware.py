"""Measure any WSGI application: the middleware, at the edge between server and application."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry

from web_prom.config.settings import Config
from web_prom.exposition.scrape_context import ContextFactory
from web_prom.metrics.layers import State, find_outer, forward, is_counted_by
from web_prom.metrics.recording import RECORDING_KEY
from web_prom.metrics.request_start import WSGI_KEYS, start_key_getter
from web_prom.metrics.websocket import LABELS
from web_prom.middleware import Middleware, RouteResolver, scrape_paths, set_route
from web_prom.types import Environ, WSGIApp
from web_prom.wsgi.endpoint import metrics_app
from web_prom.wsgi.exchange import Exchange
from web_prom.wsgi.measured_exchange import MeasuredExchange
from web_prom.wsgi.static_files import with_static_routes
from web_prom.wsgi.upgrades import MeasuredUpgradeExchange, Upgrade, UpgradeExchange, asks_for_websocket

__all__ = ["PrometheusMiddleware", "set_route"]

logger = logging.getLogger("web_prom")


class PrometheusMiddleware(Middleware):
    """Measure a WSGI application and answer scrapes.

    ::

        application = PrometheusMiddleware(application)

    The application tells its route template with :func:`set_route`. A request that passes several
    measured layers is counted once for each registry: by the outermost layer. Safe to share between
    threads and processes; there is no state on it for a request.

    Args:
        app: The WSGI application.
        registry: Where the metrics are.
        config: Settings that are loaded already, instead of ``options``.
        resolve_route: Called with the recording as the response starts, in the context of the application's
            call; sets the route. Framework adapters pass their own.
        owner: The application's name, for messages.
        scrape_context: Returns a context manager that is entered around each answer to a scrape, and around
            each custom collector in its thread (:mod:`web_prom.exposition.scrape_context`).
        **options: The settings of README's table by their names in small letters, without the prefix.
            They win over the environment. Without an adapter, extra labels are computed from the environ
            and the pair of status line and headers.

    Raises:
        ConfigError: A setting is unknown or not allowed.
        ConflictError: The registry is used by an application with other settings.
        DirectoryError: PROMETHEUS_MULTIPROC_DIR cannot be used.
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
        **options: object,
    ) -> None:
        super().__init__(
            registry, config, options, resolve_route=resolve_route, owner=owner, scrape_context=scrape_context
        )
        self._app = app
        if self._enabled:
            self._app = with_static_routes(app)
            # PEP 3333: a path is bytes, each read as a character.
            self._paths = scrape_paths(self._config.path.encode().decode("latin-1"))
            self._metrics = metrics_app(self._exposition)
            self._exchange = MeasuredExchange if self._sized else Exchange
            # Without these names the families of WebSockets could not be made.
            labels = {*self._config.constant_labels, *self._config.extra_labels}
            upgrade = MeasuredUpgradeExchange if self._sized else UpgradeExchange
            self._upgrade = None if labels & LABELS else upgrade
            self._start_key = start_key_getter(self.recorder.naming.start_attributes, WSGI_KEYS)
            # Without an adapter nobody else knows a request and its response.
            self._labels = bool(self._config.extra_labels) and resolve_route is None

    # One function, and not several short ones: each call costs each request.
    def __call__(  # noqa: C901
        self, environ: Environ, start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Serve one request."""
        if not self._enabled:
            return self._app(environ, start_response)
        if environ.get("PATH_INFO", "") in self._paths:
            return self._metrics(environ, start_response)
        outer = find_outer(environ) if RECORDING_KEY in environ or State.asgi else None
        if outer is not None and is_counted_by(outer, self.recorder):
            return self._app(environ, self._telling(outer, start_response))
        try:
            kind = self._kind_of(environ) if "HTTP_UPGRADE" in environ else self._exchange
            exchange = environ[RECORDING_KEY] = kind(self.recorder, self._start_key(environ))
        except Exception:
            begun = self._begin_without_method(environ)
            if begun is None:
                return self._app(environ, start_response)
            exchange = begun
        exchange._start_response = start_response
        exchange.length = ""
        if self._prepares:
            exchange.prepare(environ)
        started = self._labelling(exchange, environ) if self._labels else exchange.start_response
        if outer is not None:
            exchange.outer = outer
            started = self._handing_on(exchange, started)
        try:
            body = self._app(environ, started)
        except BaseException as error:
            if outer is not None:
                forward(exchange, outer)
            exchange.abort(error)
            exchange.finish()
            raise
        try:
            return exchange.follow(body, environ)
        except Exception:
            self.recorder.record_internal_error("follow")
            exchange.finish()
            return body

    def _kind_of(self, environ: Environ) -> Callable[..., Exchange]:
        """Return what makes the exchange of a request that asks for another protocol."""
        if self._upgrade is None or not asks_for_websocket(environ):
            return self._exchange
        return partial(self._upgrade, environ=environ, labelled=self._labels)

    def _begin_without_method(self, environ: Environ) -> Exchange | None:
        """Begin a request whose environ was made by hand, or count that a request cannot be begun."""
        try:
            if "REQUEST_METHOD" not in environ:
                exchange = environ[RECORDING_KEY] = self._exchange(self.recorder, None)
                return exchange
        except Exception:
            logger.debug("a request without a method could not be begun", exc_info=True)
        self.recorder.record_internal_error("start")
        return None

    def _labelling(self, exchange: Exchange, environ: Environ) -> Callable[..., Any]:
        def started(status: str, headers: list[Any], *exc_info: Any) -> Any:
            write = exchange.start_response(status, headers, *exc_info)
            if not exchange.extra:
                exchange.compute_extra_labels(environ, (status, headers))
            return write

        return started

    def _handing_on(self, exchange: Exchange, start_response: Callable[..., Any]) -> Callable[..., Any]:
        """Tell the recording around a request's, which is of another registry, what the request's knows."""

        def started(*args: Any) -> Any:
            write = start_response(*args)
            try:
                forward(exchange, exchange.outer)
            except Exception:
                self.recorder.record_internal_error("annotate")
            return write

        return started

    def _telling(self, outer: Any, start_response: Callable[..., Any]) -> Callable[..., Any]:
        """Tell the recording of a middleware around us what our adapter knows."""
        if isinstance(outer, Upgrade):
            outer.route_resolvers.append(self.recorder.resolve_route)

        def started(*args: Any) -> Any:
            try:
                self.recorder.resolve_route(outer)
            except Exception:
                self.recorder.record_internal_error("annotate")
            return start_response(*args)

        return started
