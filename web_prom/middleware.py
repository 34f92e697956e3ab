"""What the middlewares of WSGI and ASGI have in common: their settings, their recorder, their exposition."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry

from web_prom.config.settings import Config
from web_prom.errors import ConfigError
from web_prom.exposition.http import Exposition
from web_prom.exposition.scrape_context import ContextFactory
from web_prom.metrics.labels import sanitize_label_value
from web_prom.metrics.layers import State, affected_recordings, find_outer
from web_prom.metrics.recording import RECORDING_KEY, Recorder, Recording

RouteResolver = Callable[[Recording], None]


def set_route(environ: Mapping[str, Any], template: str) -> None:
    """Tell the route template of a request or a WebSocket that a middleware of ours measures.

    For applications without an adapter; at any time until the response body ends. Without it the route
    is ``_unmatched``: the path itself is never a label. Does nothing where nothing measures. The template
    is the whole route: the path of a mount is not put before it. It works in a WSGI application inside a
    measured ASGI application too.

    Args:
        environ: The WSGI environ, or the ASGI scope.
        template: Such as ``/users/<id>``; one of a list that no client can grow.
    """
    recording = environ.get(RECORDING_KEY)
    if recording is None and State.asgi and "REQUEST_METHOD" in environ:
        recording = find_outer(environ)  # type: ignore[arg-type]  # an environ can be written
    for each in affected_recordings(recording):
        each.route = each.explicit_route = sanitize_label_value(template)


def scrape_paths(path: str) -> tuple[str, ...]:
    """Return the paths at which an application answers scrapes: with a slash at the end and without one.

    Args:
        path: The setting; empty for an application that answers none.
    """
    base = path.rstrip("/")
    return (base, f"{base}/") if base else (path,) if path else ()


class Middleware:
    """A middleware's settings, and what is made of them once.

    Args:
        registry: Where the metrics are.
        config: Settings that are loaded already, or None for those of ``options`` and the environment.
        options: Settings by field name.
        resolve_route: Sets on a recording what only a framework knows.
        owner: The application's name, for messages.
        reserved: Label names that only this kind of application has in its families.
        scrape_context: Entered around each answer to a scrape (:mod:`web_prom.exposition.scrape_context`).

    Attributes:
        recorder: Observes the requests; only where the application is measured at all.

    Raises:
        TypeError: Settings are in both places.
        ConfigError: A setting is unknown or not allowed.
        ConflictError: The registry is used by an application with other settings.
        DirectoryError: PROMETHEUS_MULTIPROC_DIR cannot be used.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        config: Config | None,
        options: Mapping[str, Any],
        *,
        resolve_route: RouteResolver | None,
        owner: str,
        reserved: frozenset[str] = frozenset(),
        scrape_context: ContextFactory | None = None,
    ) -> None:
        if config is not None and options:
            raise TypeError(f"settings are in config or in options, not in both (not {', '.join(options)})")
        self._config = config or Config.load(options, environ=os.environ)
        for name in (*self._config.constant_labels, *self._config.extra_labels):
            if name in reserved:
                raise ConfigError(f"{owner} has a label {name!r} of its own; give yours another name")
        self._enabled = self._config.enabled
        if self._enabled:
            self.recorder = Recorder(self._config, registry, owner=owner, resolve_route=resolve_route)
            self._exposition = Exposition(registry, self._config, context=scrape_context)
            measured = (self._config.request_size, self._config.response_size, self._config.first_byte)
            self._sized = any(measured)
            self._prepares = self._sized or self._config.queue_time
