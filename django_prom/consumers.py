"""The routes of Channels: of WebSockets and of HTTP consumers behind a URLRouter."""

from __future__ import annotations

import logging
from functools import lru_cache, wraps
from importlib import import_module, metadata
from typing import Any

from django.urls.exceptions import Resolver404

from django_prom.patterns import template
from web_prom.metrics.recording import RECORDING_KEY
from web_prom.metrics.routes import is_excluded

logger = logging.getLogger("web_prom")

PATTERNS = "web_prom.patterns"
"""Where the patterns that the routers around have matched are in a scope, from the outermost on."""


def connect() -> None:
    """Have Channels' URLRouter tell its routes, if Channels is installed; any number of times. Never raises.

    A URLRouter hands on a copy of the scope, without the pattern that matched, and middlewares and other
    routers may stand around it. So nothing outside of it can know the route.
    """
    try:
        metadata.version("channels")  # a project can have a package of its own with this name
    except metadata.PackageNotFoundError:
        return
    try:
        router = import_module("channels.routing").URLRouter
        if not hasattr(router.__call__, "__wrapped__"):
            router.__call__ = _telling(router.__call__)
    except Exception:
        logger.warning("the routes of Channels are not known; name them with set_route", exc_info=True)


def _telling(original: Any) -> Any:
    @wraps(original)
    async def call(self: Any, scope: Any, receive: Any, send: Any) -> Any:
        recording = scope.get(RECORDING_KEY)
        router = self if recording is None else _Router(self, recording)
        return await original(router, scope, receive, send)

    return call


class _Router:
    """A URLRouter for one connection, whose routes tell the recording that they matched."""

    def __init__(self, router: Any, recording: Any) -> None:
        self._router = router
        self.routes = [_Route(route, recording) for route in router.routes]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._router, name)


class _Route:
    """A route for one connection: all but the callback is that of the route itself."""

    def __init__(self, route: Any, recording: Any) -> None:
        self._route = route
        self._recording = recording

    def __getattr__(self, name: str) -> Any:
        return getattr(self._route, name)

    async def callback(self, scope: Any, receive: Any, send: Any) -> Any:
        """Tell the recording, then call the route's application."""
        recording = self._recording
        before = recording.route, recording.measured
        self._tell(scope)
        try:
            return await self._route.callback(scope, receive, send)
        except Resolver404:  # a router below has no such route: the router above tries the next one
            if recording.explicit_route is None:
                recording.route, recording.measured = before
            raise

    def _tell(self, scope: Any) -> None:
        recording = self._recording
        try:
            pattern, application = self._route.pattern, self._route.callback
            consumer = getattr(application, "consumer_class", None)
            patterns = scope[PATTERNS] = (*scope.get(PATTERNS, ()), pattern)
            # A pattern that takes every path is no route of the application behind it, usually Django.
            if recording.explicit_route is None and (consumer or not _takes_all(pattern)):
                recording.route = _template(patterns)
            if is_excluded(application) or is_excluded(consumer):
                recording.measured = False
        except Exception:
            recording.recorder.record_internal_error("annotate")


@lru_cache(maxsize=10_000)
def _takes_all(pattern: Any) -> bool:
    return pattern.match("\0") is not None


@lru_cache(maxsize=10_000)
def _template(patterns: tuple[Any, ...]) -> str:
    return template(patterns, "")
