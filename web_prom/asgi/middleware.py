"""Measure any ASGI application: the middleware, at the edge between server and application."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry

from web_prom.asgi.endpoint import MetricsApp, answer
from web_prom.asgi.exchange import ASGIExchange, MeasuredASGIExchange
from web_prom.asgi.installation import (
    FailedApp,
    is_built_by_framework,
    wrap_in_place,
    wrap_starlette_stack,
)
from web_prom.asgi.quart_exceptions import record_quart_exceptions
from web_prom.asgi.routes import Routes
from web_prom.asgi.websocket import WebSocketExchange
from web_prom.config.settings import Config
from web_prom.exposition.http import standalone_exposition
from web_prom.metrics.exclusion import exclude
from web_prom.metrics.layers import (
    WSGI_ENVIRON,
    ForwardingRecording,
    State,
    current,
    find_outer_asgi,
    is_counted_by,
)
from web_prom.metrics.recording import RECORDING_KEY, Recording
from web_prom.metrics.request_start import ASGI_KEYS, start_key_getter
from web_prom.metrics.websocket import LABELS
from web_prom.middleware import Middleware, RouteResolver, scrape_paths, set_route
from web_prom.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["PrometheusMiddleware", "make_asgi_app", "set_route"]


class PrometheusMiddleware(Middleware):
    """Measure an ASGI application and answer scrapes.

    ::

        PrometheusMiddleware.install(app)       # FastAPI, Starlette, Litestar, Quart: app stays the same
        app = PrometheusMiddleware(app)         # any ASGI application

    The routes of Starlette, FastAPI and Litestar are found in the scope (:mod:`web_prom.asgi.routes`);
    other applications tell theirs with :func:`set_route`. A request that passes several measured layers
    is counted once for each registry: by the outermost layer. There is no state on it for a request; any
    number of event loops may share it.

    Args:
        app: The ASGI application, of version 3.
        registry: Where the metrics are.
        config: Settings that are loaded already, instead of ``options``.
        resolve_route: Called with the recording, which has the ``scope``, when the response has started; sets
            the route.
        owner: The application's name, for messages.
        **options: The settings of README's table by their names in small letters, without the prefix.
            They win over the environment. Extra labels are computed from the scope and the message that
            starts the response.

    Raises:
        ConfigError: A setting is unknown or not allowed.
        ConflictError: The registry is used by an application with other settings.
        DirectoryError: PROMETHEUS_MULTIPROC_DIR cannot be used.
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
        routes = Routes(app)
        resolve_route = resolve_route or routes.resolve_route
        self._app = app
        try:
            super().__init__(
                registry, config, options, resolve_route=resolve_route, owner=owner, reserved=LABELS
            )
        except Exception as error:
            if not is_built_by_framework():
                raise
            self._enabled, self._app = False, FailedApp(error)
        if self._enabled:
            State.asgi = True
            record_quart_exceptions(routes.app)
            self.recorder.mount_path = routes.mount_path
            self._paths = scrape_paths(self._config.path)
            self._exchange = MeasuredASGIExchange if self._sized else ASGIExchange
            self._start_key_getter = start_key_getter(self.recorder.naming.start_attributes, ASGI_KEYS)
            self._start_key: Callable[[Any], Any] = self._first_start_key

    @classmethod
    def install(cls, app: Any, **options: Any) -> None:
        """Measure an application that stays the same object: FastAPI, Starlette, Litestar, Quart and others.

        Middlewares and handlers of exceptions that the application gets later are inside: every answer is
        counted with the status that the client gets. An error of the settings is raised here, while
        ``app.add_middleware`` of Starlette and FastAPI makes the middleware only when the server starts the
        application, and puts others around it.

        Args:
            app: The application, an object with an asynchronous ``__call__``.
            **options: Those of the class.

        Raises:
            TypeError: The application is a function, or does not allow it: wrap it.
            ConfigError, ConflictError, DirectoryError: As the class.
        """
        wrap_in_place(app, cls(app, **options)._around)

    def _around(self, app: ASGIApp, *, scrapes: bool = True) -> PrometheusMiddleware:
        """Return a layer of this middleware around another application."""
        layer = copy(self)
        layer._app = app
        if layer._enabled:
            layer._paths = layer._paths if scrapes else ()
            layer._start_key = layer._start_key_getter
        return layer

    def _first_start_key(self, scope: Scope) -> Any:
        """Read how the first request begins."""
        self._settle(scope)
        return self._start_key(scope)

    def _settle(self, scope: Scope) -> None:
        """Measure around the whole stack of Starlette, which is there when the first connection comes."""
        self._start_key = self._start_key_getter
        try:
            wrap_starlette_stack(self, scope, self._around)
        except Exception:
            self.recorder.record_internal_error("start")

    # One coroutine, and not several short ones: each more takes a tenth of a microsecond of each request.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:  # noqa: C901, PLR0912
        """Serve one connection: a request, or something else that is passed on.

        Returns:
            What the application returned: uvicorn reports a value that is not None.
        """
        kind = scope["type"]
        if not self._enabled or kind != "http":
            if self._enabled and kind == "lifespan":
                self._settle(scope)
            serve = self._serve_websocket if self._enabled and kind == "websocket" else self._app
            return await serve(scope, receive, send)
        if scope.get("path", "") in self._paths or (scope.get("root_path") and self._is_scrape(scope)):
            return await answer(self._exposition, scope, send)
        outer = find_outer_asgi(scope) if RECORDING_KEY in scope or WSGI_ENVIRON in scope else None
        if outer is not None and is_counted_by(outer, self.recorder):
            return await self._app(scope, receive, self._telling(outer, scope, send))
        try:
            exchange = scope[RECORDING_KEY] = self._exchange(self.recorder, self._start_key(scope))
        except Exception:
            self.recorder.record_internal_error("start")
            return await self._app(scope, receive, send)
        if outer is not None:
            exchange.outer = outer
            if isinstance(outer, ForwardingRecording):
                send = self._telling(outer, scope, send)
        exchange.scope = scope
        exchange._receive = receive
        exchange._send = send
        if self._prepares:
            exchange.prepare()
        try:
            return await self._app(scope, exchange.receive, exchange.send)
        except BaseException as error:
            exchange.abort(error)
            raise
        finally:
            if not exchange.finished:
                exchange.end()
            if exchange.entered:
                current.set(outer)
            # The server's send refers to the scope, the scope to us, and we to that send.
            if outer is None:
                scope.pop(RECORDING_KEY, None)
            else:
                _leave(scope, outer)

    async def _serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> Any:
        outer = find_outer_asgi(scope) if RECORDING_KEY in scope else None
        if outer is not None and is_counted_by(outer, self.recorder):
            return await self._app(scope, receive, send)
        try:
            connection = scope[RECORDING_KEY] = WebSocketExchange(self.recorder, scope, receive, send)
        except Exception:
            self.recorder.record_internal_error("start")
            return await self._app(scope, receive, send)
        connection.outer = outer
        try:
            return await self._app(scope, connection.receive, connection.send)
        except BaseException as error:
            connection.end(error)
            raise
        finally:
            connection.end()
            _leave(scope, outer)

    def _is_scrape(self, scope: Scope) -> bool:
        """Tell whether a path below the application's root is that of scrapes."""
        root = scope["root_path"].rstrip("/")
        path: str = scope.get("path", "")
        return path.startswith(root) and path[len(root) :] in self._paths

    def _telling(self, outer: Any, scope: Scope, send: Send) -> Send:
        """Tell the recording around this layer what the layer's scope knows."""
        if (
            outer.scope is scope
            and outer.recorder is self.recorder
            and not isinstance(outer, ForwardingRecording)
        ):
            return send

        async def telling(message: Message) -> None:
            await send(message)
            try:
                if message["type"] == "http.response.start" and outer.route is None:
                    outer.scope = scope  # a copy, if somebody in between made one
                    self.recorder.resolve_route(outer)
            except Exception:
                self.recorder.record_internal_error("annotate")

        return telling


