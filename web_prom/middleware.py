"""The base of the WSGI and the ASGI middleware: settings, recorder and exposition."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from prometheus_client import CollectorRegistry

from web_prom.config.settings import Config
from web_prom.errors import ConfigError
from web_prom.exposition.http import Exposition
from web_prom.exposition.scrape_context import ContextFactory
from web_prom.hooks import ExtraLabel, RouteResolver
from web_prom.metrics.labels import sanitize_label_value
from web_prom.metrics.layers import affected_recordings, find_outer, measured_protocols
from web_prom.metrics.recorder import Recorder
from web_prom.metrics.recording import RECORDING_KEY, Recording

if TYPE_CHECKING:
    from web_prom.live.mount import LiveMount

RecordingType = TypeVar("RecordingType", bound=Recording)


def set_route(environ: Mapping[str, Any], template: str) -> None:
    """Set the route template of the current request or WebSocket.

    For applications without an adapter. Call it at any time until the response body ends. Without it, the
    route is ``_unmatched``, because the path itself is never a label value. If no middleware measures the
    request, nothing happens. The template must be the whole route: the path of a mount is not added. It also
    works in a WSGI application inside a measured ASGI application.

    Args:
        environ: The WSGI environ, or the ASGI scope.
        template: The route template (``/users/<id>``). The number of templates must not depend on clients.
    """
    recording = environ.get(RECORDING_KEY)
    if recording is None and measured_protocols.asgi and "REQUEST_METHOD" in environ:
        recording = find_outer(environ)  # type: ignore[arg-type]  # an environ is mutable
    for each in affected_recordings(recording):
        each.route = each.explicit_route = sanitize_label_value(template)


def scrape_paths(path: str) -> tuple[str, ...]:
    """Return the paths at which an application answers scrapes: with and without a trailing slash.

    Args:
        path: The setting ``path``; empty for an application that answers no scrapes.
    """
    base = path.rstrip("/")
    return (base, f"{base}/") if base else (path,) if path else ()


class Middleware:
    """The settings of a middleware, its recorder and its exposition.

    Args:
        registry: The registry of the metrics.
        config: Settings that are already loaded, or None for those of ``options`` and the environment.
        options: Settings by field name.
        resolve_route: Sets the route of a recording, in the framework's terms.
        owner: The application's name, for messages.
        reserved: Names of labels that only metrics of this protocol have.
        scrape_context: Entered around each response to a scrape (:mod:`web_prom.exposition.scrape_context`).
        attribute_getters: As those of :class:`web_prom.metrics.recorder.Recorder`.
        is_debug: Returns whether the application is debugged. Then the live page needs no access control.

    Attributes:
        recorder: Records the requests. It exists only if the setting ``enabled`` is true.

    Raises:
        TypeError: Settings are in both places.
        ConfigError: A setting is unknown or not allowed.
        ConflictError: An application with other settings uses the registry.
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
        attribute_getters: Mapping[str, ExtraLabel] = MappingProxyType({}),
        is_debug: Callable[[], bool] = lambda: False,
    ) -> None:
        if config is not None and options:
            raise TypeError(f"settings are in config or in options, not in both; remove {', '.join(options)}")
        self._config = config or Config.load(options, environ=os.environ)
        for name in (*self._config.constant_labels, *self._config.extra_labels):
            if name in reserved:
                raise ConfigError(f"{owner} already has a label {name!r}; choose another name for yours")
        self._enabled = self._config.enabled
        if self._enabled:
            self.recorder = Recorder(
                self._config,
                registry,
                owner=owner,
                resolve_route=resolve_route,
                attribute_getters=attribute_getters,
            )
            self._exposition = Exposition(registry, self._config, context=scrape_context)
            self._live: LiveMount | None = None
            if self._config.live:
                from web_prom.live.mount import LiveMount

                self._live = LiveMount(self._exposition, self._config, owner, is_debug=is_debug)
            self._measures_sizes = self.recorder.measures_sizes
            if self._config.database:
                from web_prom.database.activation import activate
                from web_prom.database.sqlalchemy_hooks import instrument_all

                activate(self.recorder)
                instrument_all()
            if self._config.http_client:
                from web_prom.http_client import activation

                self._call_recorder = activation.activate(self.recorder)

    def _answered_paths(self, scrapes: tuple[str, ...]) -> Collection[str]:
        """Return the paths that this middleware answers: those of scrapes, and those of the live page."""
        return scrapes if self._live is None else self._live.paths.union(scrapes)

    def _recording_class(self, kind: type[RecordingType]) -> type[RecordingType]:
        """Return the class of the recordings, which also counts queries if ``PROM_DATABASE`` is on."""
        if not self._config.database:
            return kind
        from web_prom.metrics.query_recording import with_queries

        return with_queries(kind)
