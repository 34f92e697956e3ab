"""From Django's URL resolution to the route label, and whether a request is one for metrics."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.urls import Resolver404, get_resolver, get_script_prefix
from django.utils import translation

from django_prom.mounts import is_mounted_at, mounts
from django_prom.patterns import guess, template
from web_prom.metrics.routes import is_excluded

# Resolvers that make their patterns anew for each request must not fill the memory.
_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Route:
    """What a resolved URL means to the metrics.

    Attributes:
        template: The route template.
        excluded: Whether the view is not measured.
    """

    template: str
    excluded: bool


# By the route's text and the view. Shared by all threads: each entry is what anybody would put there.
known: dict[tuple[str, Any], Route] = {}


def reset() -> None:
    """Forget what depends on settings."""
    known.clear()
    mounts.cache_clear()


def find(request: Any, response: Any) -> Route | None:
    """Return the route of a request, or None if there is none.

    Args:
        request: Django's request, after its response was made.
        response: The response, or None where there is none.
    """
    match = request.resolver_match
    if match is None:
        # Where nothing matched, Django has tried already. Otherwise a middleware answered before it did.
        if response is None or response.status_code == 404:
            return None
        if type(response).__name__ == "WhiteNoiseFileResponse":
            return _static_files(request.path_info)
        match = _match_early(request, response)
        if match is None:
            return None
    key = (match.route, match.func)
    route = known.get(key)
    if route is None:
        route = _route(match)
        if len(known) < _MOST:
            known[key] = route
    return route


def is_metrics_path(request: Any) -> bool:
    """Tell whether a request asks for the project's metrics. Never raises."""
    try:
        urlconf = getattr(request, "urlconf", None) or settings.ROOT_URLCONF
        return is_mounted_at(urlconf, request.path_info)
    except Exception:
        return False  # the URLs cannot be imported, which Django itself is about to tell


def metrics_path(urlconf: Any) -> str | None:
    """Return the first path below the script's own at which metrics are mounted, or None if there is none.

    Raises:
        Exception: The URLs cannot be imported.
    """
    paths = mounts(urlconf).paths
    return paths[0] if paths else None


def _route(match: Any) -> Route:
    view = match.func
    while isinstance(view, partial):
        view = view.func
    # The last that was tried is what matched: the resolvers from the outermost on, then the pattern.
    chain = match.tried[-1] if match.tried else ()
    if chain and getattr(chain[-1], "callback", None) is match.func:
        return Route(template([each.pattern for each in chain], match.route), is_excluded(view))
    return Route(guess(match.route), is_excluded(view))


def _static_files(path: str) -> Route:
    """Return the route of a file that WhiteNoise serves: one for all, so that files do not make series."""
    prefix = getattr(settings, "WHITENOISE_STATIC_PREFIX", None) or urlsplit(settings.STATIC_URL or "").path
    prefix = prefix.removeprefix(get_script_prefix().rstrip("/"))
    prefix = f"/{prefix.strip('/')}/" if prefix.strip("/") else "/"
    return Route(f"{prefix}*" if path.startswith(prefix) else "/*", excluded=False)


def _match_early(request: Any, response: Any) -> Any:
    """Resolve the URL of a request that a middleware answered."""
    found = _resolve(request, request.path_info)
    if found is None and 300 <= response.status_code < 400:
        target = unquote(urlsplit(response.get("Location", "")).path)
        target = "/" + target.removeprefix(get_script_prefix())
        # Redirects to the canonical URL, with its slash or its language, are that route's.
        language = translation.get_language_from_path(target)
        same = {f"{prefix}{request.path_info}" for prefix in ("", f"/{language}")}
        if target in same or target.removesuffix("/") in same:
            found = _resolve(request, target)
    return found


def _resolve(request: Any, path: str) -> Any:
    try:
        return get_resolver(getattr(request, "urlconf", None)).resolve(path)
    except Resolver404:
        return None
