"""Measures the caches of the project (``PROM_CACHE``): each alias of ``CACHES``, in each thread and task."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.cache import caches

from django_prom import conf
from web_prom.cache import calls
from web_prom.cache.methods import Library, forget, measure, restore
from web_prom.cache.recorder import CacheRecorder, LazyRecorderSource

_RULES: dict[str, calls.Rule | calls.CallRule] = {
    "get": calls.Get(),
    "get_many": calls.GetMany(),
    "get_or_set": calls.GetOrSet(),
    "has_key": calls.HasKey(),
    "set": calls.Rule(),
    "set_many": calls.SetMany(),
    "add": calls.Rule(),
    "touch": calls.Touch(),
    "delete": calls.Rule(),
    "delete_many": calls.Rule(),
    "clear": calls.Rule(),
    "incr": calls.Change(),
    "decr": calls.Change(),
    "incr_version": calls.Change(),
    "decr_version": calls.Change(),
}

LIBRARY = Library(
    # The asynchronous twin of an operation counts as the operation.
    methods={prefix + name: (name, rule) for name, rule in _RULES.items() for prefix in ("", "a")},
    exact_modules=("django.core.cache.backends.",),
)
"""The operations of Django's caches."""


def _find_recorder() -> CacheRecorder | None:
    if not (conf.instrumentation.cache_info().currsize or conf.may_create_instrumentation()):
        return None
    instrumentation = conf.current_instrumentation()
    return None if instrumentation is None else CacheRecorder(instrumentation.recorder, _backend_of)


def _backend_of(alias: str) -> str:
    return str(settings.CACHES[alias]["BACKEND"])


_source = LazyRecorderSource(_find_recorder)


def install() -> None:
    """Measure the caches that exist, and each cache that is created from now on.

    ``caches`` creates a cache for each alias in each thread and, under ASGI, in each task.
    """
    _source.reset()
    vars(caches).setdefault("create_connection", _create_connection)
    for cache, alias in _existing():
        measure(cache, alias, _source, LIBRARY)


def uninstall() -> None:
    """Stop the measurement, and put Django's methods back."""
    if vars(caches).get("create_connection") is _create_connection:
        del caches.create_connection
    for cache, _alias in _existing():
        forget(cache)
    restore(LIBRARY)


def _create_connection(alias: str) -> Any:
    cache = type(caches).create_connection(caches, alias)
    try:
        measure(cache, alias, _source, LIBRARY)
    except Exception:
        recorder = _source.recorder()
        if recorder is not None:
            recorder.record_internal_error()
    return cache


def _existing() -> list[tuple[Any, str]]:
    """Return the caches that this thread or task has created."""
    found = ((getattr(caches._connections, alias, None), alias) for alias in caches)
    return [(cache, alias) for cache, alias in found if cache is not None]
