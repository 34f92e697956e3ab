"""Measure any ASGI application: the middleware, at the edge between server and application."""

from __future__ import annotations

from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry

from web_prom.asgi_exchange import ASGIApp, ASGIExchange, MeasuredASGIExchange, Message, Receive, Scope, Send
from web_prom.asgi_routes import Routes
from web_prom.asgi_scrapes import answer, live
from web_prom.config import Config
from web_prom.exclusion import exclude
from web_prom.exposition import Exposition, mounted_config
from web_prom.middleware import Annotate, Middleware, scrape_paths, set_route
from web_prom.multiprocess.takeover import share_values
from web_prom.opening import SCOPE, reader
from web_prom.recorder import KEY
from web_prom.websockets import LABELS, Connection

__all__ = ["PrometheusMiddleware", "make_asgi_app", "set_route"]


class PrometheusMiddleware(Middleware):
    """Measure an ASGI application and answer scrapes.

    ::

        app = PrometheusMiddleware(app)                  # any application
        app.add_middleware(PrometheusMiddleware)         # Starlette, FastAPI

    The routes of Starlette, FastAPI and Litestar are found in the scope (:mod:`web_prom.asgi_routes`);
    other applications tell theirs with :func:`set_route`. An application that two of these wrap is
    measured by the outer one alone. There is no state on it for a request; any number of event loops may
    share it.

    Args:
        app: The ASGI application, of version 3.
        registry: Where the metrics are.
        config: Settings that are loaded already, instead of ``options``.
        annotate: Called with the recording, which has the ``scope``, when the response has started; sets
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
        annotate: Annotate | None = None,
        owner: str = "an ASGI application",
        **options: Any,
    ) -> None:
        annotate = annotate or Routes().annotate
        super().__init__(registry, config, options, annotate=annotate, owner=owner, reserved=LABELS)
        self._app = app
        if self._enabled:
            self._paths = scrape_paths(self._config.path)
            self._exchange = MeasuredASGIExchange if self._sized else ASGIExchange
            self._begun = reader(self.recorder.naming.beginning, SCOPE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection: a request, or something else that is passed on."""
        kind = scope["type"]
        if not self._enabled or kind != "http":
            serve = self._serve_websocket if self._enabled and kind == "websocket" else self._app
            await serve(scope, receive, send)
            return
        if scope.get("path", "") in self._paths or (scope.get("root_path") and self._is_scrape(scope)):
            await answer(self._exposition, scope, send)
            return
        if KEY in scope and not scope[KEY].finished:
            await self._app(scope, receive, self._telling(scope, send))
            return
        try:
            exchange = scope[KEY] = self._exchange(self.recorder, self._begun(scope))
        except Exception:
            self.recorder.failed("start")
            await self._app(scope, receive, send)
            return
        exchange.scope = scope
        exchange._receive = receive
        exchange._send = send
        if self._prepares:
            exchange.prepare()
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except BaseException as error:
            exchange.abort(error)
            raise
        finally:
            if not exchange.finished:
                exchange.end()
            # The server's send refers to the scope, the scope to us, and we to that send.
            scope.pop(KEY, None)

    async def _serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        if KEY in scope and not scope[KEY].finished:
            await self._app(scope, receive, send)
            return
        try:
            connection = scope[KEY] = Connection(self.recorder, scope, receive, send)
        except Exception:
            self.recorder.failed("start")
            await self._app(scope, receive, send)
            return
        try:
            await self._app(scope, connection.receive, connection.send)
        except BaseException as error:
            connection.end(error)
            raise
        finally:
            connection.end()
            scope.pop(KEY, None)

    def _is_scrape(self, scope: Scope) -> bool:
        """Tell whether a path below the application's root is that of scrapes."""
        root = scope["root_path"].rstrip("/")
        path: str = scope.get("path", "")
        return path.startswith(root) and path[len(root) :] in self._paths

    def _telling(self, scope: Scope, send: Send) -> Send:
        """Tell the recording of a middleware around us what our scope knows."""
        outer = scope[KEY]

        async def telling(message: Message) -> None:
            await send(message)
            try:
                if message["type"] == "http.response.start" and outer.route is None:
                    outer.scope = scope  # a copy, if somebody in between made one
                    self.recorder.annotate(outer)
            except Exception:
                self.recorder.failed("annotate")

        return telling


def make_asgi_app(registry: Any = REGISTRY, disable_compression: bool = False) -> ASGIApp:
    """Return an ASGI application that answers scrapes, as prometheus_client's of the same name does.

    Mount it anywhere; it answers on every path below. Unlike upstream's it merges the workers that share
    a directory, answers HEAD, reads Accept headers that are broken, and does not hold up the event loop.

    Args:
        registry: What to expose.
        disable_compression: Never compress.

    Raises:
        ConfigError: PROM_COLLECTOR_TIMEOUT in the environment is not allowed.
        DirectoryError: PROMETHEUS_MULTIPROC_DIR names a directory that cannot be used.
    """
    share_values(*[registry] if isinstance(registry, CollectorRegistry) else [])
    exposition = Exposition(registry, mounted_config(), compress=not disable_compression)

    @exclude  # for what a router answers itself on the way, such as the redirect of a mount to its slash
    async def metrics_app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await answer(exposition, scope, send)
        elif scope["type"] == "lifespan":
            await live(receive, send)
        else:
            raise ValueError(f"metrics are answered to http, not to {scope['type']}")

    return metrics_app
