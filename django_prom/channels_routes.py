"""Routes of Channels: of WebSockets and HTTP consumers behind a URLRouter."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import lru_cache, wraps
from importlib import import_module, metadata
from typing import Any

from django.urls.exceptions import Resolver404

from django_prom.patterns import chain_template
from web_prom.metrics.recording import RECORDING_KEY
from web_prom.metrics.routes import is_excluded
from web_prom.types import Receive, Scope, Send

logger = logging.getLogger("web_prom")

PATTERNS_KEY = "web_prom.patterns"
"""The key of the matched patterns of all outer routers in a scope, from the outermost to the innermost."""


def patch_url_router() -> None:
    """Patch Channels' URLRouter, if Channels is installed, so that its routes set the route of a recording.

    A URLRouter passes on a copy of the scope, without the pattern that matched, and other middlewares and
    routers may be around it. So code outside of it cannot find the route. Further calls change nothing.
    Never raises.
    """
    try:
        metadata.version("channels")  # a project can have its own package with this name
    except metadata.PackageNotFoundError:
        return
    try:
        router = import_module("channels.routing").URLRouter
        if not hasattr(router.__call__, "__wrapped__"):
            router.__call__ = _with_routes_recorded(router.__call__)
    except Exception:
        logger.warning("the routes of Channels are not known; set them with set_route", exc_info=True)


def _with_routes_recorded(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @wraps(original)
    async def call(self: Any, scope: Scope, receive: Receive, send: Send) -> Any:
        recording = scope.get(RECORDING_KEY)
        router = self if recording is None else _RecordedRouter(self, recording)
        return await original(router, scope, receive, send)

    return call


class _RecordedRouter:
    """A URLRouter for one connection. Its routes set the route of the recording."""

    def __init__(self, router: Any, recording: Any) -> None:
        self._router = router
        self.routes = [_RecordedRoute(route, recording) for route in router.routes]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._router, name)


class _RecordedRoute:
    """A route for one connection. All attributes except the callback are those of the original route."""

    def __init__(self, route: Any, recording: Any) -> None:
        self._route = route
        self._recording = recording

    def __getattr__(self, name: str) -> Any:
        return getattr(self._route, name)

    async def callback(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Set the route of the recording, then call the application of the route."""
        recording = self._recording
        before = recording.route, recording.measured
        self._set_route(scope)
        try:
            return await self._route.callback(scope, receive, send)
        except Resolver404:  # an inner router has no such route, so the outer router tries the next one
            if recording.explicit_route is None:
                recording.route, recording.measured = before
            raise

    def _set_route(self, scope: Scope) -> None:
        recording = self._recording
        try:
            pattern, application = self._route.pattern, self._route.callback
            consumer = getattr(application, "consumer_class", None)
            patterns = scope[PATTERNS_KEY] = (*scope.get(PATTERNS_KEY, ()), pattern)
            # A pattern that matches every path is not a route: the application behind it is usually Django.
            if recording.explicit_route is None and (consumer or not _matches_all(pattern)):
                recording.route = _template(patterns)
            if is_excluded(application) or is_excluded(consumer):
                recording.measured = False
        except Exception:
            recording.recorder.record_internal_error("annotate")


@lru_cache(maxsize=10_000)
def _matches_all(pattern: Any) -> bool:
    return pattern.match("\0") is not None


@lru_cache(maxsize=10_000)
def _template(patterns: tuple[Any, ...]) -> str:
    return chain_template(patterns, "")