def _leave(scope: Scope, outer: Any) -> None:
    """Take a recording out of its scope; the one around it takes its place again."""
    if isinstance(outer, Recording | WebSocketExchange):
        scope[RECORDING_KEY] = outer
    else:
        scope.pop(RECORDING_KEY, None)


def make_asgi_app(registry: Any = REGISTRY, disable_compression: bool = False) -> ASGIApp:
    """Return an ASGI application that answers scrapes, as prometheus_client's of the same name does.

    Mount it anywhere; it answers on every path below. Starlette's ``Mount("/metrics", ...)`` redirects
    ``/metrics`` to ``/metrics/``; ``Route("/metrics", make_asgi_app())`` answers it. Unlike upstream's it
    merges the workers that share a directory, answers HEAD, reads Accept headers that are broken, and does
    not hold up the event loop.

    Args:
        registry: What to expose.
        disable_compression: Never compress.

    Raises:
        ConfigError: PROM_COLLECTOR_TIMEOUT in the environment is not allowed.
        DirectoryError: PROMETHEUS_MULTIPROC_DIR names a directory that cannot be used.
    """
    exposition = standalone_exposition(registry, compress=not disable_compression)

    # The mark is for what a router answers itself, for example the redirect of a mount to its slash.
    return exclude(MetricsApp(exposition))
