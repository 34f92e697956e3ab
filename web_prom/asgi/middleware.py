"""The ASGI middleware: measures any ASGI application and answers scrapes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from copy import copy
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry

from web_prom.asgi.endpoint import send_metrics
from web_prom.asgi.exchange import ASGIExchange, ASGIExchangeWithSizes
from web_prom.asgi.inner_layer import (
    InnerConnection,
    add_inner_layers,
    is_seen_by,
)
from web_prom.asgi.installation import (
    FailedApp,
    is_built_by_framework,
    wrap_in_place,
    wrap_starlette_stack,
)
from web_prom.asgi.quart_exceptions import record_quart_exceptions
from web_prom.asgi.routes import ASGIRouteResolver
from web_prom.asgi.websocket import WebSocketExchange
from web_prom.config.settings import Config
from web_prom.hooks import RouteResolver
from web_prom.metrics.layers import (
    A2WSGI_ENVIRON_KEY,
    current_recording,
    find_outer_asgi,
    is_counted_by,
    measured_protocols,
)
from web_prom.metrics.recording import RECORDING_KEY, Recording
from web_prom.metrics.request_start import ASGI_KEYS, start_key_getter
from web_prom.metrics.websocket import WEBSOCKET_LABELS
from web_prom.middleware import Middleware, scrape_paths, set_route
from web_prom.runtime.this_process import measurements
from web_prom.types import ASGIApp, Receive, Scope, Send

logger = logging.getLogger("web_prom")

__all__ = ["PrometheusMiddleware", "set_route"]


class PrometheusMiddleware(Middleware):
    """Measure an ASGI application and answer scrapes.

    ::

        PrometheusMiddleware.install(app)       # FastAPI, Starlette, Litestar, Quart: app stays the same
        app = PrometheusMiddleware(app)         # any ASGI application

    The routes of Starlette, FastAPI and Litestar are read from the scope (:mod:`web_prom.asgi.routes`). Other
    applications set theirs with :func:`set_route`. If a request passes several measured layers, each registry
    counts it once: by its outermost layer. The middleware has no state of a request. Several event loops may
    share it.

    Args:
        app: The ASGI application, of version 3.
        registry: The registry of the metrics.
        config: Settings that are already loaded, instead of ``options``.
        resolve_route: Called with the recording when the response has started; sets the route. The recording
            has the attribute ``scope``.
        owner: The application's name, for messages.
        **options: Settings by their names in lower case, without the prefix ``PROM_``. They take precedence
            over the environment. Extra labels are computed from the scope and the message that starts the
            response, or None if the application ends before it starts one.

    Raises:
        ConfigError: A setting is unknown or not allowed.
        ConflictError: An application with other settings uses the registry.
        DirectoryError: PROMETHEUS_MULTIPROC_DIR cannot be used.
        TypeError: ``registry`` is not a registry.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        registry: CollectorRegistry = REGISTRY,
        config: Config | None = None,
        resolve_route: RouteResolver | None = None,
        owner: str = "an ASGI application",
        **options: Any,
    ) -> None:
        resolver = ASGIRouteResolver(app)
        resolve_route = resolve_route or resolver.resolve_route
        self._app = app
        is_built = is_built_by_framework()
        # A middleware may also create it around another application.
        self._was_added = is_built and not hasattr(app, "build_middleware_stack")
        try:
            super().__init__(
                registry, config, options, resolve_route=resolve_route, owner=owner, reserved=WEBSOCKET_LABELS
            )
        except Exception as error:
            if not is_built:
                raise
            self._enabled, self._app = False, FailedApp(error)
        if self._enabled:
            measured_protocols.asgi = True
            record_quart_exceptions(resolver.app)
            self.recorder.mount_path = resolver.mount_path
            self._scrape_paths = self._answered_paths(scrape_paths(self._config.path))
            self._answerer = self._live or self._exposition
            self._exchange_class = self._recording_class(
                ASGIExchangeWithSizes if self._measures_sizes else ASGIExchange
            )
            self._start_key_getter = start_key_getter(self.recorder.naming.start_attributes, ASGI_KEYS)
            if self._live is not None:
                self._start_key_getter = self._live.starting(self._start_key_getter)
            self._start_key: Callable[[Any], Any] = self._first_start_key

    @classmethod
    def install(cls, app: Any, **options: Any) -> None:
        """Measure an application that stays the same object: FastAPI, Starlette, Litestar or Quart.

        Middlewares and exception handlers that are added later are inside: each response is counted with the
        status that the client gets. An error in the settings is raised here. In contrast,
        ``app.add_middleware`` of Starlette and FastAPI creates the middleware only when the server starts
        the application, and puts other middlewares around it.

        Args:
            app: The application, an object with an asynchronous ``__call__``.
            **options: The arguments of the class.

        Raises:
            TypeError: The application is a function, or its class cannot be replaced. Wrap it instead.
            ConfigError, ConflictError, DirectoryError: See the class.
        """
        wrap_in_place(app, cls(app, **options)._layer_around)

    def _layer_around(self, app: ASGIApp, *, scrapes: bool = True) -> PrometheusMiddleware:
        """Return a layer of this middleware around another application."""
        layer = copy(self)
        layer._app = app
        layer._was_added = False
        if layer._enabled:
            layer._scrape_paths = layer._scrape_paths if scrapes else ()
            layer._start_key = layer._start_key_getter
        return layer

    def _first_start_key(self, scope: Scope) -> Any:
        """Return the start key of the first request."""
        self._wrap_starlette_stack(scope)
        return self._start_key(scope)

    def _wrap_starlette_stack(self, scope: Scope) -> None:
        """Put a layer around the middleware stack of Starlette, which exists from the first connection on."""
        self._start_key = self._start_key_getter
        try:
            add_inner_layers(self._app)
            if self._was_added and not wrap_starlette_stack(self, scope, self._layer_around):
                logger.warning(
                    "PrometheusMiddleware cannot measure from the outermost position: responses of other "
                    "middlewares are missing; call PrometheusMiddleware.install(app) instead"
                )
        except Exception:
            self.recorder.record_internal_error("start")

    # One coroutine, because each further coroutine takes a tenth of a microsecond in each request.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:  # noqa: C901, PLR0912
        """Serve one connection. Only HTTP requests and WebSockets are measured.

        Returns:
            The value that the application returned. uvicorn logs an error if it is not None.
        """
        kind = scope["type"]
        if not self._enabled or kind != "http":
            if self._enabled and kind == "lifespan":
                measurements.loop.start()
                self._wrap_starlette_stack(scope)
            serve = self._serve_websocket if self._enabled and kind == "websocket" else self._app
            return await serve(scope, receive, send)
        if self._is_scrape(scope) if scope.get("root_path") else scope.get("path", "") in self._scrape_paths:
            return await send_metrics(self._answerer, scope, send)
        outer = find_outer_asgi(scope) if RECORDING_KEY in scope or A2WSGI_ENVIRON_KEY in scope else None
        if outer is not None:
            if is_seen_by(outer, scope, self.recorder):
                return await self._app(scope, receive, send)
            inner = InnerConnection(self.recorder, outer, scope, receive, send)
            if is_counted_by(outer, self.recorder):
                return await inner.serve(self._app)
            send = inner.send
        try:
            exchange = scope[RECORDING_KEY] = self._exchange_class(self.recorder, self._start_key(scope))
        except Exception:
            self.recorder.record_internal_error("start")
            return await self._app(scope, receive, send)
        if outer is not None:
            exchange.outer = outer
        exchange.scope = scope
        exchange._receive = receive
        exchange._send = send
        exchange.on_start()
        try:
            return await self._app(scope, exchange.receive, exchange.send)
        except BaseException as error:
            exchange.on_exception(error)
            raise
        finally:
            if not exchange.finished:
                exchange.on_end()
            if exchange.in_context:
                current_recording.set(outer)
            # This breaks a reference cycle: the server's send, the scope, the exchange, the server's send.
            if outer is None:
                scope.pop(RECORDING_KEY, None)
            else:
                inner.set_route()
                _restore_outer(scope, outer)

    async def _serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Serve one WebSocket."""
        outer = find_outer_asgi(scope) if RECORDING_KEY in scope else None
        if outer is not None:
            inner = InnerConnection(self.recorder, outer, scope, receive, send)
            if is_counted_by(outer, self.recorder):
                return await inner.serve(self._app)
            receive, send = inner.receive, inner.send
        try:
            exchange = scope[RECORDING_KEY] = WebSocketExchange(self.recorder, scope, receive, send)
        except Exception:
            self.recorder.record_internal_error("start")
            return await self._app(scope, receive, send)
        exchange.outer = outer
        try:
            return await self._app(scope, exchange.receive, exchange.send)
        except BaseException as error:
            exchange.on_end(error)
            raise
        finally:
            exchange.on_end()
            if outer is not None:
                inner.set_route()
            _restore_outer(scope, outer)

    def _is_scrape(self, scope: Scope) -> bool:
        """Return whether the path below the application's root path is a scrape path.

        The path of some servers lacks the root path.
        """
        root = scope["root_path"].rstrip("/")
        path: str = scope.get("path", "")
        return (path[len(root) :] if path.startswith(f"{root}/") else path) in self._scrape_paths


def _restore_outer(scope: Scope, outer: Any) -> None:
    """Remove a recording from its scope, and put the outer recording back, if there is one."""
    if isinstance(outer, Recording | WebSocketExchange):
        scope[RECORDING_KEY] = outer
    else:
        scope.pop(RECORDING_KEY, None)
