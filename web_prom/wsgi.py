"""Measure any WSGI application: the middleware, at the edge between server and application."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry

from web_prom.config import Config
from web_prom.exchange import Environ, Exchange
from web_prom.exposition import WSGIApp, as_wsgi
from web_prom.middleware import Annotate, Middleware, set_route
from web_prom.opening import ENVIRON, reader
from web_prom.recorder import KEY, Recording
from web_prom.scrape_context import Factory
from web_prom.sizes import MeasuredExchange

__all__ = ["PrometheusMiddleware", "set_route"]


class PrometheusMiddleware(Middleware):
    """Measure a WSGI application and answer scrapes.

    ::

        application = PrometheusMiddleware(application)

    The application tells its route template with :func:`set_route`. An application that two of these
    wrap is measured by the outer one alone. Safe to share between threads and processes; there is no
    state on it for a request.

    Args:
        app: The WSGI application.
        registry: Where the metrics are.
        config: Settings that are loaded already, instead of ``options``.
        annotate: Called with the recording as the response starts, in the context of the application's
            call; sets the route. Framework adapters pass their own.
        owner: The application's name, for messages.
        scrape_context: Returns a context manager that is entered around each answer to a scrape, and around
            each custom collector in its thread (:mod:`web_prom.scrape_context`).
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
        annotate: Annotate | None = None,
        owner: str = "a WSGI application",
        scrape_context: Factory | None = None,
        **options: object,
    ) -> None:
        super().__init__(
            registry, config, options, annotate=annotate, owner=owner, scrape_context=scrape_context
        )
        self._app = app
        if self._enabled:
            # PEP 3333: a path is bytes, each read as a character. An empty one is an application's root.
            self._path = self._config.path.encode().decode("latin-1") or None
            self._metrics = as_wsgi(self._exposition)
            self._exchange = MeasuredExchange if self._sized else Exchange
            self._begun = reader(self.recorder.naming.beginning, ENVIRON)
            # Without an adapter nobody else knows a request and its response.
            self._labels = bool(self._config.extra_labels) and annotate is None

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request."""
        if not self._enabled:
            return self._app(environ, start_response)
        if environ.get("PATH_INFO", "") == self._path:
            return self._metrics(environ, start_response)
        if KEY in environ and not environ[KEY].finished:
            return self._app(environ, self._telling(environ[KEY], start_response))
        try:
            exchange = environ[KEY] = self._exchange(self.recorder, self._begun(environ))
        except Exception:
            self.recorder.failed("start")
            return self._app(environ, start_response)
        exchange._start_response = start_response
        exchange.length = ""
        if self._prepares:
            exchange.prepare(environ)
        started = self._labelling(exchange, environ) if self._labels else exchange.start_response
        try:
            body = self._app(environ, started)
        except BaseException as error:
            exchange.abort(error)
            exchange.finish()
            raise
        try:
            return exchange.follow(body, environ)
        except Exception:
            self.recorder.failed("follow")
            exchange.finish()
            return body

    def _labelling(self, exchange: Exchange, environ: Environ) -> Callable[..., Any]:
        def started(status: str, headers: list[Any], *exc_info: Any) -> Any:
            write = exchange.start_response(status, headers, *exc_info)
            if not exchange.extra:
                exchange.annotate(environ, (status, headers))
            return write

        return started

    def _telling(self, outer: Recording, start_response: Callable[..., Any]) -> Callable[..., Any]:
        """Tell the recording of a middleware around us what our adapter knows."""

        def started(*args: Any) -> Any:
            try:
                self.recorder.annotate(outer)
            except Exception:
                self.recorder.failed("annotate")
            return start_response(*args)

        return started
