"""Measure any WSGI application: the middleware, at the edge between server and application."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry

from web_prom.config import Config
from web_prom.exchange import Environ, Exchange
from web_prom.exposition import Exposition, WSGIApp, as_wsgi
from web_prom.recorder import KEY, Recorder, Recording
from web_prom.sizes import MeasuredExchange

Annotate = Callable[[Recording], None]


def set_route(environ: Environ, template: str) -> None:
    """Tell the route template of a request that :class:`PrometheusMiddleware` measures.

    For applications without an adapter; at any time until the response body ends. Without it the route
    is ``_unmatched``: the path itself is never a label. Does nothing where nothing measures.

    Args:
        environ: The request's WSGI environ.
        template: Such as ``/users/<id>``; one of a list that no client can grow.
    """
    recording = environ.get(KEY)
    if recording is not None:
        recording.route = template


class PrometheusMiddleware:
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
        **options: object,
    ) -> None:
        if config is not None and options:
            raise TypeError(f"settings are in config or in options, not in both (not {', '.join(options)})")
        config = config or Config.load(options, environ=os.environ)
        self._app = app
        # PEP 3333: a path is bytes, each read as a character. An empty one is an application's root.
        self._path = config.path.encode().decode("latin-1") or None
        self._enabled = config.enabled
        if self._enabled:
            self.recorder = Recorder(config, registry, owner=owner, annotate=annotate)
            self._metrics = as_wsgi(Exposition(registry, config))
            sized = config.request_size or config.response_size or config.first_byte
            self._exchange = MeasuredExchange if sized else Exchange
            self._prepares = sized or config.queue_time
            # Without an adapter nobody else knows a request and its response.
            self._labels = bool(config.extra_labels) and annotate is None

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request."""
        if not self._enabled:
            return self._app(environ, start_response)
        if environ.get("PATH_INFO", "") == self._path:
            return self._metrics(environ, start_response)
        if KEY in environ and not environ[KEY].finished:
            return self._app(environ, self._telling(environ[KEY], start_response))
        try:
            exchange = environ[KEY] = self._exchange(self.recorder, environ.get("REQUEST_METHOD", ""))
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
