"""Routes of Starlette and FastAPI: an index by endpoint, through mounts and included routers."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import Any, NamedTuple

from web_prom.asgi.url_maps import UrlMap, find_url_map
from web_prom.metrics.routes import absolute_route, excluded_methods
from web_prom.types import Scope
from web_prom.wrapped_apps import iter_wrapped_apps

_REDIRECTS = frozenset({"301", "302", "307", "308"})


class RouteMatch(NamedTuple):
    """The route of a request.

    Attributes:
        template: The route template in its framework's notation, with all prefixes.
        excluded: The HTTP methods for which its view is marked by :func:`web_prom.exclude`.
        owner: The object whose id is the key of this match in a cache. The reference keeps the id unique.
        mount: The path template of a mount, if the match is a mounted application without visible routes.
        url_map: The URL map of that application, if it has one.
    """

    template: str
    excluded: Container[str]
    owner: Any = None
    mount: str | None = None
    url_map: UrlMap | None = None


class RouteIndex:
    """The routes of a router by their endpoints, through mounts and included routers.

    Args:
        router: The router of Starlette or FastAPI.

    Attributes:
        router: The router.
        size: The number of its routes when the index was built.
    """

    def __init__(self, router: Any) -> None:
        self.router = router
        self.size = len(router.routes)
        self._by_endpoint: dict[int, list[RouteMatch]] = {}
        self._mounted: dict[int, Any] = {}
        for endpoint, match in iter_endpoints(router.routes, ""):
            if match is None:
                self._mounted[id(endpoint)] = endpoint
            else:
                self._by_endpoint.setdefault(id(endpoint), []).append(match)

    def find(self, scope: Scope, status: str | None) -> RouteMatch | None:
        """Return the route of a scope after routing, or None if no route matched."""
        endpoint = scope.get("endpoint")
        if endpoint is None or id(endpoint) in self._mounted:
            # A router redirects a path that differs from a route only in the trailing slash.
            if status in _REDIRECTS:
                return self._match_path(scope, _toggle_slash(scope["path"]))
            # A middleware around a mounted application may answer itself, or pass on a copy of the scope.
            is_wrapped = endpoint is not None and not hasattr(endpoint, "routes")
            return self._match_path(scope, scope["path"]) if is_wrapped else None
        matches = self._by_endpoint.get(id(endpoint), ())
        if matches and all(match.template == matches[0].template for match in matches):
            return matches[0]
        # Several routes have this endpoint, or none that was indexed.
        return self._match_path(scope, scope["path"])

    def _match_path(self, scope: Scope, path: str) -> RouteMatch | None:
        """Match a path again as the routers did, from the outermost router on."""
        return match_routes(self.router.routes, {**before_routing(scope), "path": path, "fastapi": {}}, "")


def match_routes(routes: Iterable[Any], scope: Scope, prefix: str) -> RouteMatch | None:
    """Return the first route that matches a scope completely, or else the first that matches partially.

    A partial match has another method.

    Args:
        routes: Routes of Starlette, FastAPI or Connexion.
        scope: The scope before routing.
        prefix: The path templates of the mounts around these routes.
    """
    partial = None
    for route in routes:
        if not hasattr(route, "matches"):
            continue
        match, child_scope = route.matches(scope)
        if not match.value:
            continue
        inner = _inner_routes(route)
        if inner is None:
            endpoint = _endpoint_of(route, prefix)
            found = None if endpoint is None else endpoint[1]
        else:
            found = match_routes(inner, {**scope, **child_scope}, prefix + _path_of(route))
        if match.name == "FULL":
            return found
        partial = partial or found
    return partial


def iter_endpoints(routes: Iterable[Any], prefix: str) -> Iterator[tuple[Any, RouteMatch | None]]:
    """Yield each endpoint with its route, and each mounted application that has routes with None."""
    for route in routes:
        inner = _inner_routes(route)
        if inner is None:
            endpoint = _endpoint_of(route, prefix)
            if endpoint is not None:
                yield endpoint
        else:
            yield from iter_endpoints(inner, prefix + _path_of(route))
            mounted = getattr(unwrap_route(route), "app", None)
            if mounted is not None:
                yield mounted, None


def unwrap_route(route: Any) -> Any:
    """Return the Starlette route of an included FastAPI route, with its complete path; else the route."""
    return getattr(route, "starlette_route", None) or route


def before_routing(scope: Scope) -> Scope:
    """Return a scope as it was before the first router."""
    return {**scope, "root_path": scope["app_root_path"]} if "app_root_path" in scope else scope


def _inner_routes(route: Any) -> Any:
    """Return the routes of a mount, a host or an included router of FastAPI; None for a single route.

    A mounted application may be wrapped in middlewares.
    """
    candidates = getattr(route, "effective_candidates", None)
    if candidates is not None:
        return candidates()
    mount = unwrap_route(route)
    if hasattr(mount, "endpoint"):
        return None
    for owner in (mount, *iter_wrapped_apps(getattr(mount, "app", None))):
        routes = getattr(owner, "routes", None)
        # The routes of other frameworks cannot match a scope.
        if isinstance(routes, list | tuple) and any(hasattr(each, "matches") for each in routes):
            return routes
    return None


def _endpoint_of(route: Any, prefix: str) -> tuple[Any, RouteMatch] | None:
    """Return the endpoint of a route, or the application of a mount, with its match; or None."""
    unwrapped = unwrap_route(route)
    path = getattr(unwrapped, "path", None)
    if not isinstance(path, str):
        return None
    endpoint = getattr(unwrapped, "endpoint", None)
    if endpoint is not None:
        return endpoint, RouteMatch(absolute_route(prefix + path), excluded_methods(endpoint), endpoint)
    mounted = getattr(unwrapped, "app", None)
    if mounted is None:
        return None
    # In Starlette's notation for the paths below a mount.
    template, mount = absolute_route(f"{prefix}{path}/{{path:path}}"), f"{prefix}{path}"
    return mounted, RouteMatch(template, excluded_methods(mounted), mounted, mount, find_url_map(mounted))


def _path_of(route: Any) -> str:
    """Return the path of a mount; empty for an included router of FastAPI, whose routes have its prefix."""
    path = getattr(unwrap_route(route), "path", "")
    return path if isinstance(path, str) and not hasattr(route, "effective_candidates") else ""


def _toggle_slash(path: str) -> str:
    return path.rstrip("/") if path.endswith("/") else f"{path}/"
