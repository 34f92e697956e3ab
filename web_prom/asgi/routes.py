"""The route templates of ASGI requests, from what Starlette, FastAPI, Litestar and others put into the scope.

No framework is imported: objects are recognised by their attributes. What each framework provides:

- Starlette (and FastAPI) 1.0: ``scope["route"]``, whose path lacks the mounts around it. Older releases:
  only the ``endpoint``, which is looked up among the routes of ``scope["router"]``, the outermost router.
- FastAPI from 0.137 on: the path of ``scope["route"]`` also lacks the prefixes of ``include_router``. The
  route with the prefixes is in ``scope["fastapi"]``.
- Litestar: ``scope["path_template"]``. It is missing at a 405; then its router matches the path again.
- Flask and Quart: nothing. :mod:`web_prom.asgi.url_maps` matches the path with the application's URL map,
also
  behind a mount and an adapter from ASGI to WSGI.
- Connexion: nothing, because its routers get copies of the scope. Flask's URL map or the routers of its
AsyncApp
  match the path.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Protocol

from web_prom.asgi.starlette_routes import RouteIndex, RouteMatch, before_routing, match_routes
from web_prom.asgi.url_maps import find_url_map
from web_prom.hooks import RecordedRequest
from web_prom.metrics.routes import EVERY_METHOD, absolute_route, excluded_methods, is_excluded
from web_prom.types import Scope

# A limit for the caches. A client cannot add routes, but an application could without end.
_MAX_CACHED = 10_000


class ScopeRecording(RecordedRequest, Protocol):
    """A recording that has an ASGI scope.

    Attributes:
        scope: The scope of the request or of the WebSocket.
    """

    scope: Scope


class ASGIRouteResolver:
    """Finds the route templates of the requests of one application.

    A match is cached by the id of its route object, so the time of a look-up does not depend on the number of
    routes. Safe to share between threads.

    Args:
        app: The application.

    Attributes:
        app: The Flask or Quart application that ``app`` is or wraps, or None.
    """

    def __init__(self, app: Any = None) -> None:
        self._url_map = find_url_map(app)
        self._outermost = app
        self.app = None if self._url_map is None else self._url_map.app
        self._matches: dict[int, RouteMatch] = {}
        self._indexes: dict[int, RouteIndex] = {}

    def resolve_route(self, recording: ScopeRecording) -> None:
        """Set the route of a recording, and whether its view is measured."""
        scope = recording.scope
        route = scope.get("route")
        match: RouteMatch | None
        if route is not None and "app_root_path" not in scope:
            context = scope.get("fastapi")
            if context is not None:
                context = context.get("effective_route_context")
                if context is not None and context.original_route is route:
                    route = context
            try:
                match = self._matches[id(route)]
            except KeyError:
                match = self._cache_route(route) or self._search(scope, recording.status)
        else:
            match = self._search(scope, recording.status)
        if match is None:
            match = self._search_application(scope)
            if match is None:
                return
        template, excluded = match.template, match.excluded
        if match.url_map is not None:
            found = match.url_map.find(scope if match.owner is not None else before_routing(scope))
            if found is None:
                return
            template, excluded = f"{match.mount}{found[0]}", found[1]
        recording.route = template
        if excluded and scope.get("method", "GET") in excluded:
            recording.measured = False

    def mount_path(self, recording: Any) -> str:
        """Return the path template of the mount whose application serves a recording; empty without one."""
        scope = getattr(recording, "scope", None)
        match = None if scope is None else self._search(scope, None)
        return "" if match is None or match.mount is None else match.mount

    def _search_application(self, scope: Scope) -> RouteMatch | None:
        """Return the match of the application itself, for routers that got a copy of the scope."""
        if self._url_map is not None:
            return RouteMatch("", excluded=(), mount="", url_map=self._url_map)
        router = _connexion_router(self._outermost)
        if router is None:
            return None
        return match_routes(router.routes, {**before_routing(scope), "fastapi": {}}, "")

    def _cache_route(self, route: Any) -> RouteMatch | None:
        path = getattr(route, "path", None)
        if not isinstance(path, str) or not hasattr(route, "endpoint"):
            return None
        match = RouteMatch(absolute_route(path), excluded_methods(route.endpoint), route)
        if len(self._matches) >= _MAX_CACHED:
            self._matches.clear()
        self._matches[id(route)] = match
        return match

    def _search(self, scope: Scope, status: str | None) -> RouteMatch | None:
        if "litestar_app" in scope:
            match = _match_litestar(scope, status)
            # Litestar may have replaced the path. The root path is that of the mount.
            mounted = {**scope, "path": f"{scope.get('root_path', '')}/"}
            return match and _below(self._search_router(mounted, None), match)
        return self._search_router(scope, status)

    def _search_router(self, scope: Scope, status: str | None) -> RouteMatch | None:
        """Return the match of the outermost router of Starlette or FastAPI, if there is one."""
        router = scope.get("router")
        routes = getattr(router, "routes", None)
        if not routes:
            return None
        index = self._indexes.get(id(router))
        if index is None or index.router is not router or index.size != len(routes):
            if len(self._indexes) >= _MAX_CACHED:
                self._indexes.clear()
            index = self._indexes[id(router)] = RouteIndex(router)
        return index.find(scope, status)


def resolve_view(recording: Any) -> None:
    """Resolve the route of a recording that has none, and whether its view is measured.

    A route that the application set itself stays.
    """
    explicit = recording.explicit_route
    if recording.route is None or explicit is not None:
        try:
            recording.recorder.resolve_route(recording)
        finally:
            if explicit is not None:
                recording.route = explicit


def _connexion_router(app: Any) -> Any:
    """Return the router of Connexion's AsyncApp, which exists from the first connection on, or None."""
    for layer in getattr(getattr(app, "middleware", None), "middleware_stack", None) or ():
        if type(layer).__name__ == "RoutingMiddleware":
            return layer.router
    return None


def _below(outer: RouteMatch | None, match: RouteMatch) -> RouteMatch:
    """Return the match of a mounted application with the path template of its mount."""
    if outer is None or outer.mount is None:
        return match
    return match._replace(
        template=outer.mount + match.template,
        excluded=outer.excluded or match.excluded,
        mount=None if match.mount is None else outer.mount + match.mount,
    )


def _match_litestar(scope: Scope, status: str | None) -> RouteMatch | None:
    handler, template = scope.get("route_handler"), scope.get("path_template")
    if handler is None:
        return _match_litestar_405(scope) if status == "405" else None
    excluded = _excluded_by_handler(handler)
    if getattr(handler, "is_mount", False):
        path = min(handler.paths)
        return RouteMatch(absolute_route(f"{path}/*"), excluded, mount=absolute_route(path))
    return RouteMatch(absolute_route(template or ""), excluded)


def _match_litestar_405(scope: Scope) -> RouteMatch | None:
    """Return the route that Litestar's router finds with another method."""
    router = scope["litestar_app"].asgi_router
    path = f"/{scope['path'].removeprefix(scope.get('root_path', '')).strip('/')}"
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"):
        try:
            _, handler, *_, template = router.handle_routing(path=path, method=method)
        except Exception:  # noqa: S112 - Litestar's MethodNotAllowedException; the next method may match
            continue
        return RouteMatch(absolute_route(template), _excluded_by_handler(handler))
    return None


def _excluded_by_handler(handler: Any) -> Container[str]:
    """Return the HTTP methods that a handler of Litestar, its function, or its Controller excludes."""
    return EVERY_METHOD if is_excluded(handler) else excluded_methods(getattr(handler, "fn", None))
