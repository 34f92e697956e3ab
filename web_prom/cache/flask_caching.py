"""Flask-Caching: the backends of an application, or a single one.

It is imported when it is asked for. It imports Flask-Caching only to check the type of an argument.
"""

from __future__ import annotations

import os
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry

from web_prom.cache import calls
from web_prom.cache.methods import Library, forget, is_known, measure, source_of
from web_prom.cache.recorder import CacheRecorder, RecorderSource
from web_prom.config.settings import Config
from web_prom.metrics.families import existing_families
from web_prom.metrics.recorder import Recorder
from web_prom.upstream.registry import check_registry

LIBRARY = Library(
    methods={
        "get": ("get", calls.GetValue()),
        "get_many": ("get_many", calls.GetValues()),
        "get_dict": ("get_many", calls.GetValues()),
        "has": ("has_key", calls.HasKey()),
        "set": ("set", calls.Set()),
        "set_many": ("set_many", calls.Rule()),
        "add": ("add", calls.Rule()),
        "delete": ("delete", calls.Rule()),
        "delete_many": ("delete_many", calls.Rule()),
        "unlink": ("delete_many", calls.Rule()),
        "clear": ("clear", calls.Rule()),
        "inc": ("incr", calls.Rule()),
        "dec": ("decr", calls.Rule()),
    },
)
"""The operations of the backends, by the names that Django has for them."""

_RECORDER = "web_prom_cache"
"""The key of the recorder in the ``extensions`` of an application."""

_own_recorders: list[CacheRecorder] = []
"""The recorders that :func:`instrument` created, for programs without an application."""


def measure_application(app: Any, recorder: Recorder) -> None:
    """Measure the backends that an application of Flask has now. Further calls add what came since.

    Args:
        app: The application. It keeps the recorder of its caches.
        recorder: The recorder of the application.
    """
    caches = app.extensions.get(_RECORDER)
    if caches is None:
        caches = app.extensions[_RECORDER] = CacheRecorder(recorder)
    for backend in _backends(app).values():
        if not is_known(backend):
            measure(backend, type(backend).__name__, RecorderSource(caches), LIBRARY)


def instrument(cache: Any, *, name: str | None = None, registry: CollectorRegistry | None = None) -> None:
    """Measure one cache of Flask-Caching, or one backend.

    It is not needed where an application has ``PROM_CACHE`` on. It is for other programs, for example a
    worker of a task queue, and gives a cache a name. A second call replaces the name and the registry.

    Args:
        cache: A ``flask_caching.Cache``, after its ``init_app()``, or a backend. If one ``Cache`` serves
            several applications, it is the backend of the current application.
        name: The value of the label ``cache``. If it is omitted, it is the name of the backend's class.
        registry: The registry of the metrics. If it is omitted, it is that of the cache's application, if
            ``PROM_CACHE`` is on there. Otherwise it is prometheus_client's default registry, with the
            settings of the environment.

    Raises:
        TypeError: The object is not a cache of Flask-Caching, or ``registry`` is not a registry.
        WebPromError: A setting is not allowed, or another application uses the registry with other settings.
    """
    backend = _find_backend(cache)
    source = source_of(backend) if registry is None else None
    if source is None:
        caches = _recorder_of_application(cache, backend) if registry is None else None
        source = RecorderSource(caches or _recorder_for(REGISTRY if registry is None else registry))
    measure(backend, type(backend).__name__ if name is None else name, source, LIBRARY)


def uninstrument(cache: Any) -> None:
    """Stop to measure one cache, also where the caches of an application are measured.

    Args:
        cache: As for :func:`instrument`.

    Raises:
        TypeError: The object is not a cache of Flask-Caching.
    """
    forget(_find_backend(cache))


def _find_backend(cache: Any) -> Any:
    from cachelib.base import BaseCache
    from flask_caching import Cache

    if isinstance(cache, Cache):
        return cache.cache
    if not isinstance(cache, BaseCache):
        raise TypeError(f"{cache!r} is not a Cache or a backend of Flask-Caching")
    return cache


def _recorder_of_application(cache: Any, backend: Any) -> CacheRecorder | None:
    """Return the recorder of the application for which a cache was initialised last, or None."""
    app = getattr(cache, "app", None)
    if app is None or _backends(app).get(cache) is not backend:
        return None
    found = app.extensions.get(_RECORDER)
    return found if isinstance(found, CacheRecorder) else None


def _backends(app: Any) -> dict[Any, Any]:
    """Return the backends of an application by the objects of the extension."""
    found = app.extensions.get("cache")
    return found if isinstance(found, dict) else {}


def _recorder_for(registry: CollectorRegistry) -> CacheRecorder:
    check_registry(registry, "collect", "register")
    for known in _own_recorders:
        if known.recorder.registry is registry:
            return known
    families = existing_families(registry)
    config = Config.load(environ=os.environ) if families is None else families.config
    caches = CacheRecorder(Recorder(config, registry, owner="web_prom.cache.instrument"))
    _own_recorders.append(caches)
    return caches
