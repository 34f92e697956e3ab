"""From an ASGI scope to the route label: what Starlette, FastAPI and Litestar leave there.

No framework is imported: objects are known by what they have. What each of them tells:

- Starlette (and FastAPI) 1.0: ``scope["route"]``, whose path lacks the mounts above it. Before, only the
  ``endpoint``, which is looked up among the routes of ``scope["router"]``, the outermost router.
- FastAPI from 0.137 on: the path of ``scope["route"]`` lacks the prefixes of ``include_router`` too;
  the route with them is in ``scope["fastapi"]``.
- Litestar: ``scope["path_template"]``; nothing at a 405, whose path is given to its router again.
- Flask and Quart: nothing; :mod:`web_prom.asgi.url_maps` asks the application's URL map, also where a mount
  and an adapter from ASGI to WSGI stand before it.
- Connexion: nothing, as its routers get copies; Flask's URL map or the routers of its AsyncApp are asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from web_prom.asgi.url_maps import UrlMap, find_url_map
from web_prom.metrics.exclusion import is_excluded
from web_prom.types import Scope

# As many routes are kept ready. No client can make one, but an application might.
_MOST = 10_000

_REDIRECTS = frozenset({"301", "302", "307", "308"})


class Found(NamedTuple):
    """A route.

    Attributes:
        template: In its framework's notation, with everything that stands before it.
        excluded: Whether its view bears the mark of :func:`web_prom.exclude`.
        owner: What it was found by, kept alive: nothing else gets its identity meanwhile.
        mount: The template of the path of a mount, where the route is that of a mounted application whose
            own routes are not known.
        inner: The URL map of that application, if it has one.
    """

    template: str
    excluded: bool
    owner: Any = None
    mount: str | None = None
    inner: UrlMap | None = None


class Routes:
    """Finds the route templates of the requests of one application.

    Keeps what it found by the routes themselves, so that one of a thousand costs what one alone does.
    Safe to share between threads.

    Args:
        app: The application.

    Attributes:
        app: The application of Flask or Quart that it is, or that it wraps; or None.
    """

    def __init__(self, app: Any = None) -> None:
        self._url_map = find_url_map(app)
        self._outer = app
        self.app = None if self._url_map is None else self._url_map.app
        self._known: dict[int, Found] = {}
        self._indexes: dict[int, _Index] = {}

    def resolve_route(self, recording: Any) -> None:
        """Set the route of a recording that has a ``scope``, and whether its view is measured."""
        scope = recording.scope
        route = scope.get("route")
        found: Found | None
        if route is not None and "app_root_path" not in scope:
            context = scope.get("fastapi")
            if context is not None:
                context = context.get("effective_route_context")
                if context is not None and context.original_route is route:
                    route = context
            try:
                found = self._known[id(route)]
            except KeyError:
                found = self._learn(route) or self._search(scope, recording.status)
        else:
            found = self._search(scope, recording.status)
        if found is None:
            found = self._search_inside(scope)
            if found is None:
                return
        template, excluded = found.template, found.excluded
        if found.inner is not None:
            matched = found.inner.find(scope if found.owner is not None else _unmounted(scope))
            if matched is None:
                return
            template, excluded = f"{found.mount}{matched[0]}", matched[1]
        recording.route = template
        if excluded:
            recording.measured = False

    def _search_inside(self, scope: Scope) -> Found | None:
        """Look further where the scope leads to nothing: the routers may have got a copy of it."""
        if self._url_map is not None:
            return Found("", excluded=False, mount="", inner=self._url_map)
        router = _router_of_connexion(self._outer)
        return None if router is None else _match(router.routes, {**_unmounted(scope), "fastapi": {}}, "")

    def mount_path(self, recording: Any) -> str:
        """Return the template of the path at which the application that serves a recording is mounted."""
        scope = getattr(recording, "scope", None)
        found = None if scope is None else self._search(scope, None)
        return "" if found is None or found.mount is None else found.mount

    def _learn(self, route: Any) -> Found | None:
        path = getattr(route, "path", None)
        if not isinstance(path, str) or not hasattr(route, "endpoint"):
            return None
        found = Found(_absolute(path), is_excluded(route.endpoint), route)
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[id(route)] = found
        return found

    def _search(self, scope: Scope, status: str | None) -> Found | None:
        if "litestar_app" in scope:
            return _litestar(scope, status)
        router = scope.get("router")
        routes = getattr(router, "routes", None)
        if not routes:
            return None
        index = self._indexes.get(id(router))
        if index is None or index.router is not router or index.size != len(routes):
            if len(self._indexes) >= _MOST:
                self._indexes.clear()
            index = self._indexes[id(router)] = _Index(router)
        return index.find(scope, status)


class _Index:
    """The routes of a router by their endpoints, through mounts and included routers."""

    def __init__(self, router: Any) -> None:
        self.router = router
        self.size = len(router.routes)
        self._by_endpoint: dict[int, list[Found]] = {}
        self._mounted: dict[int, Any] = {}
        for endpoint, found in _leaves(router.routes, ""):
            if found is None:
                self._mounted[id(endpoint)] = endpoint
            else:
                self._by_endpoint.setdefault(id(endpoint), []).append(found)

    def find(self, scope: Scope, status: str | None) -> Found | None:
        """Return the route of a scope that a router of Starlette has passed on, or None if it found none."""
        endpoint = scope.get("endpoint")
        if endpoint is None or id(endpoint) in self._mounted:
            # A router sends those whose path lacks a slash, or has one too many, to the route that it is.
            return self._walk(scope, _other_path(scope)) if status in _REDIRECTS else None
        known = self._by_endpoint.get(id(endpoint), ())
        if known and all(found.template == known[0].template for found in known):
            return known[0]
        # One view of several routes, or one that is not among them.
        return self._walk(scope, scope["path"])

    def _walk(self, scope: Scope, path: str) -> Found | None:
        """Match a path as the routers did, from the outermost on."""
        return _match(self.router.routes, {**_unmounted(scope), "path": path, "fastapi": {}}, "")


def _match(routes: Iterable[Any], scope: Scope, prefix: str) -> Found | None:
    partial = None
    for route in routes:
        if not hasattr(route, "matches"):
            continue
        match, child = route.matches(scope)
        if not match.value:
            continue
        inner = _inner_routes(route)
        if inner is None:
            leaf = _leaf(route, prefix)
            found = None if leaf is None else leaf[1]
        else:
            found = _match(inner, {**scope, **child}, prefix + _path(route))
        if match.name == "FULL":
            return found
        partial = partial or found
    return partial


def _leaves(routes: Iterable[Any], prefix: str) -> Iterator[tuple[Any, Found | None]]:
    """Give each endpoint with its route; a mounted application that has routes of its own with None."""
    for route in routes:
        inner = _inner_routes(route)
        if inner is None:
            leaf = _leaf(route, prefix)
            if leaf is not None:
                yield leaf
        else:
            yield from _leaves(inner, prefix + _path(route))
            mounted = getattr(_real(route), "app", None)
            if mounted is not None:
                yield mounted, None


def _inner_routes(route: Any) -> Any:
    """Return the routes below a mount, a host or an included router of FastAPI; None for a route itself."""
    candidates = getattr(route, "effective_candidates", None)
    return candidates() if candidates is not None else getattr(_real(route), "routes", None) or None


def _leaf(route: Any, prefix: str) -> tuple[Any, Found] | None:
    real = _real(route)
    path = getattr(real, "path", None)
    if not isinstance(path, str):
        return None
    endpoint = getattr(real, "endpoint", None)
    if endpoint is not None:
        return endpoint, Found(_absolute(prefix + path), is_excluded(endpoint), endpoint)
    mounted = getattr(real, "app", None)
    if mounted is None:
        return None
    # As Starlette writes the paths below a mount, whose application has no routes that it would show.
    template, mount = _absolute(f"{prefix}{path}/{{path:path}}"), f"{prefix}{path}"
    return mounted, Found(template, is_excluded(mounted), mounted, mount, find_url_map(mounted))


def _real(route: Any) -> Any:
    """Return the route with its whole path, where FastAPI has made one of what was included."""
    return getattr(route, "starlette_route", None) or route


def _path(route: Any) -> str:
    path = getattr(_real(route), "path", "")
    # FastAPI's included routers have no path; it is in what they include.
    return path if isinstance(path, str) and not hasattr(route, "effective_candidates") else ""


def _unmounted(scope: Scope) -> Scope:
    """Return a scope as it was before the first router."""
    return {**scope, "root_path": scope["app_root_path"]} if "app_root_path" in scope else scope


def _other_path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.rstrip("/") if path.endswith("/") else f"{path}/"


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"


def _router_of_connexion(app: Any) -> Any:
    """Return the router of the operations of Connexion's AsyncApp, which is made at the first connection."""
    for layer in getattr(getattr(app, "middleware", None), "middleware_stack", None) or ():
        if type(layer).__name__ == "RoutingMiddleware":
            return layer.router
    return None


def _litestar(scope: Scope, status: str | None) -> Found | None:
    handler, template = scope.get("route_handler"), scope.get("path_template")
    if handler is None:
        return _litestar_refusal(scope) if status == "405" else None
    if getattr(handler, "is_mount", False):
        path = min(handler.paths)
        return Found(_absolute(f"{path}/*"), is_excluded(getattr(handler, "fn", None)), mount=_absolute(path))
    return Found(_absolute(template or ""), is_excluded(getattr(handler, "fn", None)))


def _litestar_refusal(scope: Scope) -> Found | None:
    """Ask Litestar's router for the route whose method alone was wrong."""
    router = scope["litestar_app"].asgi_router
    path = f"/{scope['path'].removeprefix(scope.get('root_path', '')).strip('/')}"
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"):
        try:
            return Found(_absolute(router.handle_routing(path=path, method=method)[-1]), excluded=False)
        except Exception:  # noqa: S112 - Litestar's own; any other method may be the one
            continue
    return None
