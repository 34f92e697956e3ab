"""Locks of prometheus_client, freed in a forked child: it lacks the thread that held one in the parent."""

from __future__ import annotations

import _thread
import functools
from typing import Any
from weakref import WeakSet

from prometheus_client import REGISTRY

from web_prom.posix import at_fork

_registries: WeakSet[Any] = WeakSet()
_had_threads = True


def free_locks_in_forks(*registries: Any) -> None:
    """Free the locks of these registries and of the default one, and of all their instruments, in each child.

    Without it a child that was forked while another thread was in ``labels()``, ``inc()``, ``register()``
    or a scrape would wait for ever at its next use of the same. It costs nothing in a process without
    threads. Where a server forks without Python's hooks (uWSGI by default), nothing is freed.

    Safe to call from any thread, any number of times.
    """
    _registries.update((REGISTRY, *registries))
    _register()


@functools.cache
def _register() -> None:
    at_fork(before=_look, after_in_child=_free)


def _look() -> None:
    global _had_threads  # noqa: PLW0603 - one process forks once at a time, under the interpreter's lock
    _had_threads = _thread._count() > 0


def _free() -> None:
    for registry in list(_registries) if _had_threads else ():
        free(registry)


def free(registry: Any) -> None:
    """Free the locks of a registry, its instruments, their children and the values of those."""
    _reset(registry)
    for collector in list(getattr(registry, "_collector_to_names", ())):
        _reset(collector)
        children = getattr(collector, "_metrics", None)
        for child in list(children.values()) if isinstance(children, dict) else ():
            _reset(child)
            _reset_values(child)
        _reset_values(collector)


def _reset_values(child: Any) -> None:
    for name in ("_value", "_count", "_sum"):
        _reset(getattr(child, name, None))
    buckets = getattr(child, "_buckets", None)
    for bucket in buckets if isinstance(buckets, list) else ():
        _reset(bucket)


def _reset(owner: Any) -> None:
    lock: Any = getattr(owner, "_lock", None)
    if hasattr(lock, "_at_fork_reinit"):
        lock._at_fork_reinit()
