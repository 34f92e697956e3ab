"""The routes of Django requests, and the paths of scrapes."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import Resolver404, ResolverMatch, get_resolver, get_script_prefix
from django.utils import translation

from django_prom import conf
from django_prom.mounts import find_mounts, is_live_page_at, is_mounted_at
from django_prom.patterns import chain_template, template_of_text
from web_prom.metrics.routes import excluded_methods

# Some resolvers create new patterns for each request, so the cache is limited.
_MAX_CACHED_ROUTES = 10_000


@dataclass(frozen=True, slots=True)
class Route:
    """The route of a resolved URL.

    Attributes:
        template: The route template.
        excluded: The HTTP methods that the view excludes from the metrics.
    """

    template: str
    excluded: Container[str]


# By the text of the route and the view. All threads share it without a lock: a second thread that adds the
# same key adds an equal value.
route_cache: dict[tuple[str, Any], Route] = {}


def reset() -> None:
    """Clear the caches that depend on settings."""
    route_cache.clear()
    find_mounts.cache_clear()


def find_route(request: HttpRequest, response: HttpResponseBase | None) -> Route | None:
    """Return the route of a request, or None if there is none.

    Args:
        request: Django's request, after its response was created.
        response: The response, or None if the request ended with an exception.
    """
    match = request.resolver_match
    if match is None:
        # After a 404, Django has resolved the URL in vain. Otherwise a middleware answered before it.
        if response is None or response.status_code == 404:
            return None
        if type(response).__name__ == "WhiteNoiseFileResponse":
            return _static_file_route(request.path_info)
        match = _resolve_early_response(request, response)
        if match is None:
            return None
    key = (match.route, match.func)
    try:
        route = route_cache.get(key)
    except Exception:  # a view without a hash, for example an object of a dataclass
        return _route_of_match(match)
    if route is None:
        route = _route_of_match(match)
        if len(route_cache) < _MAX_CACHED_ROUTES:
            route_cache[key] = route
    return route


def is_metrics_path(request: HttpRequest) -> bool:
    """Return whether a request is a scrape of the project, or one of its live page. Never raises."""
    try:
        urlconf = getattr(request, "urlconf", None) or settings.ROOT_URLCONF
        path = request.path_info
        return is_mounted_at(urlconf, path) or (conf.is_on("live") and is_live_page_at(urlconf, path))
    except Exception:
        return False  # the URLs cannot be imported, and Django reports that when it resolves the URL


def _route_of_match(match: ResolverMatch) -> Route:
    view = match.func
    while isinstance(view, partial):
        view = view.func
    # The last entry is the chain that matched: the resolvers from the outermost one, then the pattern.
    chain = match.tried[-1] if match.tried else ()
    if chain and getattr(chain[-1], "callback", None) is match.func:
        return Route(chain_template([each.pattern for each in chain], match.route), excluded_methods(view))
    return Route(template_of_text(match.route), excluded_methods(view))


def _static_file_route(path: str) -> Route:
    """Return the route of a file that WhiteNoise serves. All files have one route, so there is one series."""
    prefix = getattr(settings, "WHITENOISE_STATIC_PREFIX", None) or urlsplit(settings.STATIC_URL or "").path
    prefix = prefix.removeprefix(get_script_prefix().rstrip("/"))
    prefix = f"/{prefix.strip('/')}/" if prefix.strip("/") else "/"
    return Route(f"{prefix}*" if path.startswith(prefix) else "/*", excluded=())


def _resolve_early_response(request: HttpRequest, response: HttpResponseBase) -> ResolverMatch | None:
    """Resolve the URL of a request that a middleware answered before Django resolved it."""
    found = _resolve(request, request.path_info)
    if found is None and 300 <= response.status_code < 400:
        target = unquote(urlsplit(response.get("Location", "")).path)
        target = "/" + target.removeprefix(get_script_prefix())
        # A redirect that only adds a slash or a language prefix has the route of its target.
        language = translation.get_language_from_path(target)
        variants = {f"{prefix}{request.path_info}" for prefix in ("", f"/{language}")}
        if target in variants or target.removesuffix("/") in variants:
            found = _resolve(request, target)
    return found


def _resolve(request: HttpRequest, path: str) -> ResolverMatch | None:
    try:
        return get_resolver(getattr(request, "urlconf", None)).resolve(path)
    except Resolver404:
        return None
